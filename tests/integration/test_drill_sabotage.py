"""The comparison of a drill finds and names whatever is not as the backup has it, and blames nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pgbackup.commands.drilling import assertions, compare
from pgbackup.commands.drilling.verdict import Drill
from pgbackup.commands.job import Job
from pgbackup.commands.loading.record import Record
from pgbackup.errors import BackupBad, ConfigurationError, Unavailable
from pgbackup.formats import loadable
from pgbackup.formats.dumpfile import Contents
from pgbackup.report.events import Events
from pgbackup.report.progress import reporting
from pgbackup.store import folder, source
from pgbackup.store.source import Source

from tests.support import restores, runs, servers
from tests.support.effort import wide
from tests.support.runs import Work
from tests.support.servers import Server, docker

CONTENT = """
CREATE ROLE clerk;
CREATE TABLE users (id serial PRIMARY KEY, name varchar(20) NOT NULL, kind text CHECK (kind IN ('a', 'b')));
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, of_user int NOT NULL REFERENCES users,
  note varchar(20) CHECK (note IN ('x', 'y')), twice bigint GENERATED ALWAYS AS (of_user * 2) STORED);
INSERT INTO users (name, kind) SELECT 'user' || n, 'a' FROM generate_series(1, 5000) AS n;
INSERT INTO orders (of_user, note) SELECT id, 'x' FROM users;
CREATE INDEX of_note ON orders (note) WHERE note = 'x';
CREATE VIEW known AS SELECT name FROM users WHERE kind IN ('a', 'b');
CREATE MATERIALIZED VIEW counted AS SELECT kind, count(*) FROM users GROUP BY 1;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 2';
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER notes BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION noted();
CREATE POLICY own ON users USING (name = current_user);
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE SEQUENCE alone; SELECT setval('alone', 41);
COMMENT ON TABLE users IS 'who';
GRANT SELECT ON users TO clerk;
ALTER TABLE orders ADD CONSTRAINT later CHECK (id > 0) NOT VALID;
CREATE TABLE empty (id int);
CREATE TABLE logged (id int, CONSTRAINT positive EXCLUDE USING btree (id WITH =));
SELECT lo_from_bytea(4711, 'large');
"""
# What was done to the loaded database, and what the drill then has to say.
SABOTAGE = {
    "a row is missing": ("DELETE FROM orders WHERE id = 77", "public.orders has 4999 and 5000 in the backup"),
    "a row is there twice": ("INSERT INTO empty VALUES (1)", "public.empty has 1 and 0 in the backup"),
    "a row is another": ("UPDATE users SET name = 'User77' WHERE id = 77", "rows of public.users are not as in"),
    "two values were exchanged": (
        "UPDATE orders SET of_user = 7 - of_user WHERE id IN (3, 4)",
        "rows of public.orders are not as in the backup",
    ),
    "a table is missing": ("DROP TABLE empty", "public.empty has no rows at all and 0 in the backup"),
    "a table is too many": ("CREATE TABLE further AS SELECT 1", "public.further is not in the backup, and has 1 rows"),
    "a function is missing": ("DROP FUNCTION twice", "FUNCTION twice(integer) in schema public is missing"),
    "a function is another": (
        "CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 3'",
        "FUNCTION twice(integer) in schema public is not as in the backup",
    ),
    "a constraint is missing": (
        "ALTER TABLE orders DROP CONSTRAINT orders_of_user_fkey",
        "FK CONSTRAINT orders orders_of_user_fkey in schema public is missing",
    ),
    "a constraint is not valid": (
        "ALTER TABLE orders DROP CONSTRAINT orders_of_user_fkey;"
        " ALTER TABLE orders ADD CONSTRAINT orders_of_user_fkey FOREIGN KEY (of_user) REFERENCES users NOT VALID",
        "constraint orders_of_user_fkey of public.orders is not valid",
    ),
    "a check is not valid": (
        "ALTER TABLE orders DROP CONSTRAINT orders_note_check;"
        " ALTER TABLE orders ADD CONSTRAINT orders_note_check CHECK (note IN ('x', 'y')) NOT VALID",
        "constraint orders_note_check of public.orders is not valid",
    ),
    "an index is missing": ("DROP INDEX of_note", "INDEX of_note in schema public is missing"),
    "an index is not usable": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'of_note'::regclass",
        "of_note",
    ),
    "a trigger is missing": ("DROP TRIGGER notes ON orders", "TRIGGER orders notes in schema public is missing"),
    "a trigger is off": ("ALTER TABLE orders DISABLE TRIGGER notes", "TRIGGER orders notes in schema public is not as"),
    "a policy is missing": ("DROP POLICY own ON users", "POLICY users own in schema public is missing"),
    "row security is on": (
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        "ROW SECURITY users in schema public is not in",
    ),
    "a right is missing": ("REVOKE SELECT ON users FROM clerk", "ACL TABLE users in schema public is missing"),
    "an owner is another": ("ALTER TABLE empty OWNER TO clerk", "TABLE empty in schema public is not as in the backup"),
    "a column has another type": (
        "ALTER TABLE empty ALTER id TYPE bigint",
        "TABLE empty in schema public is not as in the backup",
    ),
    "a view is missing": ("DROP VIEW known", "VIEW known in schema public is missing"),
    "a value of a type is missing": (
        "DROP TYPE mood; CREATE TYPE mood AS ENUM ('glad')",
        "TYPE mood in schema public is not as in the backup",
    ),
    "a comment is missing": ("COMMENT ON TABLE users IS NULL", "COMMENT TABLE users in schema public is missing"),
    "a sequence stands elsewhere": (
        "SELECT setval('alone', 40)",
        "sequence 'public.alone' stands at 40, true, and at 41",
    ),
    "a large object is another": ("SELECT lo_put(4711, 0, 'L')", "the large objects are not as in the backup"),
    "a large object is missing": ("SELECT lo_unlink(4711)", "the large objects are not as in the backup"),
}
# What can be done to one database at the same time: `make faults` does each alone.
TOGETHER = [
    [
        "a row is missing", "a row is there twice", "a row is another", "a function is missing", "an index is missing",
        "a trigger is missing", "a policy is missing", "a right is missing", "a column has another type",
        "a view is missing", "a value of a type is missing", "a comment is missing", "a sequence stands elsewhere",
        "a large object is another",
    ],
    [
        "two values were exchanged", "a table is missing", "a table is too many", "a function is another",
        "a constraint is missing", "a check is not valid", "an index is not usable", "a trigger is off",
        "row security is on", "a large object is missing",
    ],
    ["a constraint is not valid", "an owner is another"],
]  # fmt: skip
assert sorted(itertools.chain(*TOGETHER)) == sorted(SABOTAGE)


@dataclass
class Stand:
    """A backup, and the database that was loaded from it."""

    work: Work
    source: Source
    contents: Contents
    sql: Callable[[str, str], object]
    job: Callable[[], Job]

    def compared(self, database: str) -> Drill:
        """Compare a database with the backup. Raise BackupBad."""
        made = Drill(Record("auth", "auth_db", "drill"))
        client = self.work.client
        compare.compare(self.job(), client.of(database), client.command, self.source, self.contents, made)
        return made


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[Server]:
    """PostgreSQL 15 with auth_db of auth_user; its image has amcheck."""
    with servers.running(15, name="pgbackup-test-drill-", database="auth_db", user="auth_user") as started:
        yield started


@pytest.fixture(scope="module")
def stand(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    lab = restores.in_container(server, tmp_path_factory.mktemp("drill"), "sidecar")
    lab.sql(CONTENT, "auth_db")
    file = lab.backup()
    ended = lab.restore("--yes", "--into", "loaded", file.name)
    assert ended.status == 0, ended.stderr
    opened = source.opened(file, "auth_db")
    contents, refused = loadable.read(opened.descriptor)
    assert not refused

    def sql(text: str, database: str) -> object:
        with psycopg.connect(server.dsn(database), autocommit=True, options="-c allow_system_table_mods=on") as session:
            session.execute(text.encode())
        return None

    with (
        runs.opened(server, "sidecar") as work,
        folder.opened(lab.directory, create=False) as place,
        reporting(True) as reporter,
    ):
        yield Stand(
            work, opened, contents, sql, lambda: Job(work.target, work.settings, place, work.run, Events(()), reporter)
        )


@pytest.fixture
def copied(stand: Stand) -> Iterator[str]:
    stand.sql("CREATE DATABASE sabotaged TEMPLATE loaded", "postgres")
    yield "sabotaged"
    stand.sql("DROP DATABASE sabotaged WITH (FORCE)", "postgres")


def test_what_was_loaded_is_equal_and_everything_was_looked_at(stand: Stand, copied: str) -> None:
    made = stand.compared(copied)
    wanted = "rows, content, objects, sequences, large objects, pg_amcheck, indexes, constraints"
    assert ", ".join(made.steps) == wanted
    assert made.notes == []


@pytest.mark.fault(171, "what was loaded is not as the backup has it")
@wide("done", TOGETHER, [[what] for what in SABOTAGE], ids=lambda done: done[0])
def test_sabotage_is_found_and_named(
    stand: Stand, copied: str, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_TOLD", 2 * len(SABOTAGE))
    for what in done:
        stand.sql(SABOTAGE[what][0], copied)
    with pytest.raises(BackupBad) as caught:
        stand.compared(copied)
    for what in done:
        assert SABOTAGE[what][1] in caught.value.message, what


@pytest.mark.fault(171, "a page of what was loaded is corrupt")
@pytest.mark.parametrize("relation", ["users", "users_pkey"])
def test_a_page_that_is_corrupt_is_found(stand: Stand, server: Server, relation: str) -> None:
    # Copied by the system, the pages are not in the server's memory.
    stand.sql("CREATE DATABASE sabotaged TEMPLATE loaded STRATEGY file_copy", "postgres")
    with psycopg.connect(server.dsn("sabotaged"), autocommit=True) as session:
        (path,) = session.execute(f"SELECT pg_relation_filepath('{relation}')").fetchall()[0]
        (data,) = session.execute("SHOW data_directory").fetchall()[0]
    # The first tuples of the second page, at its end.
    overwrite = f"head -c 600 /dev/zero | tr '\\0' 'U' | dd of='{data}/{path}' bs=1 seek=15700 conv=notrunc status=none"
    docker("exec", "-u", "postgres", server.name, "sh", "-c", overwrite)
    try:
        with pytest.raises((BackupBad, Unavailable), match=r"pg_amcheck|pg_dump"):
            stand.compared("sabotaged")
    finally:
        stand.sql("DROP DATABASE sabotaged WITH (FORCE)", "postgres")


def test_rows_in_another_order_are_equal_and_that_is_noted(stand: Stand, copied: str) -> None:
    stand.sql("UPDATE users SET kind = 'b' WHERE id = 9; UPDATE users SET kind = 'a' WHERE id = 9", copied)
    made = stand.compared(copied)
    assert made.notes == ["compared row by row, for their order is another: public.users"]


def test_a_sequence_that_is_behind_as_it_was_before_is_a_note(stand: Stand, server: Server, tmp_path: Path) -> None:
    lab = restores.in_container(server, tmp_path, "sidecar")
    lab.sql("SELECT setval('users_id_seq', 10)", "auth_db")
    ended = lab.place.run("-q", "auth")
    assert ended.status == 0
    lab.sql("SELECT setval('users_id_seq', 5000)", "auth_db")
    opened = source.opened(lab.files()[-1], "auth_db")
    contents, _ = loadable.read(opened.descriptor)
    stand.sql("CREATE DATABASE sabotaged TEMPLATE loaded", "postgres")
    try:
        stand.sql("SELECT setval('users_id_seq', 10)", "sabotaged")
        made = Stand(stand.work, opened, contents, stand.sql, stand.job).compared("sabotaged")
    finally:
        stand.sql("DROP DATABASE sabotaged WITH (FORCE)", "postgres")
    assert made.notes == ["sequence public.users_id_seq stands at 10, and public.users.id holds more"]


@pytest.mark.parametrize(
    ("queries", "told"),
    [
        ("SELECT count(*) = 5000 FROM users", ""),
        ("SELECT true, true; -- all\nSELECT bool_and(of_user > 0) FROM orders;", ""),
        ("SELECT count(*) > 5000 FROM users", "answered 'f'"),
        ("SELECT id > 1 FROM users WHERE id < 3 ORDER BY id", "answered 'f\\nt'"),
        ("SELECT true WHERE false", "gave no row"),
        ("SELECT NULL::bool", "gave no row"),
        ("SELECT 1 FROM nowhere", "cannot be asked: psql on 'loaded' ended with status 3"),
        ("UPDATE users SET name = 'x'", "gave no row"),
    ],
)
def test_an_assertion_is_true_or_told(stand: Stand, tmp_path: Path, queries: str, told: str) -> None:
    file = tmp_path / "queries.sql"
    file.write_text(queries)
    asked = assertions.read(file, "AUTH_DRILL_SQL")
    if not told:
        assertions.check(stand.work.client.of("loaded"), asked, 20)
        return
    with pytest.raises(BackupBad) as caught:
        assertions.check(stand.work.client.of("loaded"), asked, 20)
    assert told in caught.value.message


@pytest.mark.parametrize("text", ["", "-- nothing\n;\n", None])
def test_a_file_without_a_query_is_refused_before_anything_is_loaded(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "queries.sql"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"AUTH_DRILL_SQL|holds no query|cannot be read"):
        assertions.read(file, "AUTH_DRILL_SQL")
