-- How tables are kept: unlogged, tablespaces, storage, options, clustering, replica identity, publications.
CREATE SCHEMA storage;
SET search_path = storage;

CREATE UNLOGGED TABLE unlogged (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
INSERT INTO unlogged (v) SELECT 'v' || n FROM generate_series(1, 100) AS n;
CREATE UNLOGGED TABLE unlogged_empty (v int);

CREATE TABLE elsewhere (id int PRIMARY KEY USING INDEX TABLESPACE content_space, v text) TABLESPACE content_space;
INSERT INTO elsewhere VALUES (1, 'far');
CREATE INDEX elsewhere_by_v ON elsewhere (v) TABLESPACE pg_default;

CREATE TABLE tuned (id int, wide text, packed text) WITH (fillfactor = 70, autovacuum_enabled = off, toast.autovacuum_enabled = off);
ALTER TABLE tuned ALTER COLUMN wide SET STORAGE EXTERNAL, ALTER COLUMN packed SET COMPRESSION pglz;
INSERT INTO tuned SELECT n, repeat('w', 5000 * n), repeat('p', 5000 * n) FROM generate_series(1, 5) AS n;
CREATE INDEX tuned_brin ON tuned USING brin (id) WITH (pages_per_range = 16);
CREATE INDEX tuned_hash ON tuned USING hash (id);
CREATE INDEX tuned_by_expression ON tuned (lower(wide) text_pattern_ops DESC NULLS LAST, (id % 2)) WHERE id > 1;
ALTER INDEX tuned_by_expression ALTER COLUMN 2 SET STATISTICS 100;
CREATE UNIQUE INDEX tuned_id ON tuned (id);
ALTER TABLE tuned CLUSTER ON tuned_id;
ALTER TABLE tuned ALTER COLUMN id SET NOT NULL;
ALTER TABLE tuned REPLICA IDENTITY USING INDEX tuned_id;
CREATE TABLE full_identity (v int);
ALTER TABLE full_identity REPLICA IDENTITY FULL;
CREATE ACCESS METHOD second_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE in_second_heap (v int) USING second_heap;
INSERT INTO in_second_heap VALUES (1);

CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert, truncate');
CREATE PUBLICATION some_tables FOR TABLE tuned (id, wide) WHERE (id > 1), full_identity;
CREATE PUBLICATION whole_schema FOR TABLES IN SCHEMA storage WITH (publish_via_partition_root);
CREATE PUBLICATION nothing;
