-- Settings and properties of the database `content` itself, run last. A copy made by the guide's commands lacks them;
-- nothing of it may get into the way of a backup or of comparing.
ALTER DATABASE content SET DateStyle = 'German';
ALTER DATABASE content SET IntervalStyle = 'sql_standard';
ALTER DATABASE content SET TimeZone = 'Asia/Kathmandu';
ALTER DATABASE content SET bytea_output = 'escape';
ALTER DATABASE content SET extra_float_digits = -5;
ALTER DATABASE content SET search_path = identifiers, types;
ALTER DATABASE content SET standard_conforming_strings = off;
ALTER DATABASE content SET statement_timeout = '500ms';
ALTER DATABASE content SET client_encoding = 'LATIN1';
ALTER DATABASE content SET row_security = off;
ALTER DATABASE content SET default_transaction_read_only = on;
ALTER ROLE content_reader IN DATABASE content SET work_mem = '7MB';
ALTER DATABASE content CONNECTION LIMIT 17;
COMMENT ON DATABASE content IS E'it''s\na "comment" 🐘';
REVOKE TEMPORARY ON DATABASE content FROM PUBLIC;
GRANT CREATE ON DATABASE content TO content_writer;
