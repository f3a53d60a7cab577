-- Views, materialised views on materialised views, cycles that only a dummy view can break, rules.
CREATE SCHEMA views;
SET search_path = views;

CREATE TABLE sales (id int PRIMARY KEY, shop text, cents bigint);
INSERT INTO sales SELECT n, 'shop ' || n % 7, n * 10 FROM generate_series(1, 500) AS n;

CREATE MATERIALIZED VIEW z_per_shop AS SELECT shop, sum(cents) AS cents, count(*) AS n FROM sales GROUP BY shop;
CREATE UNIQUE INDEX ON z_per_shop (shop);
CREATE VIEW m_between AS SELECT shop, cents / n AS average FROM z_per_shop;
CREATE MATERIALIZED VIEW a_on_top AS SELECT max(average) AS most FROM m_between;
CREATE MATERIALIZED VIEW never_filled AS SELECT * FROM a_on_top WITH NO DATA;

-- The view needs the primary key to be valid, and the key comes after the data in a dump.
CREATE VIEW needs_the_key AS SELECT id, shop, cents FROM sales GROUP BY id;
CREATE MATERIALIZED VIEW on_needs_the_key AS SELECT count(*) FROM needs_the_key;

-- A view and a function that need each other.
CREATE VIEW cycle_view AS SELECT 1 AS one;
CREATE FUNCTION cycle_function() RETURNS SETOF cycle_view LANGUAGE sql BEGIN ATOMIC SELECT 1 AS one; END;
CREATE OR REPLACE VIEW cycle_view AS SELECT one FROM cycle_function();
-- Two views that need each other.
CREATE VIEW left_hand AS SELECT 1 AS x;
CREATE VIEW right_hand AS SELECT x FROM left_hand;
CREATE OR REPLACE VIEW left_hand AS SELECT x FROM right_hand;

CREATE VIEW updatable AS SELECT id, shop FROM sales WHERE id > 10 WITH LOCAL CHECK OPTION;
CREATE VIEW barrier WITH (security_barrier, security_invoker) AS SELECT * FROM sales WITH CASCADED CHECK OPTION;
ALTER VIEW updatable ALTER COLUMN shop SET DEFAULT 'from the view';
CREATE RECURSIVE VIEW numbers (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 10;

CREATE TABLE log (what text, id int);
CREATE RULE note_deletes AS ON DELETE TO sales DO ALSO INSERT INTO log VALUES ('deleted', OLD.id);
CREATE RULE refuse_zero AS ON UPDATE TO sales WHERE NEW.cents = 0 DO INSTEAD NOTHING;
CREATE RULE through_view AS ON INSERT TO m_between DO INSTEAD
    (INSERT INTO log VALUES (NEW.shop, 0); UPDATE log SET id = 1 WHERE what = NEW.shop);
CREATE RULE switched_off AS ON INSERT TO log DO ALSO NOTHING;
ALTER TABLE log DISABLE RULE switched_off;
CREATE RULE for_replicas AS ON UPDATE TO log DO ALSO NOTHING;
ALTER TABLE log ENABLE REPLICA RULE for_replicas;
DELETE FROM sales WHERE id = 500;
-- A restore fills them anew, so they have to be up to date.
REFRESH MATERIALIZED VIEW z_per_shop;
REFRESH MATERIALIZED VIEW a_on_top;
REFRESH MATERIALIZED VIEW on_needs_the_key;
