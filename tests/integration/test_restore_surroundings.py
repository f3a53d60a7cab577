"""What lies around a database comes back, or is told: its row in pg_database, its tablespace, its roles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import restores, servers
from tests.support.effort import wide
from tests.support.restores import Lab

# Those that are another server's or another moment's, and the collation's version, which is the server's own.
ROW = (
    "SELECT to_jsonb(d) - 'oid' - 'datname' - 'datfrozenxid' - 'datminmxid' - 'dattablespace' - 'datdba'"
    " - 'datcollversion' - 'datacl',"
    " (SELECT array_agg(one::text ORDER BY one::text) FROM unnest(datacl) AS one)"
    " FROM pg_database d WHERE datname = '{}'"
)
TABLESPACE = (
    "SELECT (SELECT spcname FROM pg_tablespace t WHERE t.oid = dattablespace) FROM pg_database WHERE datname = '{}'"
)


@pytest.fixture(scope="module")
def server_of(engine: str) -> Iterator[Callable[[int], servers.Server]]:
    """A function: major version -> a server with a tablespace `fast`, on a small disk of its own."""
    started: dict[int, servers.Server] = {}
    with ExitStack() as stack:

        def of(major: int) -> servers.Server:
            if major not in started:
                name = f"pgbackup-test-around{major}-"
                running = servers.running(major, name=name, database="shop", user="shop", tmpfs={"/fast": "30m"})
                started[major] = stack.enter_context(running)
                started[major].exec(
                    ["sh", "-c", "chown $(stat -c %u:%g $(psql -XAtU shop -c 'SHOW data_directory')) /fast"]
                )
                started[major].sql("CREATE TABLESPACE fast LOCATION '/fast'", "postgres")
            return started[major]

        yield of


def lab_on(server: servers.Server, path: Path, kind: str = restores.ANY) -> Lab:
    lab = restores.in_container(server, path, kind)
    lab.sql("UPDATE pg_database SET datistemplate = false WHERE datname ~ '^(shop|copy)'")
    for name in lab.databases():
        lab.sql(f"DROP DATABASE {restores.quoted(name)} WITH (FORCE)")
    return lab


KNOWN = [
    (15, "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' LOCALE 'C' CONNECTION LIMIT 9"),
    (18, "TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C' CONNECTION LIMIT 9"),
    (18, "TEMPLATE template0 IS_TEMPLATE true ENCODING LATIN1 LOCALE 'C'"),
]


@wide("major, made", KNOWN[:2], KNOWN)
@pytest.mark.fault(115, "what pg_database knows of a database")
def test_the_row_in_pg_database_and_the_tablespace_are_the_same(
    server_of: Callable[[int], servers.Server], tmp_path: Path, major: int, made: str
) -> None:
    lab = lab_on(server_of(major), tmp_path)
    lab.sql(f"CREATE DATABASE shop {made} TABLESPACE fast")
    lab.sql("CREATE TABLE t AS SELECT 1 AS x; CREATE TABLE u TABLESPACE pg_default AS SELECT 2 AS x", "shop")
    lab.sql("GRANT CONNECT ON DATABASE shop TO pg_monitor; REVOKE TEMPORARY ON DATABASE shop FROM PUBLIC")
    before = lab.sql(ROW.format("shop"))
    file = lab.backup()
    for arguments in (["--into", "copy"], []):
        ended = lab.restore("--yes", *arguments, file.name)
        assert ended.status == 0, ended.stderr
    dropped = lab.restore("--drop-old", "--yes")
    assert dropped.status == 0, dropped.stderr
    assert lab.kept() == []
    for name in ("copy", "shop"):
        assert lab.sql(ROW.format(name)) == before
        assert lab.sql(TABLESPACE.format(name)) == [("fast",)]
        where = "SELECT relname, reltablespace <> 0 FROM pg_class WHERE relname IN ('t', 'u') ORDER BY 1"
        assert lab.sql(where, name) == [("t", False), ("u", True)]


@pytest.mark.fault(115, "a tablespace that is missing or too small")
def test_a_tablespace_that_is_missing_or_too_small_is_named_before_anything_is_touched(
    server_of: Callable[[int], servers.Server], tmp_path: Path
) -> None:
    lab = lab_on(server_of(15), tmp_path, "exec")  # which can see how much room there is
    lab.sql("CREATE DATABASE shop TABLESPACE fast")
    lab.sql("CREATE TABLE t AS SELECT 1 AS x", "shop")
    server = server_of(15)
    server.exec(["sh", "-c", "dd if=/dev/zero of=/fast/full bs=1M count=23 2>/dev/null"])
    try:
        full = lab.restore("--dry-run", lab.backup().name)
    finally:
        server.exec(["rm", "/fast/full"])
    assert full.status == 74, full.stderr
    assert "too little space" in full.stderr
    file = lab.backup()
    lab.sql("ALTER DATABASE shop SET TABLESPACE pg_default")
    lab.sql("ALTER TABLESPACE fast RENAME TO other")
    try:
        refused = lab.restore("--dry-run", file.name)
    finally:
        lab.sql("ALTER TABLESPACE other RENAME TO fast")
    assert refused.status == 78, refused.stderr
    assert "tablespaces that the dump needs are missing on the server: fast" in refused.stderr


ROLES = """
CREATE ROLE rw; CREATE ROLE readers; GRANT readers TO rw;
CREATE ROLE app LOGIN CONNECTION LIMIT 7 VALID UNTIL '2030-01-02 03:04:05+00' PASSWORD 'secret';
CREATE ROLE clerk LOGIN NOINHERIT;
GRANT rw TO app; GRANT rw TO clerk WITH ADMIN OPTION; GRANT pg_monitor TO app;
ALTER ROLE app SET statement_timeout = '5s'; ALTER ROLE app SET search_path = "odd, path", public;
CREATE ROLE stranger LOGIN;
"""
MADE = (
    "SELECT rolname, rolcanlogin, rolinherit, rolconnlimit, rolvaliduntil, rolconfig FROM pg_roles"
    " WHERE rolname IN ('rw', 'readers', 'app', 'clerk') ORDER BY 1"
)
MEMBERS = (
    "SELECT roleid::regrole::text, member::regrole::text, admin_option FROM pg_auth_members"
    " WHERE member::regrole::text IN ('rw', 'app', 'clerk') AND roleid::regrole::text <> 'pg_monitor' ORDER BY 1, 2"
)


@wide("major", [15], [15, 18])
@pytest.mark.fault(116, "rights through groups, after a total loss")
def test_who_had_rights_through_groups_has_them_after_a_total_loss(
    server_of: Callable[[int], servers.Server], tmp_path: Path, major: int
) -> None:
    lab = lab_on(server_of(major), tmp_path)
    lab.sql("CREATE DATABASE shop")
    lab.sql(ROLES)
    lab.sql("CREATE TABLE t AS SELECT 1 AS x; GRANT SELECT ON t TO rw", "shop")
    file, before = lab.backup(), (lab.sql(MADE), lab.sql(MEMBERS))
    lab.sql("DROP DATABASE shop")
    lab.sql("DROP ROLE app; DROP ROLE clerk; DROP ROLE rw; DROP ROLE readers; DROP ROLE stranger")
    try:
        told = lab.restore("--yes", "--create-roles", file.name)
        assert told.status == 0, told.stderr
        assert (lab.sql(MADE), lab.sql(MEMBERS)) == before
        assert 'GRANT "pg_monitor" TO "app"' in told.stderr
        assert "role 'app' was made without a password" in told.stderr
        assert lab.sql("SELECT FROM pg_roles WHERE rolname = 'stranger'") == []
        assert lab.sql("SET ROLE app; SELECT x FROM t", "shop") == [(1,)]
        lab.sql("REVOKE rw FROM app; DROP ROLE clerk")
        told = lab.restore("--dry-run", file.name)
        assert told.status == 0, told.stderr
        assert "role 'app' is no longer a member of 'rw': GRANT \"rw\" TO \"app\"" in told.stderr
        assert "role 'clerk' belongs to roles that the dump needs and is missing (--create-roles)" in told.stderr
    finally:
        lab.sql("DROP DATABASE IF EXISTS shop")
        for name in ("app", "clerk", "rw", "readers", "stranger"):
            lab.sql(f"DROP ROLE IF EXISTS {name}")


@pytest.mark.fault(117, "the server's limits on transactions and idle sessions")
def test_limits_of_the_server_on_time_do_not_end_a_restore(
    server_of: Callable[[int], servers.Server], tmp_path: Path
) -> None:
    """Counting and loading take longer than each of them."""
    lab = lab_on(server_of(18), tmp_path)
    lab.sql("CREATE DATABASE shop")
    slow = "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
    slow += " $$BEGIN PERFORM pg_sleep(0.002); RETURN $1; END$$;"
    lab.sql(f"{slow} CREATE TABLE t AS SELECT generate_series(1, 300) AS n; CREATE INDEX ON t (slow(n))", "shop")
    for name in ("transaction_timeout", "idle_session_timeout", "statement_timeout", "lock_timeout"):
        lab.sql(f"ALTER SYSTEM SET {name} = '300ms'")
    lab.sql("SELECT pg_reload_conf()")
    try:
        ended = lab.restore("--yes", lab.backup().name)
    finally:
        lab.sql("ALTER SYSTEM RESET ALL")
        lab.sql("SELECT pg_reload_conf()")
    assert ended.status == 0, ended.stderr
