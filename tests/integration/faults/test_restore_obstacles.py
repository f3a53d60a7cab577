"""What stands in a restore's way on the server: it is cleared away, or told before anything changes."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests.support import restores, servers
from tests.support.effort import wide
from tests.support.restores import Lab
from tests.support.runs import soon

SUBSCRIBED = """
CREATE SUBSCRIPTION feed CONNECTION 'host=192.0.2.1 dbname=x' PUBLICATION p
WITH (connect = false, slot_name = 'of_the_publisher')
"""


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[servers.Server]:
    settings: dict[str, str | int] = {"max_prepared_transactions": 5, "wal_level": "logical"}
    with servers.running(
        15, name="pgbackup-test-restore-", database="auth_db", user="auth_user", settings=settings
    ) as started:
        yield started


@pytest.fixture
def lab(server: servers.Server, tmp_path: Path) -> Iterator[Lab]:
    lab = restores.in_container(server, tmp_path)
    yield lab
    for name in lab.databases():
        held = f"SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = '{name}'"
        for (subscription,) in lab.sql(held):
            for what in ("DISABLE", "SET (slot_name = NONE)"):
                lab.sql(f"ALTER SUBSCRIPTION {subscription} {what}", name)
            lab.sql(f"DROP SUBSCRIPTION {subscription}", name)


def password(lab: Lab) -> str:
    """For a role that comes by the passfile of the lab."""
    assert lab.server
    return f"PASSWORD '{lab.server.password}'"


# ------------------------------------------------------------------------------------------------ row 106


def with_a_subscription(lab: Lab, tail: bytes = b"") -> Path:
    """A dump that subscribes; and what comes behind that."""
    file = lab.directory / f"{lab.database}_manual_20240101_000000.sql.gz"
    begin, end = b"--\n-- PostgreSQL database dump\n--\n\n", b"\n--\n-- PostgreSQL database dump complete\n--\n\n"
    body = b"CREATE TABLE t (id int);\n" + " ".join(SUBSCRIBED.split()).encode() + b";\n" + tail
    file.write_bytes(gzip.compress(begin + body + end))
    return file


@pytest.mark.fault(106, "restore: a subscription in the scratch database, the load fails")
def test_a_failed_load_with_a_subscription_leaves_nothing_and_the_next_backup_is_made(lab: Lab) -> None:
    _, _, old = lab.reset(20)
    ended = lab.restore("--yes", with_a_subscription(lab, b"SELECT 1 / 0;\n").name)
    assert not restores.failed(lab, ended, 65, old)
    assert lab.sql("SELECT * FROM pg_subscription") == []
    assert not restores.after(lab, old, old)


@pytest.mark.fault(106, "restore --into: a subscription in the copy")
def test_a_copy_with_a_subscription_says_how_it_is_dropped(lab: Lab) -> None:
    lab.reset(20)
    ended = lab.restore("--yes", "--into", "copy", with_a_subscription(lab).name)
    assert ended.status == 0, ended.stderr
    with pytest.raises(psycopg.Error):
        lab.sql("DROP DATABASE copy")
    told = ended.stderr[ended.stderr.index("ALTER SUBSCRIPTION") :].splitlines()[0]
    for statement in told.split(";")[:3]:
        lab.sql(statement, "copy")
    lab.sql("DROP DATABASE copy")


@contextmanager
def prepared(lab: Lab, name: str) -> Iterator[None]:
    with psycopg.connect(lab.dsn(name)) as session:
        session.execute("CREATE TABLE held (); PREPARE TRANSACTION 'it''s of the tests'")
    yield


@contextmanager
def slot(lab: Lab, name: str) -> Iterator[None]:
    lab.sql("SELECT pg_create_logical_replication_slot('of_the_tests', 'pgoutput')", name)
    yield


@contextmanager
def subscription(lab: Lab, name: str) -> Iterator[None]:
    lab.sql(SUBSCRIBED, name)
    yield


@pytest.mark.fault(106, "restore: killed; a subscription, a slot, a prepared transaction in what it left")
@wide("how", [prepared, subscription], [prepared, slot, subscription])
def test_what_hangs_on_a_scratch_database_goes_with_it(
    lab: Lab, how: Callable[[Lab, str], AbstractContextManager[None]]
) -> None:
    file, _, old = lab.reset(20)
    process = lab.start("--yes", file.name)
    assert soon(lambda: bool(lab.scratch()) or process.poll() is not None, 60)
    process.kill()
    process.communicate()
    (name,) = lab.scratch()
    with how(lab, name):
        assert not restores.after(lab, old, old)
    assert lab.sql("SELECT 1 FROM pg_replication_slots") == []


@pytest.mark.fault(106, "restore: killed; what it left cannot be dropped")
def test_a_backup_is_made_although_what_a_killed_restore_left_cannot_be_dropped(lab: Lab) -> None:
    file, _, old = lab.reset(20)
    process = lab.start("--yes", file.name)
    assert soon(lambda: bool(lab.scratch()) or process.poll() is not None, 60)
    process.kill()
    process.communicate()
    (name,) = lab.scratch()
    lab.sql(f"CREATE ROLE reader LOGIN {password(lab)}; GRANT pg_read_all_data TO reader")  # who may not drop it
    ended = lab.place.run("-q", lab.source.name, AUTH_USER="reader")
    assert ended.status == 0, ended.stderr
    assert "warning" in ended.stderr
    assert name in ended.stderr
    assert list(lab.directory.glob(".pgbackup-*.journal"))
    lab.sql("DROP ROLE reader")
    assert not restores.after(lab, old, old)


# ------------------------------------------------------------------------------------------------ row 107


@contextmanager
def intruders(lab: Lab, prefix: str) -> Iterator[list[str]]:
    """Somebody who connects to each new database, again and again, and stays as long as he may."""
    stop, seen = threading.Event(), []

    def work() -> None:
        query = f"SELECT datname FROM pg_database WHERE datname LIKE '{prefix}' AND datallowconn"
        while not stop.is_set():
            with suppress(psycopg.Error):
                for (name,) in lab.sql(query):
                    with psycopg.connect(lab.dsn(str(name)), autocommit=True, connect_timeout=10) as session:
                        seen.append(str(name))
                        session.execute("SELECT pg_sleep(900)")
            stop.wait(0.05)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        lab.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(900)%'"
            " AND pid <> pg_backend_pid()"
        )
        for thread in threads:
            thread.join(60)


@pytest.mark.fault(107, "restore: others are connected to the database that is being loaded")
@wide("options", [[], ["--in-place"]], [[], ["--into", "copy"], ["--in-place"]])
def test_others_in_the_scratch_database_do_not_stop_a_restore(lab: Lab, options: list[str]) -> None:
    file, new, _ = lab.reset(20)
    with intruders(lab, f"{lab.database}_%restore_%") as seen:
        ended = lab.restore("--yes", *options, file.name)
    assert ended.status == 0, ended.stderr
    assert seen, "nobody was there"
    assert lab.content("copy" if options[:1] == ["--into"] else "") == new
    lab.sql("DROP DATABASE IF EXISTS copy WITH (FORCE)")


# ------------------------------------------------------------------------------------------------ row 108


@pytest.fixture(scope="module")
def named_postgres(engine: str) -> Iterator[servers.Server]:
    with servers.running(15, name="pgbackup-test-restore-", database="postgres", user="postgres") as started:
        yield started


@pytest.mark.fault(108, "a database that is called postgres")
@wide("kind", [restores.ANY], ["sidecar", "exec"])
def test_a_database_called_postgres_is_restored_like_any_other(
    named_postgres: servers.Server, tmp_path: Path, kind: str
) -> None:
    lab = restores.in_container(named_postgres, tmp_path, kind)
    inside = replace(lab, source=replace(lab.source, database="postgres"))
    inside.sql("CREATE TABLE IF NOT EXISTS t AS SELECT 1 AS x")
    new = inside.content()
    file = inside.backup()
    for options in ([], ["--in-place"], ["--online"]):
        inside.sql("INSERT INTO t VALUES (2)")
        old = inside.content()
        ended = inside.restore("--yes", *options, file.name)
        assert ended.status == 0, ended.stderr
        assert inside.content() == new
    ended = inside.restore("--rollback", "--yes")
    assert ended.status == 0, ended.stderr
    assert inside.content() == old
    ended = inside.restore("--yes", "--into", "beside", file.name)
    assert ended.status == 0, ended.stderr
    assert inside.content("beside") == new
    lab.sql("DROP DATABASE beside")
    lab.sql("DELETE FROM t WHERE x = 2")
    ended = inside.restore("--drop-old", "--yes")
    assert ended.status == 0, ended.stderr


@pytest.mark.fault(108, "no database postgres, or none that the role may connect to")
@pytest.mark.parametrize("how", ["dropped", "revoked"])
def test_a_server_without_the_database_postgres_is_restored_too(lab: Lab, how: str) -> None:
    file, new, _ = lab.reset(20)
    owner = restores.quoted("plain")
    lab.sql(f"DROP ROLE IF EXISTS {owner}")
    lab.sql(f"CREATE ROLE {owner} LOGIN CREATEDB {password(lab)}")
    lab.sql(f'ALTER DATABASE "{lab.database}" OWNER TO {owner}')
    lab.sql(f"REASSIGN OWNED BY auth_user TO {owner}", lab.database) if how == "none" else None
    try:
        if how == "dropped":
            lab.sql("DROP DATABASE postgres WITH (FORCE)", "template1")
        else:
            lab.sql("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; REVOKE CONNECT ON DATABASE template1 FROM PUBLIC")
        user = {"AUTH_USER": "plain"} if how == "revoked" else {}
        ended = lab.restore("--yes", file.name, **user)
        if how == "dropped":
            assert ended.status == 0, ended.stderr
            assert lab.content() == new
        else:
            assert ended.status in (77, 78), ended.stderr
            assert 'GRANT CONNECT ON DATABASE "auth_db"' not in ended.stderr
            assert "postgres" in ended.stderr
    finally:
        if how == "dropped":
            lab.sql("CREATE DATABASE postgres", "template1")
        else:
            lab.sql("GRANT CONNECT ON DATABASE postgres TO PUBLIC; GRANT CONNECT ON DATABASE template1 TO PUBLIC")


BOUND = (
    "DO $$BEGIN IF current_database() <> 'auth_db' THEN RAISE 'only in auth_db'; END IF; END$$;"
    "CREATE FUNCTION bound() RETURNS int LANGUAGE sql AS 'SELECT 1';"
)


@pytest.mark.fault(102, "restore: an extension that can be made in a database of one name only")
def test_an_extension_that_is_bound_to_the_name_is_restored_where_the_name_is_free(
    server: servers.Server, lab: Lab
) -> None:
    lab.reset(20)
    where = servers.docker("exec", server.name, "sh", "-c", "dirname $(find / -name plpgsql.control 2>/dev/null)")
    for name, text in (("bound.control", "default_version = '1'\nrelocatable = false\n"), ("bound--1.sql", BOUND)):
        write = f'cat > "{where.stdout.strip()}/{name}" <<"EOT"\n{text}\nEOT\n'
        servers.docker("exec", "--user", "0", server.name, "sh", "-c", write)
    lab.sql("CREATE EXTENSION bound", lab.database)
    old = lab.content()
    file = lab.backup()
    for options in ([], ["--in-place"]):
        ended = lab.restore("--yes", *options, file.name)
        assert not restores.failed(lab, ended, 65, old)
    lab.sql(f'DROP DATABASE "{lab.database}" WITH (FORCE)')
    ended = lab.restore("--yes", file.name)
    assert ended.status == 0, ended.stderr
    assert lab.content() == old
    assert not restores.after(lab, old, old)
