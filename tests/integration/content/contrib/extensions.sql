-- Extensions in schemas of their own and in others', with configuration tables, and what is made with them.
CREATE SCHEMA extensions;
CREATE EXTENSION hstore SCHEMA extensions;
CREATE EXTENSION pg_trgm SCHEMA extensions;
CREATE EXTENSION citext SCHEMA public;
CREATE EXTENSION btree_gist SCHEMA public VERSION '1.7';
CREATE SCHEMA shop;
CREATE EXTENSION shop_settings SCHEMA shop;
COMMENT ON EXTENSION hstore IS 'not the usual comment';
INSERT INTO shop.options VALUES ('mine', 'yes', false), ('also mine', E'two\nlines', false);
SELECT setval('shop.option_number', 33);
GRANT SELECT ON shop.options TO PUBLIC;
-- A member with other rights than its extension gave it.
REVOKE EXECUTE ON FUNCTION extensions.similarity(text, text) FROM PUBLIC;

CREATE SCHEMA with_extensions;
SET search_path = with_extensions;
CREATE TABLE things (id int PRIMARY KEY, attributes extensions.hstore, name public.citext UNIQUE, during tstzrange,
    EXCLUDE USING gist (id WITH =, during WITH &&));
INSERT INTO things VALUES (1, '"a"=>"1", "b"=>NULL', 'Name', '[2024-01-01,2024-02-01)'), (2, '', 'other', 'empty');
CREATE INDEX ON things USING gin (attributes);
CREATE INDEX ON things USING gin ((name::text) extensions.gin_trgm_ops);
CREATE FUNCTION joins_the_extension() RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER FUNCTION joins_the_extension() DEPENDS ON EXTENSION hstore;

CREATE EXTENSION file_fdw SCHEMA extensions;
CREATE EXTENSION postgres_fdw SCHEMA extensions;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
-- Relative to the data directory: a file that every server has.
CREATE FOREIGN TABLE version_file (version text) SERVER files OPTIONS (filename 'PG_VERSION', format 'csv');
CREATE MATERIALIZED VIEW version_seen AS SELECT * FROM version_file;
CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', dbname 'nowhere', fetch_size '7');
CREATE USER MAPPING FOR CURRENT_USER SERVER loopback OPTIONS (user 'somebody', password_required 'false');
CREATE FOREIGN TABLE elsewhere (id int OPTIONS (column_name 'ID'), v text) SERVER loopback OPTIONS (schema_name 's', table_name 't');
CREATE VIEW over_there AS SELECT * FROM elsewhere;
