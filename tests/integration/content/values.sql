-- Values at the edge of their types, and text that looks like part of a dump. Takes :big_bytes.
CREATE SCHEMA edge_values;
SET search_path = edge_values;

CREATE TABLE numbers (f8 float8, f4 float4, n numeric, big bigint, money money);
INSERT INTO numbers VALUES
    ('NaN', 'NaN', 'NaN', NULL, NULL),
    ('Infinity', 'Infinity', 'Infinity', 9223372036854775807, '92233720368547758.07'),
    ('-Infinity', '-Infinity', '-Infinity', -9223372036854775808, '-92233720368547758.08'),
    ('-0', '-0', -0.0, 0, 0),
    (1.7976931348623157e308, 3.4028235e38, repeat('9', 1000)::numeric, 1, 1),
    (5e-324, 1e-45, ('0.' || repeat('0', 999) || '1')::numeric, -1, 0.01),
    (0.1::float8 + 0.2::float8, 0.1::float4 + 0.2::float4, 1.000, 2, 1);

CREATE TABLE moments (d date, ts timestamp, tz timestamptz, i interval, t timetz);
INSERT INTO moments VALUES
    ('4713-01-01 BC', '4713-01-01 BC', '4713-01-02 00:00+00 BC', '-178000000 years', '24:00:00-15:59'),
    ('0001-12-31 BC', '0001-12-31 23:59:59.999999 BC', '0001-12-31 23:59:59.999999+00 BC', '1 mon -1 day +00:00:00.000001', '00:00+15:59'),
    ('5874897-12-31', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00', 'P1Y2M-3DT4H5M6.7S', '12:00+00'),
    ('infinity', 'infinity', 'infinity', '0', NULL),
    ('-infinity', '-infinity', '-infinity', NULL, NULL),
    ('2024-03-31', '2024-03-31 02:30', '2024-03-31 02:30 Europe/Berlin', '1 day', '02:30+01'),
    ('1883-11-18', '1883-11-18 12:03:58', '1883-11-18 12:03:58 America/New_York', '-1 day', NULL);

CREATE TABLE texts (id int GENERATED ALWAYS AS IDENTITY, v text);
INSERT INTO texts (v) VALUES
    (''), (NULL), ('\N'), ('\.'), (E'\\.\n'), (E'\n\\.\n'), ('N'), ('\'), ('\\'), (E'\t'), (E'\n'), (E'\r'), (E'\r\n'),
    (E'\b\f\v\x01\x7f'), (' '), ('NULL'), ('"'), (''''), ('$$'), ('--'), ('/*'), ('*/'), (';'), (','), ('{}'), ('(,)'),
    ('\! touch /tmp/never'), ('\restrict x'), ('\unrestrict x'), ('\connect postgres'),
    (E'--\n-- PostgreSQL database dump complete\n--\n\n'), ('COPY public.t (a) FROM stdin;'),
    (E'x\n\\.\n\n\\! touch /tmp/never\nCOPY public.t (a) FROM stdin;\n'), ('INSERT INTO t VALUES (1);'),
    (U&'\FEFF'), (U&'\+01F418 \200F \0301\00E9 \+10FFFF'), (repeat('ä', 300)), (repeat(E'\\', 70000)), (repeat(E'\n', 70000));
CREATE TABLE only_the_dot (v text);
INSERT INTO only_the_dot VALUES ('\.'), ('\.'), (E'\\.\n\\.');
CREATE TABLE one_empty_column (v text);
INSERT INTO one_empty_column VALUES (''), (NULL), ('');

CREATE TABLE bytes (id int GENERATED ALWAYS AS IDENTITY, v bytea);
INSERT INTO bytes (v) VALUES ('\x'), ('\x00'), ('\x5c2e0a'), (NULL),
    ((SELECT string_agg(set_byte('\x00', 0, b), '' ORDER BY b) FROM generate_series(0, 255) AS b));

CREATE TABLE documents (j json, b jsonb, x xml, u uuid);
INSERT INTO documents (j, b, u) VALUES
    (' { "a" : 1, "a" : 2 } ', '{"a": "\u00e9\\n\t\"", "big": 1e400, "n": null}', '00000000-0000-0000-0000-000000000000'),
    (E'"\\\\u0000"', '[]', 'ffffffff-ffff-ffff-ffff-ffffffffffff'), ('null', 'null', NULL);

CREATE TABLE other (a inet, m macaddr8, b bit varying, p point, pg polygon, c circle, l line, tsq tsquery, r int4range[],
    lsn pg_lsn, mr nummultirange, ch "char", nm name, bp char(10), oid oid, reg regclass);
INSERT INTO other VALUES
    ('::ffff:1.2.3.4/120', '08:00:2b:01:02:03:04:05', B'', '(NaN,-Infinity)', '((0,0),(1,1e-320),(-0,1))', '<(0,0),Infinity>', '{1,-1,0}',
     '''a b'' & !c:*A <2> d', '{"[1,2)",empty,"(,)"}', 'FFFFFFFF/FFFFFFFF', '{[1.5,2),(3,)}', '\', repeat('n', 63), 'x  ', 4294967295, 'pg_class'),
    ('0.0.0.0/0', NULL, B'10101', NULL, NULL, NULL, NULL, NULL, '{}', '0/0', '{}', '', '', '', 0, 'edge_values.numbers');

-- Fields that cannot be compressed away, as text and as bytes.
CREATE TABLE big (kind text, t text, b bytea);
ALTER TABLE big ALTER COLUMN t SET STORAGE EXTERNAL, ALTER COLUMN b SET STORAGE EXTERNAL;
INSERT INTO big VALUES ('text', left(repeat(E'line \\ with\ta few characters\n', :big_bytes / 28 + 1), :big_bytes), NULL);
INSERT INTO big SELECT 'bytes', NULL, substr(decode(repeat(string_agg(md5(n::text), '' ORDER BY n), :big_bytes / 16000 + 1), 'hex'), 1, :big_bytes)
FROM generate_series(1, 1000) AS n;
