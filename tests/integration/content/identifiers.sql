-- Names of every character, and names that look like something else.
CREATE SCHEMA identifiers;
SET search_path = identifiers;

-- One table for every character that is not a letter or digit, named by it alone; two rows in each.
DO $do$
DECLARE
    one text;
BEGIN
    FOR one IN
        SELECT chr(n) FROM generate_series(1, 127) AS n WHERE chr(n) !~ '[A-Za-z0-9]'
        UNION ALL SELECT unnest(ARRAY[
            '\.', '""', '$$', '$a$', '--', '/*', '*/', '\!', ''';', ').(', 'a.b', '".".', 'select', 'User', 'x (a) FROM stdin;',
            'x" (a) FROM stdin;', 'stdin', E'x\n\\! touch /tmp/never\n', E'x\r\n\\.\r\n', E'--\n-- PostgreSQL database dump complete\n--\n',
            'ünïcödé', '🐘', U&'\05D0\200F\202E', 'COPY t FROM stdin;', '`id`', '$(id)', '%s%n', '{}', '\restrict x',
            repeat('x', 63), repeat('ü', 31), ' leading', 'trailing ', '1digit', 'pg_temp', 'public.t'])
    LOOP
        EXECUTE format('CREATE TABLE %I (%I int DEFAULT 1 CONSTRAINT %I CHECK (%1$I IS NOT NULL))', one, one || 'c', one);
        EXECUTE format('INSERT INTO %I SELECT generate_series(1, 2)', one);
    END LOOP;
END$do$;

-- One table with a column for each of them.
DO $do$
BEGIN
    EXECUTE (SELECT format('CREATE TABLE all_columns (%s)', string_agg(format('%I text', 'c' || chr(n)), ', ' ORDER BY n))
             FROM generate_series(1, 255) AS n WHERE n NOT BETWEEN 127 AND 160);
    EXECUTE (SELECT format('INSERT INTO all_columns VALUES (%s)', string_agg(quote_literal(chr(n)), ', ' ORDER BY n))
             FROM generate_series(1, 255) AS n WHERE n NOT BETWEEN 127 AND 160);
END$do$;

CREATE SCHEMA "a ""schema"".\.
-- of three lines
";
CREATE TABLE "a ""schema"".\.
-- of three lines
"."a ""table""
\." ("a ""column"" (x) FROM stdin;" text DEFAULT $d$it's $$ \. $d$);
INSERT INTO "a ""schema"".\.
-- of three lines
"."a ""table""
\." VALUES ('one'), ('two'), (DEFAULT);
CREATE FUNCTION "f'""\
"("p'""\" text) RETURNS text LANGUAGE sql AS $body$SELECT "p'""\" || E'\'\\\n' || $$;$$ || ';--/*'$body$;
CREATE TYPE "ty""pe'\" AS ENUM ('la''b\el', '"', E'\n');
CREATE SEQUENCE "se\q'""";
CREATE INDEX "in\d'""ex" ON all_columns (md5(c1));
