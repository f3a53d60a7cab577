-- For a SQL_ASCII database: bytes that are no text in any one encoding.
SET client_encoding = 'SQL_ASCII';
CREATE TABLE mixed (kind text, v text);
INSERT INTO mixed VALUES ('latin1', E'caf\351'), ('utf8', E'caf\303\251'), ('sjis', E'\225\134'), ('bad', E'\377\376\200');
CREATE INDEX ON mixed (v);
DO $$BEGIN EXECUTE format('CREATE TABLE %I (%I text)', E'caf\351', E'\377'); EXECUTE format('INSERT INTO %I VALUES (1)', E'caf\351'); END$$;
COMMENT ON TABLE mixed IS E'na\357ve';
DO $$BEGIN EXECUTE format('COMMENT ON DATABASE in_sql_ascii IS %L', E'na\357ve'); END$$;
