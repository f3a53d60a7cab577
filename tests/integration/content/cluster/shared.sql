-- What all databases of a server share, and the other files need. Run once, before them.
CREATE ROLE content_owner NOLOGIN;
CREATE ROLE content_clerk NOLOGIN;
CREATE ROLE content_reader LOGIN;
CREATE ROLE content_writer NOLOGIN CREATEDB CONNECTION LIMIT 3;
CREATE ROLE "content ""odd"" role" NOLOGIN;
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE content_space LOCATION '';
