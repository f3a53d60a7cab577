"""A restore goes the way that the dump went, and nothing that a container, a role or a user has set steers it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import backups, restores, runs, servers
from tests.support.effort import chosen, wide
from tests.support.restores import Lab
from tests.support.runs import soon
from tests.support.servers import Server


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[Server]:
    with servers.running(15, name="pgbackup-test-ways-", database="shop", user="shop") as started:
        yield started


def done(lab: Lab, *arguments: str, **environment: str) -> backups.Ended:
    ended = lab.restore(*arguments, **environment)
    assert ended.status == 0, ended.stderr
    return ended


def everything_works(lab: Lab) -> None:
    """Backup, dry run, restore beside, restore in its place, rollback, and what was kept is dropped."""
    file, new, old = lab.reset(20)
    done(lab, "--dry-run", file.name)
    done(lab, "--yes", "--into", "copy", file.name)
    assert lab.content("copy") == new
    lab.sql("DROP DATABASE copy")
    done(lab, "--yes", file.name)
    assert lab.content() == new
    done(lab, "--yes", "--rollback")
    assert lab.content() == old
    done(lab, "--yes", "--drop-old")
    assert lab.databases() == [lab.database]


@contextmanager
def rules(server: Server, *lines: str) -> Iterator[None]:
    """Let these be the server's pg_hba.conf."""
    path = f"{server.sql('SHOW data_directory')[0][0]}/pg_hba.conf"
    before = server.exec(["cat", path]).stdout
    try:
        server.exec(["sh", "-c", f'cat >"{path}"'], stdin="".join(f"{line}\n" for line in lines))
        server.sql("SELECT pg_reload_conf()")
        assert soon(lambda: server.sql("SELECT count(*) FROM pg_hba_file_rules") == [(len(lines),)])
        yield
    finally:
        server.exec(["sh", "-c", f'cat >"{path}"'], stdin=before)
        server.sql("SELECT pg_reload_conf()")


@pytest.mark.fault(119, "restore where pg_hba.conf closes the socket")
@wide("local", ["scram-sha-256"], ["scram-sha-256", "peer", "reject"])
def test_where_the_socket_is_closed_all_goes_by_the_passfile(server: Server, tmp_path: Path, local: str) -> None:
    with runs.passfile(server) as file, rules(server, f"local all all {local}", "host all all all scram-sha-256"):
        everything_works(restores.in_container(server, tmp_path, "auto", AUTH_PASSFILE=file))


@pytest.mark.fault(119, "restore after total loss, a password on 127.0.0.1 only")
def test_after_total_loss_a_way_in_that_needs_no_password_is_found(server: Server, tmp_path: Path) -> None:
    lab = restores.in_container(server, tmp_path, "auto")
    with rules(server, "local all all trust", "host all all all scram-sha-256"):
        file, new, _ = lab.reset(20)
        lab.sql('DROP DATABASE "shop" WITH (FORCE)')
        done(lab, "--yes", file.name)
        assert lab.content() == new


HOSTILE = {
    "PGHOST": "192.0.2.1",
    "PGDATABASE": "elsewhere",
    "PGSSLMODE": "require",
    "PGOPTIONS": "-c default_transaction_read_only=on -c search_path=evil",
    "PGTARGETSESSIONATTRS": "read-only",
    "PGSERVICE": "nowhere",
}


@pytest.mark.fault(120, "PG* variables in the container's environment")
@wide("kind", ["exec"], ["sidecar", "exec"])
def test_libpqs_variables_in_the_container_steer_nothing(engine: str, tmp_path: Path, kind: str) -> None:
    disk = {tmp_path / "data": "/var/lib/postgresql/data"}
    with servers.running(15, database="shop", user="shop", password="x", mounts=disk):
        pass  # it is made without them
    with servers.running(15, database="shop", user="shop", password="x", mounts=disk, environment=HOSTILE) as server:
        everything_works(restores.in_container(server, tmp_path, kind))


@pytest.mark.fault(121, "the port stands in a configuration file")
@wide("kind", ["auto"], ["sidecar", "exec", "auto"])
def test_a_port_that_stands_in_the_configuration_is_found(server: Server, tmp_path: Path, kind: str) -> None:
    lab = restores.in_container(server, tmp_path, kind)
    server.psql("-c", "ALTER SYSTEM SET port = 5433")
    try:
        servers.docker("restart", server.id)
        assert soon(lambda: "listening on" in server.exec(["sh", "-c", "echo listening on"]).stdout)
        ready = ["psql", "-U", "shop", "-p", "5433", "-c", "SELECT 1", "shop"]
        assert soon(lambda: server.exec(ready, check=False).returncode == 0, 30)
        ended = lab.place.run("-q", lab.source.name)
        assert ended.status == 0, ended.stderr
        done(lab, "--yes", "--into", "copy", f"{lab.database}_LATEST.sql.gz")
    finally:
        server.exec(["psql", "-U", "shop", "-p", "5433", "-c", "ALTER SYSTEM RESET port", "shop"])
        server.exec(["psql", "-U", "shop", "-p", "5433", "-c", "DROP DATABASE IF EXISTS copy", "shop"])
        server.restart()


@pytest.mark.fault(122, "a role's read-only transactions and time limits")
def test_read_only_and_impatient_roles_are_no_hindrance(server: Server, tmp_path: Path) -> None:
    settings = ["default_transaction_read_only = on", "lock_timeout = '1ms'", "statement_timeout = '1ms'"]
    settings += ["idle_session_timeout = '2s'", "DateStyle = 'German'", "client_min_messages = 'debug5'"]
    lab = restores.in_container(server, tmp_path, "auto")
    file, new, _ = lab.reset(20)
    with server.connect("postgres") as session:  # which keeps its own settings
        for setting in settings:
            session.execute(f"ALTER ROLE shop SET {setting}".encode())
        again = lab.place.run("-q", lab.source.name)
        assert again.status == 0, again.stderr
        for words in chosen([], [[file.name], ["--rollback"], ["--drop-old"]]):
            done(lab, "--yes", *words)
        done(lab, "--yes", file.name)
        session.execute("ALTER ROLE shop RESET ALL")
    assert lab.content() == new
    done(lab, "--yes", "--drop-old")


_EVIL = """
CREATE FUNCTION public.{name}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS $$BEGIN
  EXECUTE 'ALTER ROLE mallory SUPERUSER'; RETURN NULL; END$$
"""
# Better fits than the built-in ones for what our own questions call, and operators on the types that they compare.
OVERLOADS = [
    ("format", "text,name,text,text,text,text,text,text,text,text", "text"),
    ("format", "text,name,name", "text"),
    ("format", "text,name,text", "text"),
    ("concat_ws", "text,text,text,boolean,bigint", "text"),
    ("starts_with", "text,name", "boolean"),
    ("pg_get_userbyid", "bigint", "name"),
    ("json_build_object", "text,text,text,text", "json"),
    ("array_to_string", "text[],text", "text"),
    ("convert_to", "name,text", "bytea"),
    ("encode", "bytea,text", "text"),
    ("current_setting", "text", "text"),
    ("set_config", "text,text,boolean", "text"),
    ("pg_database_size", "name", "bigint"),
    ("shobj_description", "oid,text", "text"),
    ("quote_ident", "name", "text"),
]
OPERATORS = [("=", "name"), ("<>", "name"), ("!~", "name"), ("~", "text"), ("||", "text")]


@pytest.mark.fault(123, "functions and operators of a user that fit our questions better")
def test_nobody_becomes_superuser_by_what_we_ask(server: Server, tmp_path: Path) -> None:
    lab = restores.in_container(server, tmp_path, "auto")
    lab.reset(20)
    server.sql("CREATE ROLE mallory LOGIN")
    server.sql("GRANT CREATE, USAGE ON SCHEMA public TO mallory; SET ROLE mallory; CREATE TABLE mine (n name)")
    for name, arguments, returns in OVERLOADS:
        with server.connect() as session:
            session.execute("SET ROLE mallory")
            session.execute(_EVIL.format(name=name, arguments=arguments, returns=returns).encode())
    with server.connect() as session:
        session.execute("SET ROLE mallory")
        for number, (operator, kind) in enumerate(OPERATORS):
            name = f"evil_{number}"
            session.execute(_EVIL.format(name=name, arguments=f"{kind},{kind}", returns="boolean").encode())
            made = f"CREATE OPERATOR public.{operator} (FUNCTION = public.{name}, LEFTARG = {kind}, RIGHTARG = {kind})"
            session.execute(made.encode())

    def is_superuser() -> bool:
        return server.sql(
            "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'mallory'"
        ) == [(True,)]

    try:
        assert lab.place.run("-q", lab.source.name).status == 0
        assert not is_superuser(), "by a backup"
        assert lab.place.run("--dry-run", lab.source.name).status == 0
        done(lab, "--dry-run", "shop_LATEST.sql.gz")
        done(lab, "--yes", "--into", "copy", "shop_LATEST.sql.gz")
        assert not is_superuser(), "by a restore"
    finally:
        lab.sql("DROP DATABASE IF EXISTS copy WITH (FORCE)")
        lab.sql('DROP DATABASE "shop" WITH (FORCE)')
        lab.sql("CREATE DATABASE shop")
        lab.sql("DROP OWNED BY mallory; DROP ROLE mallory")


@pytest.mark.fault(124, "--dry-run and --list beside a running backup")
def test_who_only_looks_ends_no_run(server: Server, tmp_path: Path) -> None:
    lab = restores.in_container(server, tmp_path, "auto")
    file, _, _ = lab.reset(20)
    with server.connect() as session:
        session.execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        backup = lab.place.start("-q", lab.source.name, LOCK_WAIT_SECONDS="60")
        waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'pgbackup-%' AND wait_event_type = 'Lock'"
        assert soon(lambda: lab.sql(waiting) != [], 20)
        assert lab.place.run("--dry-run", lab.source.name).status == 0
        assert lab.restore("--dry-run", file.name, COMMAND_SECONDS="5").status == 0
        assert lab.restore("--list").status == 0
        assert lab.sql(waiting) != [], "the backup was ended"
        session.execute("ROLLBACK")
    ended = lab.place.end(backup)
    assert ended.status == 0, ended.stderr
    assert restores.leftovers(lab) == []
