"""Servers and databases that fail: rows 11 and 12 of the table of faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from tests.integration.faults.containers.conftest import BOUND_SECONDS, KINDS, QUICK, source
from tests.support import backups, databases, promises, servers
from tests.support.backups import Place, Source
from tests.support.runs import soon
from tests.support.servers import Server, docker

Tries = Callable[[int, int], int]
Note = Callable[..., None]


# ------------------------------------------------------------------------------------------------ row 11


def test_a_server_that_starts_is_waited_for(
    place: Place, auth: Server, kind: str, expected: Note, survived: Note
) -> None:
    fault = f"server starting, or recovering from a crash, {kind}"
    expected(11, fault, 1)
    auth.kill()
    docker("start", auth.name)
    ended = place.run()
    auth.wait()
    assert ended.status == 0, ended.stderr
    assert not promises.told(ended) + promises.settled(place)
    survived(11, fault)


def test_a_server_that_stops_for_good_is_not_waited_for_without_end(
    place: Place, auth: Server, kind: str, expected: Note, survived: Note
) -> None:
    fault = f"container stopped, {kind}"
    expected(11, fault, 1)
    docker("stop", "-t", "2", auth.name)
    try:
        ended = place.run()
        live = place.sources
        place.sources = [Source(one.name, one.database, one.text, one.values, lambda _: [], lambda: "") for one in live]
        assert not promises.failed(place, ended, 69)
        place.sources = live
    finally:
        auth.start()
    assert ended.seconds < BOUND_SECONDS
    assert not promises.after(place, "-q")
    survived(11, fault)


def test_a_server_that_stays_in_recovery_is_backed_up_or_refused_but_never_half(
    engine: str, tmp_path: Path, kind: str, expected: Note, survived: Note
) -> None:
    """A standby accepts questions; pg_dump works there."""
    fault = f"standby, for ever in recovery, {kind}"
    expected(11, fault, 1)
    with servers.running(15, name="pgbackup-test-a-", database="auth_db", user="auth_user") as server:
        databases.container_source(server, "auth")
        one = source(server, "auth", kind)
        data = server.sql("SHOW data_directory")[0][0]
        server.exec(["touch", f"{data}/standby.signal"], user="postgres")
        server.restart()
        place = backups.place(tmp_path / "backups", [one], **QUICK)
        assert server.sql("SELECT pg_is_in_recovery()") == [(True,)]
        ended = place.run()
        assert ended.status == 0, ended.stderr
        assert not promises.told(ended) + promises.settled(place)
    survived(11, fault)


@contextmanager
def crowded(server: Server) -> Iterator[list[psycopg.Connection]]:
    """Take every connection that the server has, the superuser's too."""
    taken: list[psycopg.Connection] = []
    try:
        with suppress(psycopg.OperationalError):
            while len(taken) < 200:
                taken.append(server.connect("postgres"))
        yield taken
    finally:
        for one in taken:
            one.close()


def test_a_server_without_connections_is_waited_for_and_then_the_run_fails(
    place: Place, auth: Server, kind: str, expected: Note, survived: Note
) -> None:
    fault = f"max_connections full, for ever and for a while, {kind}"
    expected(11, fault, 2)
    with crowded(auth):
        ended = place.run(WAIT_SECONDS="2")
    assert ended.seconds < BOUND_SECONDS
    assert not promises.failed(place, ended, 69)
    assert "connections" in ended.stderr or "clients" in ended.stderr
    survived(11, fault)
    with crowded(auth) as taken:
        process = place.start(WAIT_SECONDS="30")
        assert soon(lambda: bool(list(place.directory().glob(".pgbackup-*.partial"))), 30)
        time.sleep(1)  # the run is to meet the full server, and then an empty one
        for one in taken:
            one.close()
        ended = place.end(process)
    assert ended.status == 0, ended.stderr
    assert not promises.settled(place)
    survived(11, fault)


def test_a_role_that_may_not_read_fails_the_run(
    place: Place, auth: Server, kind: str, expected: Note, survived: Note
) -> None:
    fault = f"role may not read a table, {kind}"
    expected(11, fault, 1)
    auth.sql("CREATE ROLE weak LOGIN")
    try:
        ended = place.run(AUTH_USER="weak")
        assert not promises.failed(place, ended, 77)
        assert "permission denied" in ended.stderr
    finally:
        auth.sql("DROP ROLE weak")
    survived(11, fault)


def test_a_locked_table_is_waited_for_within_the_limit(
    place: Place, auth: Server, kind: str, expected: Note, survived: Note
) -> None:
    fault = f"ACCESS EXCLUSIVE lock, held past the limit and released, {kind}"
    expected(11, fault, 2)
    with auth.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        ended = place.run(LOCK_WAIT_SECONDS="2")
        assert ended.seconds < BOUND_SECONDS
        assert not promises.failed(place, ended, 69)
        assert "lock" in ended.stderr
        survived(11, fault)
        process = place.start(LOCK_WAIT_SECONDS="30", STALL_SECONDS="31")
        waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'pgbackup-%' AND wait_event_type = 'Lock'"
        assert soon(lambda: bool(auth.sql(waiting)), 30)
        holder.rollback()
        ended = place.end(process)
        assert ended.status == 0, ended.stderr
    assert not promises.settled(place)
    survived(11, fault)


# ------------------------------------------------------------------------------------------------ row 12


def other_is_backed_up(place: Place, ended: backups.Ended) -> list[str]:
    """What does not hold of a run in which auth had to fail and payment had to be backed up."""
    found = promises.failed(place, ended, 1)
    if len(place.fresh(place.sources[1])) != 1:
        found.append(f"C: payment was not backed up: {ended.stderr[-800:]}")
    return found


@contextmanager
def renamed(server: Server, database: str) -> Iterator[None]:
    server.sql(f'ALTER DATABASE "{database}" RENAME TO away', "postgres")
    try:
        yield
    finally:
        server.sql(f'ALTER DATABASE away RENAME TO "{database}"', "postgres")


def test_a_missing_database_does_not_keep_the_other_from_its_backup(
    both: Place, auth: Server, expected: Note, survived: Note
) -> None:
    fault = "database missing"
    expected(12, fault, 1)
    with renamed(auth, "auth_db"):
        ended = both.run()
        assert not other_is_backed_up(both, ended)
        assert "there is no database 'auth_db'" in ended.stderr
    assert not promises.after(both, "-q")
    survived(12, fault)


def test_an_invalid_database_does_not_keep_the_other_from_its_backup(
    both: Place, auth: Server, expected: Note, survived: Note
) -> None:
    """What a DROP DATABASE leaves that was interrupted (PostgreSQL manual, DROP DATABASE)."""
    fault = "database invalid, its DROP killed"
    expected(12, fault, 1)
    auth.sql("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'auth_db'", "postgres")
    try:
        ended = both.run()
        assert not other_is_backed_up(both, ended)
        assert "invalid" in ended.stderr
    finally:
        auth.sql("UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'auth_db'", "postgres")
    assert not promises.after(both, "-q")
    survived(12, fault)


def test_a_database_dropped_in_mid_dump_does_not_keep_the_other_from_its_backup(
    both: Place, engine: str, tries: Tries, expected: Note, survived: Note
) -> None:
    payment = both.sources[1]
    for kind in KINDS[: tries(1, 2)]:
        fault = f"database dropped in mid-dump, {kind}"
        expected(12, fault, 1)
        with servers.running(15, name="pgbackup-test-a-", database="auth_db", user="auth_user") as server:
            databases.container_source(server, "auth", bulk=databases.BULK_ROWS)
            place = backups.place(both.path / kind, [source(server, "auth", kind), payment], **QUICK)
            for one in place.sources:
                place.plant(one)
            with backups.in_dump(place) as process:
                server.sql("DROP DATABASE auth_db WITH (FORCE)", "postgres")
            ended = place.end(process)
            assert not other_is_backed_up(place, ended)
            assert not promises.settled(place)
        survived(12, fault)
