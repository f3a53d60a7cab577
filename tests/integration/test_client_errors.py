"""What can be wrong with a database or with Docker is told apart: the status, the object by name, what to type."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pgbackup.database.clients import container, failures
from pgbackup.database.loading.psql import explained
from pgbackup.errors import PermissionDenied, Unavailable
from pgbackup.report import log
from pgbackup.report.events import Event

from tests.support import runs, servers
from tests.support.runs import opened
from tests.support.servers import Server, docker


@pytest.fixture(scope="module")
def lab(engine: str) -> Iterator[Server]:
    with runs.lab(rows=1) as server:
        yield server


@pytest.fixture(scope="module")
def newest(engine: str) -> Iterator[Server]:
    with servers.running(18, database="shop", user="keeper") as server:
        server.sql("CREATE TABLE goods AS SELECT 1 AS id")
        yield server


# Errors told apart: the right exception, whose message names the object


def failing(work: runs.Work) -> Exception:
    """What a backup would raise: of the facts, else of pg_dump."""
    try:
        work.gather()
    except (Unavailable, PermissionDenied) as error:
        return error
    with work.client.reading(work.pg_dump("--lock-wait-timeout=300")) as stream:
        for _ in stream.chunks(10):
            pass
        status = stream.program.wait(10)
        assert status != 0, "no error found, the test is broken"
        return failures.explained(stream.program.stderr, status, "pg_dump", work.target)


SQL_ERRORS = {
    "missing": ("", "gone", "keeper", Unavailable, "there is no database 'gone'", "LAB_DATABASE"),
    "no role": ("", "shop", "nobody", PermissionDenied, "role 'nobody' in", "CREATE ROLE"),
    "no login": ("CREATE ROLE group_only", "shop", "group_only", PermissionDenied, "'group_only' in", "LAB_USER"),
    "invalid": (
        "CREATE DATABASE half; UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'",
        "half",
        "keeper",
        Unavailable,
        "'half' is invalid",
        "DROP DATABASE",
    ),
    "closed": (
        "CREATE DATABASE closed ALLOW_CONNECTIONS false",
        "closed",
        "keeper",
        Unavailable,
        "'closed' is closed to connections",
        'ALTER DATABASE "closed" ALLOW_CONNECTIONS true',
    ),
    "no connect": (
        "CREATE ROLE guest LOGIN; CREATE DATABASE private; REVOKE CONNECT ON DATABASE private FROM public",
        "private",
        "guest",
        PermissionDenied,
        "'guest' may not connect to 'private'",
        'GRANT CONNECT ON DATABASE "private" TO "guest"',
    ),
    "unreadable": ("CREATE ROLE reader LOGIN", "shop", "reader", PermissionDenied, "table goods", "pg_read_all_data"),
    "row security": (
        "CREATE ROLE clerk LOGIN IN ROLE pg_read_all_data;"
        "CREATE TABLE secret (x int); ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
        "shop",
        "clerk",
        PermissionDenied,
        "row level security hides rows of 'shop' from role 'clerk'.*\"secret\"",
        "BYPASSRLS",
    ),
    "large object": (
        "CREATE ROLE blind LOGIN BYPASSRLS IN ROLE pg_read_all_data; SELECT lo_create(4711)",
        "shop",
        "blind",
        PermissionDenied,
        "large object 4711",
        "LAB_USER",
    ),
    "one connection": (
        "CREATE ROLE single LOGIN CONNECTION LIMIT 0",
        "shop",
        "single",
        Unavailable,
        "out of connections",
        "max_connections",
    ),
}


@pytest.mark.parametrize("case", SQL_ERRORS)
def test_what_the_server_refuses_is_told_apart(lab: Server, case: str) -> None:
    setup, database, user, kind, message, hint = SQL_ERRORS[case]
    for statement in filter(None, setup.split("; ")):
        lab.sql(statement)
    with opened(lab, "exec", database=database, user=user, WAIT_SECONDS="0") as work:
        error = failing(work)
    assert type(error) is kind
    assert re.search(message, error.message), error.message
    assert hint in (error.hint or ""), error.hint


def test_a_table_that_stays_locked_is_named(lab: Server) -> None:
    with opened(lab) as work, lab.connect(autocommit=False) as other:
        other.execute("LOCK TABLE goods")
        error = failing(work)
    assert isinstance(error, Unavailable)
    assert "public.goods" in error.message
    assert "locked" in error.message


def test_a_pg_dump_older_than_the_server_is_told(newest: Server) -> None:
    with runs.direct(newest, 16) as work:
        error = failing(work)
    assert isinstance(error, Unavailable)
    assert "older than the server" in error.message
    assert "18." in error.message
    assert "LAB_CLIENT=auto" in (error.hint or "")


def test_what_docker_refuses_is_told_apart(lab: Server, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="container 'absent' is not there"):
        chosen = runs.settings("absent", "keeper", "shop")
        container.find(chosen.targets[0], chosen)
    with pytest.raises(Unavailable, match="Docker cannot be reached"), runs.docker_host(f"unix://{tmp_path}/none"):
        container.find(*runs.target_of(lab))
    with pytest.raises(Unavailable, match="there is no program 'dokker'"):
        container.find(*runs.target_of(lab, DOCKER="dokker"))
    if os.geteuid() == 0:
        stranger = "setpriv --reuid=65534 --regid=65534 --clear-groups docker"
        with pytest.raises(PermissionDenied, match="may not use Docker") as refused:
            container.find(*runs.target_of(lab, DOCKER=stranger))
        assert "usermod -aG docker" in (refused.value.hint or "")


def test_a_container_that_was_stopped_or_replaced_is_told(server: Callable[..., Server]) -> None:
    made = server(15, name="pgbackup-test-replaced-")
    with opened(made) as work:
        with work.client.reading(work.pg_dump()) as stream:
            docker("stop", "-t", "0", made.name)
            for _ in stream.chunks(10):
                pass
        with pytest.raises(Unavailable, match=f"container '{made.name}' is exited") as stopped:
            work.gather()
        assert stopped.value.hint == f"docker start {made.name}"
        docker("rm", "-fv", made.name)
        docker("create", "--name", made.name, made.image)
        with pytest.raises(Unavailable, match="was replaced"):
            raise container.blamed(stopped.value, work.client)


# What a server quotes of a row is for the terminal only

SECRET = "sEcReT"
_TABLES = """
CREATE SCHEMA quoting;
SET search_path = quoting;
CREATE TYPE mood AS ENUM ('good');
CREATE TABLE parent (id text PRIMARY KEY);
CREATE TABLE child (id text REFERENCES parent, n smallint NOT NULL, c text CHECK (c <> 'sEcReT'));
CREATE TABLE doubled AS SELECT 'sEcReT' AS id FROM generate_series(1, 2);
CREATE TABLE many (m money, i integer, d date, j jsonb, a integer[], e mood, x xml, u uuid, r int4range, t timestamptz,
                   p point, b bytea, n inet, v bit(3), z interval, o oid, l "char", f float4, s varchar(3), y tsquery);
CREATE TABLE parts (id text) PARTITION BY LIST (id);
CREATE FUNCTION raising() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'not allowed: %', NEW.id USING DETAIL = NEW.id; END $$;
CREATE TABLE guarded (id text);
CREATE TRIGGER t BEFORE INSERT ON guarded FOR EACH ROW EXECUTE FUNCTION raising();
INSERT INTO parent VALUES ('sEcReT');
"""
_COLUMNS = ["m", "i", "d", "j", "a", "e", "x", "u", "r", "t", "p", "b", "n", "v", "z", "o", "f", "s", "y"]
_FAILING = [
    *(f"COPY many ({column}) FROM stdin;\nsEcReT {{[(<\\\\\n\\.\n" for column in _COLUMNS),
    *(f"COPY many ({column}) FROM stdin;\n999999999999sEcReT\n\\.\n" for column in "midoufntpvzre"),
    "COPY parent FROM stdin;\nsEcReT\n\\.\n",
    "COPY parent FROM stdin;\nsEcReT\tsEcReT\n\\.\n",
    "COPY child FROM stdin;\nsEcReT\n\\.\n",
    "COPY child FROM stdin;\nother sEcReT\t1\tx\n\\.\n",
    "COPY child FROM stdin;\nsEcReT\t\\N\tx\n\\.\n",
    "COPY child FROM stdin;\nsEcReT\t1\tsEcReT\n\\.\n",
    "COPY parent FROM stdin;\nsEcReT\\xff\\x41\n\\.\n",
    "COPY parts FROM stdin;\nsEcReT\n\\.\n",
    "COPY guarded FROM stdin;\nsEcReT\n\\.\n",
    "sEcReT;",
    "CREATE UNIQUE INDEX ON doubled (id);",
    "SELECT 'sEcReT'::integer;",
    "SELECT to_date('sEcReT', 'YYYY');",
    "SELECT timestamp '2024-01-01' AT TIME ZONE 'sEcReT';",
    "SELECT regexp_match('x', '(sEcReT');",
    "SET TimeZone = 'sEcReT';",
    "ALTER TABLE doubled ALTER id TYPE integer USING id::integer;",
    "DO $$ BEGIN EXECUTE 'SELECT ''sEcReT''::integer'; END $$;",
]


@pytest.mark.parametrize("major", [15, 18])
def test_no_value_of_a_row_is_written_down(major: int, lab: Server, newest: Server) -> None:
    server = lab if major == 15 else newest
    psql = ["exec", "-i", server.name, "psql", "-X", "-q", "-f", "-", "-U", server.user, "-d", "shop"]
    try:
        # Each on its own, with a line between what is said of them.
        done = docker(*psql, stdin="\n\\warn -----\n".join([_TABLES, *_FAILING]))
        said = done.stderr.split("-----\n")[1:]
        assert len(said) == len(_FAILING)
        target, _ = runs.target_of(server)
        shown = 0
        for statement, stderr in zip(_FAILING, said, strict=True):
            assert "ERROR:  " in stderr, f"it has not failed: {statement}"
            for error in (failures.explained(stderr, 3, "psql", target), explained(stderr, 3, target)):
                shown += SECRET in error.message
                written = log.line(Event("ERROR", "shop", "restore.failed", {"reason": error.message}), 0.0)
                assert SECRET.lower() not in written.lower(), written
                assert "ERROR:  " in written, "what kind of failure it was is told"
        assert shown > len(_FAILING), "the checker is broken: the server does not quote what it should"
    finally:
        server.sql("DROP SCHEMA quoting CASCADE", "shop")
