-- Foreign keys that no order of loading satisfies, exclusion constraints, keys without validation.
CREATE SCHEMA keys;
SET search_path = keys;

CREATE TABLE chicken (id int PRIMARY KEY, egg int NOT NULL);
CREATE TABLE egg (id int PRIMARY KEY, chicken int NOT NULL REFERENCES chicken DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE chicken ADD FOREIGN KEY (egg) REFERENCES egg DEFERRABLE;
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO chicken SELECT n, 101 - n FROM generate_series(1, 100) AS n;
INSERT INTO egg SELECT n, 101 - n FROM generate_series(1, 100) AS n;
COMMIT;

CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON UPDATE CASCADE ON DELETE SET NULL);
INSERT INTO tree SELECT n, nullif(101 - n, n) FROM generate_series(1, 100) AS n;

-- Rows that break it were there first: a restore must not check them.
CREATE TABLE parent (a int, b int, UNIQUE (a, b) DEFERRABLE, UNIQUE NULLS NOT DISTINCT (b, a) INCLUDE (a));
CREATE TABLE unvalidated (a int, b int, c int);
INSERT INTO parent VALUES (1, 1), (2, NULL), (NULL, 2);
CREATE UNIQUE INDEX parent_key ON parent (a, b);
INSERT INTO unvalidated VALUES (1, 1, 1), (99, 99, -99);
ALTER TABLE unvalidated ADD CONSTRAINT broken_key FOREIGN KEY (a, b) REFERENCES parent (a, b) MATCH FULL NOT VALID;
ALTER TABLE unvalidated ADD CONSTRAINT broken_check CHECK (c > 0) NOT VALID;
CREATE TABLE set_columns (a int, b int, FOREIGN KEY (a, b) REFERENCES parent (a, b) ON DELETE SET NULL (b));

CREATE TABLE bookings (
    room box,
    during tstzrange,
    EXCLUDE USING gist (room WITH &&, during WITH &&) WHERE (NOT isempty(during))
);
INSERT INTO bookings SELECT box(point(n, 0), point(n + 0.5, 1)), tstzrange('2024-01-01', '2024-02-01') FROM generate_series(1, 20) AS n;
CREATE TABLE excluded (v int, EXCLUDE USING btree (v WITH =) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO excluded SELECT generate_series(1, 20);

CREATE UNIQUE INDEX concurrently_made ON tree (parent, id) INCLUDE (id) WHERE parent > 10;
CREATE TABLE takes_an_index (id int NOT NULL, v text);
CREATE UNIQUE INDEX becomes_a_key ON takes_an_index (id);
ALTER TABLE takes_an_index ADD CONSTRAINT the_key PRIMARY KEY USING INDEX becomes_a_key;
