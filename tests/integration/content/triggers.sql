-- Triggers in every state of being enabled, event triggers.
CREATE SCHEMA triggers;
SET search_path = triggers;

CREATE TABLE watched (id int PRIMARY KEY, v text, changes int DEFAULT 0);
CREATE FUNCTION count_changes() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    -- What a reader of this dump may take for something else: \! echo, \connect, $$, ';', "/*"
    NEW.changes := coalesce(NEW.changes, 0) + 1;
    RETURN NEW;
END
$function$;
CREATE TRIGGER a_origin BEFORE INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION count_changes();
CREATE TRIGGER b_disabled BEFORE UPDATE OF v ON watched FOR EACH ROW WHEN (OLD.v IS DISTINCT FROM NEW.v)
    EXECUTE FUNCTION count_changes('an argument', 'it''s', E'back\\slash');
CREATE TRIGGER c_replica BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION count_changes();
CREATE TRIGGER d_always BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION count_changes();
ALTER TABLE watched DISABLE TRIGGER b_disabled, ENABLE REPLICA TRIGGER c_replica, ENABLE ALWAYS TRIGGER d_always;
-- Restoring must not fire them: `changes` would be one more.
INSERT INTO watched SELECT n, 'v' || n FROM generate_series(1, 50) AS n;
UPDATE watched SET v = 'w' WHERE id < 10;

CREATE FUNCTION look_at_rows() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER transition AFTER UPDATE ON watched REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION look_at_rows();
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON watched DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION look_at_rows();
CREATE VIEW window_to AS SELECT * FROM watched;
CREATE TRIGGER instead INSTEAD OF DELETE ON window_to FOR EACH ROW EXECUTE FUNCTION look_at_rows();

CREATE TABLE ddl_log (n int GENERATED ALWAYS AS IDENTITY, tag text);
CREATE FUNCTION log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO triggers.ddl_log (tag) VALUES (tg_tag); END$$;
-- If a restore made this one before anything else, its log would tell.
CREATE EVENT TRIGGER log_ddl ON ddl_command_end EXECUTE FUNCTION log_ddl();
CREATE TABLE made_while_watched ();
DROP TABLE made_while_watched;
CREATE EVENT TRIGGER only_some ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP INDEX') EXECUTE FUNCTION log_ddl();
CREATE EVENT TRIGGER switched_off ON ddl_command_start EXECUTE FUNCTION log_ddl();
CREATE EVENT TRIGGER for_replicas ON table_rewrite EXECUTE FUNCTION log_ddl();
ALTER EVENT TRIGGER switched_off DISABLE;
ALTER EVENT TRIGGER for_replicas ENABLE REPLICA;
-- What the other files make is not what is looked at here.
ALTER EVENT TRIGGER log_ddl ENABLE REPLICA;
