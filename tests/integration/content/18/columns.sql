-- What PostgreSQL 18 added: virtual generated columns, constraints over periods, constraints not enforced.
CREATE SCHEMA since_18;
SET search_path = since_18;

CREATE TABLE virtual_columns (
    net numeric NOT NULL,
    gross numeric GENERATED ALWAYS AS (net * 1.18),
    kept numeric GENERATED ALWAYS AS (net * 2) STORED,
    id uuid DEFAULT uuidv7()
);
INSERT INTO virtual_columns (net) SELECT generate_series(1, 50);

CREATE TABLE prices (shop int4range, during daterange, cents int, PRIMARY KEY (shop, during WITHOUT OVERLAPS));
CREATE TABLE offers (shop int4range, during daterange,
    FOREIGN KEY (shop, PERIOD during) REFERENCES prices (shop, PERIOD during));
INSERT INTO prices VALUES ('[1,2)', '[2024-01-01,2024-02-01)', 5), ('[1,2)', '[2024-02-01,2024-03-01)', 6);
INSERT INTO offers VALUES ('[1,2)', '[2024-01-15,2024-02-15)');

CREATE TABLE lenient (v int, CONSTRAINT wished CHECK (v > 0) NOT ENFORCED);
INSERT INTO lenient VALUES (-1), (NULL);
ALTER TABLE lenient ADD CONSTRAINT later NOT NULL v NOT VALID;
