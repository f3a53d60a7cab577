-- Large objects with owners, grants and comments. Takes :large_objects.
CREATE SCHEMA large_objects;
SET search_path = large_objects;

CREATE TABLE pictures (n int PRIMARY KEY, picture oid);
INSERT INTO pictures SELECT n, lo_from_bytea(0, convert_to(repeat('picture ' || n || ' ', n % 100), 'UTF8'))
FROM generate_series(1, :large_objects) AS n;
-- Nothing, every byte, several pages, and a hole.
INSERT INTO pictures VALUES
    (-1, lo_create(0)),
    (-2, lo_from_bytea(0, (SELECT string_agg(set_byte('\x00', 0, b), '' ORDER BY b) FROM generate_series(0, 255) AS b))),
    (-3, lo_from_bytea(0, convert_to(repeat('0123456789abcdef', 160000), 'UTF8'))),
    (-4, lo_create(0));
SELECT lo_put(picture, 100000, '\xff') FROM pictures WHERE n = -4;
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT * FROM large_objects.pictures LOOP
        IF one.n % 3 = 0 THEN
            EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO PUBLIC', one.picture);
        ELSIF one.n % 3 = 1 THEN
            EXECUTE format('GRANT ALL ON LARGE OBJECT %s TO content_owner WITH GRANT OPTION', one.picture);
        END IF;
        IF one.n % 10 = 0 THEN
            EXECUTE format('ALTER LARGE OBJECT %s OWNER TO content_owner', one.picture);
            EXECUTE format('COMMENT ON LARGE OBJECT %s IS ''it''''s number %s''', one.picture, one.n);
        END IF;
        IF one.n % 1000 = 0 THEN
            COMMIT; -- each of them is locked until then
        END IF;
    END LOOP;
END$$;
