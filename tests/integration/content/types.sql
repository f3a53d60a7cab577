-- Types, and all that is made from them: operators, casts, aggregates, text search, collations, statistics.
CREATE SCHEMA types;
SET search_path = types;

CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "fine"');
ALTER TYPE mood ADD VALUE 'between' BEFORE 'ok';
ALTER TYPE mood RENAME VALUE 'sad' TO 'very sad';
CREATE TYPE empty_enum AS ENUM ();
CREATE COLLATION german (provider = libc, locale = 'C');
CREATE DOMAIN email AS text COLLATE german DEFAULT 'a@b' NOT NULL CHECK (VALUE LIKE '%@%');
CREATE DOMAIN small AS int CONSTRAINT below_ten CHECK (VALUE < 10);
CREATE DOMAIN smaller AS small CHECK (VALUE < 5);
CREATE TYPE address AS (street text, number int, "zip code" varchar(10) COLLATE "C");
CREATE TYPE nested AS (home address, work address[], mood mood);
ALTER TYPE address DROP ATTRIBUTE number, ADD ATTRIBUTE city text;
CREATE TYPE span;
CREATE FUNCTION distance(a float8, b float8) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT a - b';
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = types.distance, multirange_type_name = spans);

CREATE TABLE holder (
    id int PRIMARY KEY, m mood, e email, s smaller, a address, n nested, r span, rs spans, ms mood[], g int[][]
);
INSERT INTO holder VALUES
    (1, 'very sad', 'x@y', 4, ('st, "r"', '1', 'c'), (('a', NULL, ''), ARRAY[('b', 'c', 'd')::address, NULL], 'between'),
     '[1,2)', '{[1,2),(3,4]}', '{ok,NULL,"it''s \"fine\""}', '{{1,2},{3,4}}'),
    (2, NULL, '@', NULL, NULL, NULL, 'empty', '{}', '{}', '[2:3]={5,6}');
CREATE INDEX ON holder USING gist (r);
CREATE TABLE of_type OF address (street WITH OPTIONS PRIMARY KEY);
INSERT INTO of_type VALUES ('s', '1', 'c');

CREATE FUNCTION mood_before(mood, mood) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 < $2';
CREATE OPERATOR <<< (LEFTARG = mood, RIGHTARG = mood, FUNCTION = mood_before, COMMUTATOR = >>>);
CREATE OPERATOR >>> (LEFTARG = mood, RIGHTARG = mood, FUNCTION = mood_before, COMMUTATOR = <<<);
CREATE OPERATOR FAMILY weekdays USING btree;
CREATE FUNCTION by_last_digit(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($1 % 10, $2 % 10)';
CREATE FUNCTION last_digit_lt(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 % 10 < $2 % 10';
CREATE OPERATOR <# (LEFTARG = int, RIGHTARG = int, FUNCTION = last_digit_lt);
CREATE OPERATOR CLASS last_digit FOR TYPE int USING btree FAMILY weekdays AS
    OPERATOR 1 <#, FUNCTION 1 by_last_digit(int, int);
CREATE FUNCTION mood_number(mood) RETURNS int LANGUAGE sql IMMUTABLE AS
    $$SELECT array_position(enum_range(NULL::types.mood), $1)$$;
CREATE CAST (mood AS int) WITH FUNCTION mood_number(mood) AS ASSIGNMENT;
CREATE CAST (address AS text) WITH INOUT;
CREATE AGGREGATE product (float8) (SFUNC = float8mul, STYPE = float8, INITCOND = '1');
CREATE PROCEDURE doing_nothing(INOUT x int DEFAULT 7) LANGUAGE plpgsql AS $x$BEGIN x := x; END$x$;
CREATE FUNCTION every_option(VARIADIC rest text[] DEFAULT '{}') RETURNS TABLE (one text, two int) LANGUAGE plpgsql
    STABLE STRICT LEAKPROOF PARALLEL SAFE SECURITY DEFINER COST 7 ROWS 13 SET work_mem = '8MB' SET search_path = types, pg_temp
    AS $b$BEGIN RETURN QUERY SELECT r, 1 FROM unnest(rest) AS r; END$b$;
CREATE FUNCTION sql_body(a int) RETURNS int LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT a + 1; SELECT a + 2; END;
CREATE FUNCTION overloaded(int) RETURNS text LANGUAGE sql AS $$SELECT 'int'$$;
CREATE FUNCTION overloaded(text) RETURNS text LANGUAGE sql AS $$SELECT 'text'$$;
CREATE CONVERSION own_conversion FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;

CREATE TEXT SEARCH DICTIONARY plain (TEMPLATE = simple, StopWords = 'english');
CREATE TEXT SEARCH CONFIGURATION own (COPY = english);
ALTER TEXT SEARCH CONFIGURATION own ALTER MAPPING FOR asciiword WITH plain, english_stem;
ALTER TEXT SEARCH CONFIGURATION own DROP MAPPING FOR email;
CREATE TABLE documents (body text, found tsvector GENERATED ALWAYS AS (to_tsvector('types.own', body)) STORED);
INSERT INTO documents VALUES ('The quick brown foxes'), (''), (NULL), ('it''s \ a:1 "b"');
CREATE INDEX ON documents USING gin (found);

CREATE TABLE measured (a int, b int, c text);
INSERT INTO measured SELECT n % 10, n % 5, n::text FROM generate_series(1, 1000) AS n;
CREATE STATISTICS both_ways (ndistinct, dependencies, mcv) ON a, b FROM measured;
CREATE STATISTICS of_expression ON (a + b), lower(c) FROM measured;
ALTER STATISTICS both_ways SET STATISTICS 77;
ALTER TABLE measured ALTER COLUMN a SET STATISTICS 500, ALTER COLUMN b SET (n_distinct = -0.5);
