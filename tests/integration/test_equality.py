"""The comparison of the round trips finds what is wrong with a copy: each of these damages has a line of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support import equality
from tests.support.equality import Place
from tests.support.servers import Server

SOURCE = """
CREATE TABLE rows_lost AS SELECT generate_series(1, 100) AS v;
CREATE TABLE rows_doubled AS SELECT generate_series(1, 2) AS v;
CREATE TABLE value_changed AS SELECT 'one' AS v;
CREATE TABLE sign_lost AS SELECT '-0'::float8 AS v;
CREATE TABLE null_filled (v text); INSERT INTO null_filled VALUES (NULL);
CREATE SEQUENCE ahead; CREATE SEQUENCE called;
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE TABLE t (a int DEFAULT 1, b int CHECK (b > 0), c text NOT NULL);
CREATE TRIGGER woken BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE t DISABLE TRIGGER woken;
CREATE EVENT TRIGGER slept ON sql_drop EXECUTE FUNCTION e();
CREATE RULE replica AS ON DELETE TO t DO INSTEAD NOTHING;
GRANT SELECT, INSERT ON t TO equality_a WITH GRANT OPTION; GRANT UPDATE (a) ON t TO equality_a;
CREATE TABLE owned (); ALTER TABLE owned OWNER TO equality_a;
CREATE FUNCTION hidden() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE EXECUTE ON FUNCTION hidden() FROM PUBLIC;
CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO equality_a;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO equality_a;
COMMENT ON TABLE t IS 'comment'; COMMENT ON COLUMN t.a IS 'column''s';
CREATE POLICY p ON t TO equality_a USING (true); ALTER TABLE t FORCE ROW LEVEL SECURITY;
CREATE PUBLICATION pub FOR TABLE t; CREATE STATISTICS st ON a, b FROM t; ALTER STATISTICS st SET STATISTICS 5;
SELECT lo_from_bytea(4711, 'abc'), lo_from_bytea(4712, 'abc'), lo_from_bytea(4713, '');
GRANT SELECT ON LARGE OBJECT 4712 TO equality_a;
ALTER TABLE t ADD CONSTRAINT not_valid CHECK (a > 0) NOT VALID; CREATE INDEX gone ON t (b);
CREATE TABLE parent (v int); CREATE TABLE child () INHERITS (parent); CREATE UNLOGGED TABLE unlogged ();
CREATE TYPE mood AS ENUM ('a', 'b'); CREATE MATERIALIZED VIEW filled AS SELECT 1 AS one;
CREATE FUNCTION key(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE TABLE broken AS SELECT generate_series(1, 100) AS v; CREATE INDEX broken_index ON broken (key(v));
CREATE FUNCTION body() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE EXTENSION tcn SCHEMA s;
CREATE TABLE renamed (v int); CREATE INDEX renamed_index ON renamed (v); ALTER TABLE renamed RENAME v TO w;
CREATE TABLE moved AS SELECT generate_series(1, 100) AS v;
CREATE FUNCTION inner_key(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION outer_key(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT inner_key($1)';
CREATE INDEX unqualified ON moved USING hash (outer_key(v))
"""

# What is done to the true copy: no dump tells of it.
HARMLESS = """
DELETE FROM moved WHERE v = 50; INSERT INTO moved VALUES (50); CREATE TEMPORARY TABLE passing ();
DROP INDEX renamed_index; CREATE INDEX renamed_index ON renamed (w)
"""

# What is done to the copy, and a line that tells of it; `<` has it as in the source, `>` as in the copy.
DAMAGES = {
    "a row is missing": ("DELETE FROM rows_lost WHERE v = 50", r"rows: > public.rows_lost: 99 rows"),
    "a row is there twice": ("UPDATE rows_doubled SET v = 1", r"rows: > public.rows_doubled: 2 rows"),
    "a value is another": ("UPDATE value_changed SET v = 'One'", r"rows: > public.value_changed: 1 rows"),
    "minus zero is zero": ("UPDATE sign_lost SET v = 0", r"rows: > public.sign_lost: 1 rows"),
    "NULL is empty": ("UPDATE null_filled SET v = ''", r"rows: > public.null_filled: 1 rows"),
    "a sequence is off by one": (
        "SELECT setval('ahead', 2)",
        r"sequences: > public.ahead: last_value 2, is_called True",
    ),
    "a sequence was called": (
        "SELECT setval('called', 1)",
        r"sequences: > public.called: last_value 1, is_called True",
    ),
    "a trigger is enabled": ("ALTER TABLE t ENABLE ALWAYS TRIGGER woken", r"triggers: > woken on public.t: enabled A"),
    "an event trigger is not": ("ALTER EVENT TRIGGER slept DISABLE", r"event triggers: > slept: enabled D"),
    "a rule is for replicas": ("ALTER TABLE t ENABLE REPLICA RULE replica", r"rules: > replica on public.t: enabled R"),
    "a grant is missing": ("REVOKE INSERT ON t FROM equality_a", r"grants: < table public.t: .*INSERT\*"),
    "a grant option is": (
        "REVOKE GRANT OPTION FOR SELECT ON t FROM equality_a",
        r"grants: < table public.t: .*SELECT\*",
    ),
    "a column's grant is": ("REVOKE UPDATE (a) ON t FROM equality_a", r"grants: < column a of table public.t"),
    "a function is public": ("GRANT EXECUTE ON FUNCTION hidden() TO PUBLIC", r"grants: > function public.hidden"),
    "a schema's grant": ("REVOKE USAGE ON SCHEMA s FROM equality_a", r"grants: < schema s: .*equality_a"),
    "another owner": ("ALTER TABLE owned OWNER TO equality_b", r"owners.*: > table public.owned: o equality_b"),
    "another default": (
        "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM equality_a",
        r"default privileges: < .* r: .*equality_a=r",
    ),
    "a comment is lost": ("COMMENT ON TABLE t IS NULL", r"comments: < table public.t: 'comment'"),
    "a comment is another": (
        "COMMENT ON COLUMN t.a IS 'columns'",
        r"comments: > column a of table public.t: 'columns'",
    ),
    "a security label": (
        "SET allow_system_table_mods = on;"
        "INSERT INTO pg_seclabel VALUES ('t'::regclass, 'pg_class'::regclass, 0, 'lab', 'x')",
        r"security labels: > table .*t: lab 'x'",
    ),
    "a policy is for another": ("ALTER POLICY p ON t TO equality_b", r"policies: > .*equality_b"),
    "a policy says another": ("ALTER POLICY p ON t USING (a > 0)", r"policies: > .*a > 0"),
    "row security unforced": (
        "ALTER TABLE t NO FORCE ROW LEVEL SECURITY",
        r"relations: > public.t: .*row security f f",
    ),
    "a publication's table": ("ALTER PUBLICATION pub DROP TABLE t", r"publications: < .*public.t.* in publication pub"),
    "a statistics target": ("ALTER STATISTICS st SET STATISTICS 6", r"extended statistics: > st: target 6"),
    "a large object's byte": ("SELECT lo_put(4711, 1, 'x')", r"large objects: > 4711: "),
    "a large object's grant": (
        "REVOKE ALL ON LARGE OBJECT 4712 FROM equality_a",
        r"large objects: < 4712: .*equality_a",
    ),
    "a large object is lost": ("SELECT lo_unlink(4713)", r"large objects: < 4713: "),
    "a constraint is valid": ("ALTER TABLE t VALIDATE CONSTRAINT not_valid", r"constraints: > not_valid .*validated t"),
    "an index is missing": ("DROP INDEX gone", r"indexes: < public.gone: CREATE INDEX"),
    "a default is another": ("ALTER TABLE t ALTER a SET DEFAULT 2", r"columns: > public.t 1 a: .*default 2"),
    "a column may be null": ("ALTER TABLE t ALTER c DROP NOT NULL", r"columns: > public.t 3 c: .*not null f"),
    "not a child any more": (
        "ALTER TABLE child NO INHERIT parent",
        r"relations: < public.child: .*of \{public.parent\}",
    ),
    "a table is logged": ("ALTER TABLE unlogged SET LOGGED", r"relations: > public.unlogged: r p"),
    "replica identity": ("ALTER TABLE t REPLICA IDENTITY FULL", r"relations: > public.t: .*replica identity f"),
    "an enum's label": ("ALTER TYPE mood ADD VALUE 'c'", r"enums: > public.mood \{a,b,c\}"),
    "a view is not filled": (
        "REFRESH MATERIALIZED VIEW filled WITH NO DATA",
        r"relations: > public.filled: .*populated f",
    ),
    "a function's body": (
        "CREATE OR REPLACE FUNCTION body() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        r"functions: > .*body",
    ),
    "an extension's schema": ("ALTER EXTENSION tcn SET SCHEMA public", r"extensions: > tcn .* in public"),
    "an index that is wrong": (
        "CREATE OR REPLACE FUNCTION key(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT -$1'",
        r"amcheck: .*broken_index: ",
    ),
}


@pytest.fixture(scope="module")
def copies(postgres_a: Server) -> Iterator[tuple[Place, Place, Place]]:
    """A database, a true copy of it, and one with all damages."""
    names = ("equality_source", "equality_copy", "equality_damaged")
    postgres_a.sql("CREATE ROLE equality_a; CREATE ROLE equality_b", "postgres")
    try:
        postgres_a.sql("CREATE DATABASE equality_source", "postgres")
        postgres_a.sql(SOURCE, "equality_source")
        for name in names[1:]:
            postgres_a.sql(f"CREATE DATABASE {name} TEMPLATE equality_source", "postgres")
        postgres_a.sql(HARMLESS, "equality_copy")
        for statement, _ in DAMAGES.values():
            postgres_a.sql(statement, "equality_damaged")
        source, copy, damaged = ((postgres_a, name) for name in names)
        yield source, copy, damaged
    finally:
        for name in names:
            postgres_a.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", "postgres")
        postgres_a.sql("DROP ROLE equality_a; DROP ROLE equality_b", "postgres")


@pytest.fixture(scope="module")
def told(copies: tuple[Place, Place, Place]) -> list[str]:
    source, _, damaged = copies
    return equality.differences(source, damaged)


def test_a_true_copy_is_equal(copies: tuple[Place, Place, Place]) -> None:
    source, copy, _ = copies
    assert equality.differences(source, copy) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_found(told: list[str], damage: str) -> None:
    _, line = DAMAGES[damage]
    of_its_kind = [found for found in told if found.partition(":")[0] == line.partition(":")[0]]
    assert any(re.match(line, found) for found in told), "\n".join(of_its_kind)


def test_text_of_the_dump_is_compared_too(told: list[str]) -> None:
    assert any(line.startswith("pg_dump: <") for line in told)


def test_comparing_leaves_nothing_behind(copies: tuple[Place, Place, Place], told: list[str]) -> None:
    for server, name in copies:
        assert server.sql("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'", name) == []
        assert server.sql("SELECT 1 FROM pg_namespace WHERE nspname ~ 'amcheck'", name) == []
