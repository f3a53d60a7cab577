"""What was loaded is compared as what it is: partitions that changed, thousands of tables, triggers that write."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.support import backups, restores, servers, side_by_side
from tests.support.effort import wide
from tests.support.restores import Lab

PARTED = """
CREATE TYPE state AS ENUM ('new', 'paid', 'void');
CREATE TABLE pay (id int, s state) PARTITION BY HASH (s);
CREATE TABLE pay_0 PARTITION OF pay FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE pay_1 PARTITION OF pay FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO pay SELECT n, (enum_range(NULL::state))[1 + n % 3] FROM generate_series(1, 900) AS n;
CREATE TABLE deep (id int, s state) PARTITION BY RANGE (id);
CREATE TABLE deep_plain PARTITION OF deep FOR VALUES FROM (0) TO (100);
CREATE TABLE deep_hash PARTITION OF deep FOR VALUES FROM (100) TO (1000) PARTITION BY HASH (s);
CREATE TABLE deep_hash_0 PARTITION OF deep_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE deep_hash_1 PARTITION OF deep_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO deep SELECT n, (enum_range(NULL::state))[1 + n % 3] FROM generate_series(1, 300) AS n;
CREATE TABLE "a.b ü" (id int) PARTITION BY LIST (id);
CREATE SCHEMA other;
CREATE TABLE other."a.b ü" PARTITION OF "a.b ü" DEFAULT;
INSERT INTO "a.b ü" SELECT generate_series(1, 50);
CREATE TABLE parent (id int);
CREATE TABLE child (more int) INHERITS (parent);
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 2), (3, 3);
"""
SETTINGS = {"max_locks_per_transaction": 10}  # so that few tables are more than the lock table holds
ROWS = {"pay": 900, "deep": 300, '"a.b ü"': 50, "parent": 3, "child": 2}


@pytest.fixture(scope="module")
def lab_of(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Lab]]:
    """A function: major version -> a database `shop` with nothing in it."""
    labs: dict[int, Lab] = {}
    with ExitStack() as stack:

        def of(major: int) -> Lab:
            if major not in labs:
                name = f"pgbackup-test-equal{major}-"
                server = stack.enter_context(
                    servers.running(major, name=name, database="shop", user="shop", settings=SETTINGS)
                )
                labs[major] = restores.in_container(server, tmp_path_factory.mktemp(str(major)))
            lab = labs[major]
            for name in lab.databases():
                lab.sql(f"DROP DATABASE {restores.quoted(name)} WITH (FORCE)")
            lab.sql("CREATE DATABASE shop")
            return lab

        yield of


def counts(lab: Lab, database: str) -> dict[str, object]:
    return {name: lab.sql(f"SELECT count(*) FROM {name}", database)[0][0] for name in ROWS}


def by_hand(lab: Lab, *options: str) -> str:
    """Make a backup as the guide does, and return its name."""
    assert lab.server
    file = lab.directory / "shop_manual_20240115_143000.sql.gz"
    lab.directory.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    words = [lab.server.name, "pg_dump", "-U", "shop", *options, "shop"]
    subprocess.run(["sh", "-c", f'docker exec "$@" | gzip > "{file}"', "sh", *words], check=True)
    return file.name


@wide("size", ["large"], ["small", "large"])
@pytest.mark.fault(110, "rows that are loaded through the root of partitions")
def test_rows_that_are_loaded_through_a_partitioned_table_are_found_again(
    lab_of: Callable[[int], Lab], tmp_path: Path, size: str
) -> None:
    """An enum's value hashes by its OID, so pg_dump loads such partitions through their root; others as they are."""
    lab = lab_of(15)
    if size == "large":
        lab.place.root = side_by_side.copied(tmp_path / "copy")
    lab.sql(PARTED, "shop")
    try:
        ended = lab.restore("--yes", "--into", "copy", lab.backup().name)
    finally:
        lab.place.root = backups.ROOT
    assert ended.status == 0, ended.stderr
    assert counts(lab, "copy") == ROWS


@wide(
    "option",
    [["--inserts", "--load-via-partition-root"]],
    [["--load-via-partition-root"], ["--inserts", "--load-via-partition-root"], []],
)
@pytest.mark.fault(110, "files by hand with rows through the root of partitions")
def test_a_file_made_by_hand_with_any_way_through_partitions_is_restored(
    lab_of: Callable[[int], Lab], option: list[str]
) -> None:
    lab = lab_of(15)
    lab.sql(PARTED, "shop")
    ended = lab.restore("--yes", "--into", "copy", by_hand(lab, *option))
    assert ended.status == 0, ended.stderr
    assert counts(lab, "copy") == ROWS


@wide("lost", ["deep_hash_1"], ["pay_0", "deep_plain", "deep_hash_1", "child"])
@pytest.mark.fault(110, "rows lost on the way through the root of partitions")
def test_rows_that_got_lost_are_found(lab_of: Callable[[int], Lab], tmp_path: Path, lost: str) -> None:
    """A bug is put into the suite: one row goes before all are counted."""
    lab = lab_of(15)
    lab.sql(PARTED, "shop")
    file = lab.backup()
    delete = f"DELETE FROM ONLY {lost} WHERE ctid = (SELECT min(ctid) FROM ONLY {lost})"
    compare = '        with record.timed("compare"):\n'
    bug = (
        "commands/loading/fill.py",
        compare,
        f"{compare}            ask.query('SET search_path = public; {delete}', database=name)\n",
    )
    lab.place.root = backups.mutated(tmp_path / "copy", bug)
    try:
        ended = lab.restore("--yes", file.name)
    finally:
        lab.place.root = backups.ROOT
    assert ended.status == 65, ended.stderr
    assert "what was loaded is not what the backup holds: public." in ended.stderr
    assert counts(lab, "shop") == ROWS


TRIGGERS = """
CREATE TABLE ddl_log (n int GENERATED ALWAYS AS IDENTITY, tag text);
CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO public.ddl_log (tag) VALUES (tg_tag); END$$;
CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no DDL here'; END$$;
CREATE TABLE t AS SELECT n FROM generate_series(1, 10) AS n;
CREATE MATERIALIZED VIEW mv AS SELECT * FROM t;
CREATE INDEX ON t (n);
CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION note();
COMMENT ON EVENT TRIGGER note IS 'notes';
CREATE EVENT TRIGGER late ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION note();
ALTER EVENT TRIGGER late DISABLE;
CREATE EVENT TRIGGER forbid ON ddl_command_start EXECUTE FUNCTION forbid();
ALTER EVENT TRIGGER forbid ENABLE ALWAYS;
"""
LOGINS = """
CREATE TABLE logins (who text, at timestamptz DEFAULT now());
CREATE FUNCTION login() RETURNS event_trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO public.logins (who) VALUES (session_user); END$$;
CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS
  $$BEGIN IF session_user <> 'app' THEN RAISE 'who are you?'; END IF; END$$;
CREATE EVENT TRIGGER login ON login EXECUTE FUNCTION login();
ALTER EVENT TRIGGER login ENABLE ALWAYS;
"""
EVENTS = "SELECT evtname, evtevent, evtenabled, evttags, obj_description(oid, 'pg_event_trigger') FROM pg_event_trigger"


@wide("major, size", [(15, "large")], [(15, "small"), (15, "large"), (18, "small")])
@pytest.mark.fault(112, "event triggers that write or forbid during a load")
def test_event_triggers_neither_write_nor_forbid_while_a_backup_is_loaded(
    lab_of: Callable[[int], Lab], tmp_path: Path, major: int, size: str
) -> None:
    lab = lab_of(major)
    if size == "large":
        lab.place.root = side_by_side.copied(tmp_path / "copy")
    lab.sql(TRIGGERS, "shop")
    try:
        ended = lab.restore("--yes", "--into", "copy", lab.backup().name)
        assert ended.status == 0, ended.stderr
        ended = lab.restore("--yes", by_hand(lab))
        assert ended.status == 0, ended.stderr
    finally:
        lab.place.root = backups.ROOT
    (kept,) = lab.kept()
    lab.sql(f'ALTER DATABASE "{kept}" ALLOW_CONNECTIONS true')
    for query in ("SELECT * FROM ddl_log ORDER BY 1", f"{EVENTS} ORDER BY 1", "SELECT count(*) FROM mv"):
        assert lab.sql(query, "shop") == lab.sql(query, "copy") == lab.sql(query, kept)


@pytest.mark.fault(112, "login triggers that write or refuse")
def test_triggers_on_logins_neither_write_nor_refuse(lab_of: Callable[[int], Lab]) -> None:
    """What pg_dump's own login writes is in its dump; that of the restore is not."""
    lab = lab_of(18)
    lab.sql(LOGINS, "shop")

    def logins(database: str) -> int:
        assert lab.server
        words = ["env", "PGOPTIONS=-c event_triggers=off", "psql", "-XAtU", "shop", "-d", database]
        return int(lab.server.exec([*words, "-c", "SELECT count(*) FROM logins"]).stdout)

    file = lab.backup()
    ended = lab.restore("--yes", "--into", "copy", file.name)
    assert ended.status == 0, ended.stderr
    assert 0 < logins("copy") <= logins("shop")
    lab.sql("CREATE EVENT TRIGGER refuse ON login EXECUTE FUNCTION refuse()", "shop")
    before = logins("shop")
    ended = lab.restore("--yes", "--in-place", lab.backup().name)
    assert ended.status == 0, ended.stderr
    assert logins("shop") == before


@pytest.mark.fault(111, "more tables and indexes than the lock table holds")
def test_more_tables_than_locks_are_counted_without_taking_those_that_others_need(
    lab_of: Callable[[int], Lab],
) -> None:
    """The lock table has room for 10 a connection; counting them in one transaction takes more than all of it."""
    lab = lab_of(15)
    make = "DO $$ BEGIN FOR n IN {} LOOP EXECUTE format('CREATE TABLE t_%s (a int, b int, c int)', n);"
    make += " EXECUTE format('CREATE INDEX ON t_%s (a); CREATE INDEX ON t_%1$s (b); CREATE INDEX ON t_%1$s (c)', n);"
    for start in range(0, 1000, 100):
        lab.sql(make.format(f"{start}..{start + 99}") + " END LOOP; END $$", "shop")
    with pytest.raises(psycopg.Error, match="shared memory"):
        lab.sql(
            "DO $$ BEGIN FOR n IN 0..999 LOOP EXECUTE format('SELECT count(*) FROM t_%s', n); END LOOP; END $$", "shop"
        )
    ended = lab.restore("--yes", lab.backup().name)
    assert ended.status == 0, ended.stderr
    assert "~" not in ended.stderr
