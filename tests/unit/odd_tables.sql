-- Tables, names, values and other objects that are hard to tell from the text around them.
-- psql variable: rows.

CREATE SCHEMA "Odd ""schema""; --";

CREATE TABLE public.empty (a integer);
CREATE TABLE public.no_columns ();
INSERT INTO public.no_columns SELECT FROM generate_series(1, 5);
CREATE TABLE public.plain AS SELECT n, 'value ' || n AS value FROM generate_series(1, :rows) AS n;

DO $do$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'with space', 'UPPER', 'select', 'values', 'overriding', 'stdin', 'a"b', 'a''b', 'a\b', '\.', 'a;b', 'a(b', 'a)b', 'a.b',
        'x$y$z', '$$', '-- comment', '/* comment', 'größe', E'new\nline', E'tab\tand\rreturn',
        E'x\nCOPY fake (a) FROM stdin;\n1\n\\.\n', E'x FROM stdin;\n\\! false', 'U&"x', '1st', '!', E'\\'
    ] LOOP
        EXECUTE format('CREATE TABLE %I ("%s" text, b int)', name, 'COPY x FROM stdin;');
        EXECUTE format('INSERT INTO %I SELECT %L, n FROM generate_series(1, %s) AS n', name, name, length(name));
        EXECUTE format('CREATE TABLE "Odd ""schema""; --".%I (a text)', name);
        EXECUTE format('INSERT INTO "Odd ""schema""; --".%I VALUES (%L), (%L), (NULL)', name, name, E'\\.\n');
        EXECUTE format('COMMENT ON TABLE %I IS %L', name, E'\nCOPY fake FROM stdin;\n1\n\\.\n\\! false\n' || name);
    END LOOP;
END
$do$;

CREATE TABLE public.hard_values (value text);
INSERT INTO public.hard_values VALUES
    (NULL), (''), ('\N'), ('\.'), (E'\n'), (E'\n\\.\n'), (E'\\.\n\\.'), (E'\r\n\\.\r\n'), ('\'), ('\\'), (''''), ('''\'''),
    ('\'';'), ('$$'), ('/*'), ('--'), ('"'), (');'), (E'\n--\n-- PostgreSQL database dump complete\n--\n\n'),
    ('--'), ('-- PostgreSQL database dump complete'), ('--'), (''), (repeat('x''\', 5000)), (repeat(E'\n', 3000)),
    (E'\nINSERT INTO public.fake VALUES (1);\n'), (E'\nCOPY public.fake FROM stdin;\n'), (E'a\tb\bc\fd\ve');
CREATE TABLE public.bits (b bit(8), v bit varying, x bytea);
INSERT INTO public.bits SELECT n::bit(8), n::bit(8), decode('5c2e0a00', 'hex') FROM generate_series(1, 300) AS n;

CREATE TABLE public.measured (at date NOT NULL, value int, twice int GENERATED ALWAYS AS (value * 2) STORED)
    PARTITION BY RANGE (at);
CREATE TABLE public.measured_1 PARTITION OF public.measured FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE public.measured_2 PARTITION OF public.measured FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')
    PARTITION BY HASH (value);
CREATE TABLE public.measured_2a PARTITION OF public.measured_2 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE public.measured_3 PARTITION OF public.measured DEFAULT;
INSERT INTO public.measured SELECT date '2024-01-01' + n % 60, n FROM generate_series(1, :rows) AS n;
CREATE TABLE public.parent (a int GENERATED ALWAYS AS IDENTITY, b text);
CREATE TABLE public.child () INHERITS (public.parent);
INSERT INTO public.parent (b) SELECT 'p' FROM generate_series(1, 3);
INSERT INTO public.child (a, b) SELECT n, 'c' FROM generate_series(1, 4) AS n;
CREATE UNLOGGED TABLE public.unlogged AS SELECT generate_series(1, 9) AS n;

CREATE FUNCTION public.look_alike() RETURNS text LANGUAGE plpgsql AS $_$
BEGIN
    -- it's $$ not
    RETURN '
COPY public.fake (a) FROM stdin;
1
\.
CREATE TABLE fake (a int);
INSERT INTO public.fake VALUES (1);
\! false
';
END
$_$;
CREATE FUNCTION public.standard_body(n int) RETURNS int LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO public.plain VALUES (n, CASE WHEN n > 1 THEN 'a;' ELSE 'b' END);
    SELECT CASE n WHEN 1 THEN 2 ELSE 3 END;
    INSERT INTO public.plain VALUES (n);
    SELECT 1;
END;
CREATE RULE log AS ON INSERT TO public.empty
    DO ALSO (INSERT INTO public.bits VALUES (NULL); INSERT INTO public.bits VALUES (B'00000001'));
CREATE VIEW public.view AS SELECT '\'::text AS backslash, E'\'\\'::text AS quote, (ARRAY[1, 2])[1:2] AS slice FROM public.plain;
COMMENT ON FUNCTION public.look_alike() IS 'ends in a backslash \';
SELECT lo_from_bytea(0, decode(repeat('5c2e0a27', 2000), 'hex')) FROM generate_series(1, 20);
