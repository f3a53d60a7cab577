-- Owners, grants of every kind, grants passed on, default privileges.
CREATE SCHEMA privileges AUTHORIZATION content_owner;
GRANT USAGE ON SCHEMA privileges TO content_reader, content_writer WITH GRANT OPTION;
GRANT USAGE ON SCHEMA privileges TO PUBLIC;
SET search_path = privileges;

CREATE TABLE people (id int, name text, salary numeric);
INSERT INTO people VALUES (1, 'one', 1), (2, 'two', 2);
ALTER TABLE people OWNER TO content_owner;
GRANT SELECT ON people TO content_reader WITH GRANT OPTION;
GRANT SELECT (name), UPDATE (name, id) ON people TO content_writer;
GRANT REFERENCES (id) ON people TO content_writer WITH GRANT OPTION;
SET ROLE content_reader;
GRANT SELECT ON privileges.people TO "content ""odd"" role";
RESET ROLE;
CREATE TABLE nobody_may (v int);
ALTER TABLE nobody_may OWNER TO content_owner;
REVOKE ALL ON nobody_may FROM content_owner;
CREATE TABLE granted_and_taken_back (v int);
GRANT SELECT ON granted_and_taken_back TO content_reader;
REVOKE SELECT ON granted_and_taken_back FROM content_reader;
CREATE TABLE owned_by_odd (v int);
ALTER TABLE owned_by_odd OWNER TO "content ""odd"" role";

CREATE SEQUENCE numbers OWNED BY NONE;
GRANT USAGE, SELECT ON SEQUENCE numbers TO content_writer;
CREATE VIEW names AS SELECT name FROM people;
ALTER VIEW names OWNER TO content_owner;
GRANT ALL ON names TO content_reader;
CREATE FUNCTION guarded() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
REVOKE ALL ON FUNCTION guarded() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION guarded() TO content_reader WITH GRANT OPTION;
CREATE TYPE kind AS ENUM ('a');
REVOKE USAGE ON TYPE kind FROM PUBLIC;
GRANT USAGE ON TYPE kind TO content_writer;
ALTER TYPE kind OWNER TO content_owner;
CREATE DOMAIN guarded_domain AS int;
REVOKE USAGE ON DOMAIN guarded_domain FROM PUBLIC;
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql TO content_writer;
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere TYPE 'none' VERSION '1' FOREIGN DATA WRAPPER nothing OPTIONS (host 'it''s', port '1');
GRANT USAGE ON FOREIGN DATA WRAPPER nothing TO content_writer WITH GRANT OPTION;
GRANT USAGE ON FOREIGN SERVER nowhere TO content_reader;
ALTER SERVER nowhere OWNER TO content_owner;
CREATE USER MAPPING FOR content_reader SERVER nowhere OPTIONS (remote 'me');
CREATE USER MAPPING FOR PUBLIC SERVER nowhere;
CREATE FOREIGN TABLE far_away (id int OPTIONS (column_name 'other id') NOT NULL, v text DEFAULT 'd', CHECK (id > 0))
    SERVER nowhere OPTIONS (table_name 'remote "t"');
GRANT SELECT ON far_away TO content_reader;

-- Grants on what the system brought along.
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO content_writer;
GRANT SELECT ON pg_catalog.pg_authid TO content_writer;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO content_writer;

ALTER DEFAULT PRIVILEGES IN SCHEMA privileges GRANT SELECT ON TABLES TO content_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE content_owner GRANT INSERT ON TABLES TO content_writer WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE content_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE content_owner IN SCHEMA privileges GRANT USAGE ON SEQUENCES TO content_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE content_owner REVOKE USAGE ON TYPES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE content_owner GRANT USAGE ON SCHEMAS TO content_reader;
-- Made under the default privileges, one of them with less than they give.
CREATE TABLE by_default (v int);
CREATE TABLE less_than_default (v int);
REVOKE ALL ON less_than_default FROM content_reader;
