-- Of the configuration tables only the rows that users added belong into a dump.
CREATE TABLE @extschema@.options (name text PRIMARY KEY, value text, built_in boolean NOT NULL DEFAULT false);
INSERT INTO @extschema@.options VALUES ('colour', 'blue', true), ('size', 'large', true);
CREATE SEQUENCE @extschema@.option_number;
CREATE TABLE @extschema@.not_dumped (v int);
INSERT INTO @extschema@.not_dumped VALUES (1);
SELECT pg_catalog.pg_extension_config_dump('@extschema@.options', 'WHERE NOT built_in');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.option_number', '');
