-- For a LATIN1 database.
SET client_encoding = 'UTF8';
CREATE TABLE "café" ("größe" text, v text);
INSERT INTO "café" SELECT chr(n), 'é' || n FROM generate_series(160, 255) AS n;
CREATE INDEX ON "café" (v);
COMMENT ON TABLE "café" IS 'für alle';
CREATE FUNCTION "ñ"() RETURNS text LANGUAGE sql AS $é$SELECT 'é'$é$;
COMMENT ON DATABASE in_latin1 IS 'für alle';
