-- For a database whose order is ICU's, and collations of its own.
CREATE COLLATION numeric_order (provider = icu, locale = 'en-u-kn-true');
CREATE COLLATION ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE words (v text, n text COLLATE numeric_order, i text COLLATE ignore_case UNIQUE);
INSERT INTO words SELECT w, w || row_number() OVER (), w || row_number() OVER ()
FROM unnest(ARRAY['zebra', 'Äpfel', 'öl', 'Öl', 'apple', 'å', 'z', 'A-1', 'A1']) AS w;
CREATE INDEX ON words (v);
CREATE INDEX ON words (n DESC);
CREATE MATERIALIZED VIEW in_order AS SELECT row_number() OVER (ORDER BY v) AS place, v FROM words;
