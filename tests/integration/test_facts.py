"""What a backup has to know about a database beyond its dump is asked in one round trip, and is true."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest
from pgbackup.database.questions import facts
from pgbackup.database.questions.facts import END_EARLIER
from pgbackup.errors import Unavailable

from tests.support import runs, servers
from tests.support.runs import direct, opened, soon
from tests.support.servers import Server, docker

_WORLD = """
CREATE ROLE owner_of_all NOLOGIN;
CREATE ROLE "Odd ""role'; --" NOLOGIN CREATEDB CONNECTION LIMIT 3;
CREATE ROLE bystander;
CREATE TABLE plain (x int);
CREATE TABLE parted (x int) PARTITION BY RANGE (x);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (2);
CREATE UNLOGGED TABLE careless (x int);
CREATE VIEW not_a_table AS SELECT 1;
CREATE EXTENSION pg_trgm;
CREATE SCHEMA other;
CREATE TABLE other.owned (x int);
ALTER TABLE other.owned OWNER TO owner_of_all;
GRANT SELECT ON plain TO "Odd ""role'; --";
ALTER DATABASE world SET work_mem = '7MB';
ALTER ROLE owner_of_all IN DATABASE world SET statement_timeout = '5s';
GRANT TEMPORARY ON DATABASE world TO owner_of_all;
ALTER DATABASE world CONNECTION LIMIT 17;
COMMENT ON DATABASE world IS 'it''s "the" world';
"""


@pytest.fixture(scope="module")
def world(engine: str) -> Iterator[Server]:
    with servers.running(15, database="world", user="keeper", settings={"max_connections": 12}) as server:
        server.psql("-f", "-", stdin=_WORLD)
        yield server


def test_they_are_what_was_made(world: Server) -> None:
    with opened(world) as work:
        found = work.gather()
    details = found.details
    assert found.server_version.startswith("15.")
    assert abs(found.size_bytes - world.sql("SELECT pg_database_size('world')")[0][0]) < 1 << 20
    assert found.tables == 5
    assert details["encoding"] == "UTF8"
    assert details["owner"] == "keeper"
    assert details["comment"] == 'it\'s "the" world'
    assert details["extensions"].keys() == {"plpgsql", "pg_trgm"}
    assert details["tablespace"] == "pg_default"
    assert details["database"]["datconnlimit"] == 17
    assert "owner_of_all=T/keeper" in details["acl"]
    assert {"role": None, "settings": ["work_mem=7MB"]} in details["settings"]
    assert {"role": "owner_of_all", "settings": ["statement_timeout=5s"]} in details["settings"]
    assert details["roles"].keys() == {"keeper", "owner_of_all", "Odd \"role'; --"}
    assert details["in_recovery"] is False
    json.dumps(details)


def test_its_roles_can_be_made_again(world: Server) -> None:
    with opened(world) as work:
        roles = work.gather().details["roles"]
    options = (
        "rolsuper, rolcreatedb, rolcreaterole, rolcanlogin, rolreplication, rolbypassrls, rolinherit, rolconnlimit"
    )
    compare = f"SELECT {options} FROM pg_roles WHERE rolname = %s"
    with world.connect(autocommit=False) as session:
        for name, statement in roles.items():
            renamed, count = re.subn('^CREATE ROLE ("([^"]|"")+"|[^ ]+)', "CREATE ROLE again", statement)
            assert count == 1
            session.execute(renamed.encode())
            made = session.execute(compare.encode(), ["again"]).fetchall()
            assert made == session.execute(compare.encode(), [name]).fetchall(), statement
            assert "PASSWORD" not in statement
            session.rollback()


def test_the_role_of_initdb_is_mentioned_only_where_it_owns_something(world: Server) -> None:
    world.sql("CREATE DATABASE theirs OWNER owner_of_all TEMPLATE template0")
    with opened(world, "exec", database="theirs") as work:
        assert work.gather().details["roles"].keys() == {"owner_of_all"}
        world.sql("CREATE TABLE mine ()", database="theirs")
        assert work.gather().details["roles"].keys() == {"owner_of_all", "keeper"}


@pytest.mark.parametrize(
    ("encoding", "locale"), [("LATIN1", "en_US"), ("EUC_JP", "ja_JP.eucjp"), ("SQL_ASCII", "C"), ("UTF8", "tr_TR.utf8")]
)
def test_the_encoding_of_a_database_does_not_garble_its_facts(world: Server, encoding: str, locale: str) -> None:
    word = {"LATIN1": "größe", "EUC_JP": "大きさ", "UTF8": "ığ", "SQL_ASCII": "size"}[encoding]
    world.sql(f"CREATE DATABASE {encoding} ENCODING {encoding} LOCALE '{locale}' TEMPLATE template0")
    with world.connect(encoding.lower(), client_encoding="UTF8") as session:
        session.execute(f"COMMENT ON DATABASE {encoding} IS '{word}'".encode())
    with opened(world, "exec", database=encoding.lower()) as work:
        details = work.gather().details
        assert (details["encoding"], details["comment"]) == (encoding, word)
        assert details["database"]["datcollate"] == locale
        assert f"SET client_encoding = '{encoding}'".encode() in work.dump()


def test_a_role_that_may_only_connect_can_ask(world: Server) -> None:
    world.sql("CREATE ROLE simple LOGIN")
    with opened(world, "exec", user="simple") as work:
        assert work.gather().tables == 5


def test_without_docker_they_are_the_same(world: Server) -> None:
    def comparable(work: runs.Work) -> dict[str, object]:
        return work.gather().details

    with direct(world) as one, opened(world) as other:
        assert comparable(one) == comparable(other)


def test_sessions_of_killed_runs_are_ended_and_nobody_elses(world: Server) -> None:
    dead = runs.fresh_run()
    stranger = runs.fresh_run()
    with (
        world.connect(application_name=dead.application_name) as left_over,
        world.connect(application_name=stranger.application_name) as foreign,
        opened(world, run=runs.fresh_run(dead.owner)) as work,
    ):
        work.gather()
        assert left_over.execute("SELECT 1").fetchone() == (1,), "asking has ended a session"
        work.gather(END_EARLIER)
        left = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{dead.application_name}'"
        assert soon(lambda: world.sql(left) == [(0,)])
        assert foreign.execute("SELECT 1").fetchone() == (1,)
        left_over.close()


# A server that is not ready is waited for, within limits


def test_a_server_out_of_connections_is_waited_for(world: Server) -> None:
    with opened(world, "exec", WAIT_SECONDS="20") as work, full(world) as sessions:
        begun = time.monotonic()
        threading.Timer(0.7, lambda: sessions.pop().close()).start()
        assert work.gather().tables == 5
        assert time.monotonic() - begun > 0.5, "it was not full"


def test_a_server_that_stays_out_of_connections_is_a_failure(world: Server) -> None:
    out = "the server of 'world' is out of connections"
    with opened(world, WAIT_SECONDS="1") as work, full(world), pytest.raises(Unavailable, match=out):
        work.gather()


@contextmanager
def full(server: Server) -> Iterator[list[psycopg.Connection]]:
    """Take all connections of a server, for the length of the block."""
    sessions: list[psycopg.Connection] = []
    try:
        with suppress(psycopg.OperationalError):
            while True:
                sessions.append(server.connect())
        yield sessions
    finally:
        for session in sessions:
            session.close()


def test_a_server_that_starts_is_waited_for(server: Callable[..., Server]) -> None:
    made = server(15)
    made.kill()
    docker("start", made.id)
    with opened(made) as work:
        assert work.gather().tables == 0


def test_an_answer_that_is_none_is_told() -> None:
    for answer in ("", "[]", "{}", "x", '{"leftovers": 0}', "null"):
        with pytest.raises(Unavailable, match="cannot be understood"):
            facts.parse(answer)
