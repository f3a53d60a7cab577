"""The images that the tests stand on behave like the official ones, as far as the suite can tell."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support import images, servers
from tests.support.effort import chosen
from tests.support.servers import Server, docker

PROGRAMS = (
    "pg_dump",
    "psql",
    "pg_restore",
    "pg_basebackup",
    "pg_receivewal",
    "pg_verifybackup",
    "pg_isready",
)
CONTRIB = ("hstore", "pg_trgm", "citext", "postgres_fdw", "file_fdw", "amcheck")
SIDECAR = ("--user", "12345:12345", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@pytest.fixture(scope="module", params=chosen([15, 18], images.MAJORS))
def made(request: pytest.FixtureRequest, engine: str) -> Iterator[Server]:
    with servers.running(request.param, database="shop", user="keeper") as running:
        yield running


@pytest.fixture
def sidecar(made: Server) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A helper container next to the server's network, and the client that holds its stdin."""
    name = f"{made.name}-sidecar"
    command = ["docker", "run", "--rm", "-i", "--name", name, "--network", f"container:{made.id}", *SIDECAR]
    client = subprocess.Popen([*command, "--entrypoint", "cat", made.image], stdin=subprocess.PIPE)
    try:
        assert soon(lambda: docker("exec", name, "true", check=False).returncode == 0), "the sidecar never ran"
        yield name, client
    finally:
        docker("rm", "-f", name, check=False)
        assert client.stdin is not None
        client.stdin.close()
        client.wait(10)


def soon(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def in_namespace(made: Server, *arguments: str) -> str:
    """Run psql in an unprivileged sidecar over the loopback address, without any password."""
    where = ["--network", f"container:{made.id}", *SIDECAR, "--entrypoint", "psql", made.image]
    query = ["-X", "-At", "-h", "127.0.0.1", "-U", made.user, "-d", made.database, *arguments]
    return docker("run", "--rm", *where, *query).stdout.strip()


def exists(container: str) -> bool:
    return docker("inspect", container, check=False).returncode == 0


def test_version_role_and_database_are_those_asked_for(made: Server) -> None:
    ((version, user, database, encoding),) = made.sql(
        "SELECT current_setting('server_version_num')::int / 10000, current_user, current_database(),"
        " pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
    )
    assert (version, user, database, encoding) == (made.major, "keeper", "shop", "UTF8")
    assert made.sql("SELECT rolname FROM pg_roles WHERE rolsuper") == [("keeper",)]


def test_postgres_is_pid_1_and_not_root(made: Server) -> None:
    status = made.exec(["cat", "/proc/1/status"]).stdout
    assert status.startswith("Name:\tpostgres\n")
    assert "\nUid:\t999\t999\t999\t999\n" in status


def test_loopback_and_socket_are_trusted_and_the_outside_needs_the_password(made: Server) -> None:
    assert in_namespace(made, "-c", "SELECT 1") == "1"
    assert made.exec(["psql", "-X", "-At", "-U", "keeper", "-d", "shop", "-c", "SELECT 2"]).stdout == "2\n"
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(made.dsn(), password="")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(made.dsn(), password="wrong")


def test_the_client_programs_are_of_the_servers_version(made: Server) -> None:
    programs = [*PROGRAMS, *(["pg_combinebackup"] if made.major >= 17 else [])]
    for program in programs:
        assert f" {made.major}." in made.exec([program, "--version"]).stdout, program
    dump = made.exec(["pg_dump", "-U", "keeper", "shop"], user="postgres").stdout
    assert "PostgreSQL database dump complete" in dump


def test_a_base_backup_can_be_taken_over_the_loopback_address(made: Server) -> None:
    command = "pg_basebackup -h 127.0.0.1 -U keeper -c fast -X stream -D /tmp/base && pg_verifybackup -q /tmp/base"
    made.exec(["sh", "-c", f"{command} && rm -r /tmp/base"], user="postgres")


def test_the_data_lies_on_a_volume(made: Server) -> None:
    mounts = docker("inspect", "--format", "{{range .Mounts}}{{.Type}} {{.Destination}}{{end}}", made.id).stdout
    expected = "/var/lib/postgresql" if made.major >= 18 else "/var/lib/postgresql/data"
    assert mounts.strip() == f"volume {expected}"


def test_a_sidecar_queries_and_ends_with_its_stdin(made: Server, sidecar: tuple[str, subprocess.Popen[bytes]]) -> None:
    name, client = sidecar
    query = ["psql", "-X", "-At", "-h", "127.0.0.1", "-U", "keeper", "-d", "shop", "-c", "SELECT 3"]
    assert docker("exec", name, *query).stdout == "3\n"
    assert client.stdin is not None
    client.stdin.close()
    assert client.wait(10) == 0
    assert soon(lambda: not exists(name)), "the sidecar outlived its stdin"


def test_a_sidecar_ends_when_its_client_is_killed(made: Server, sidecar: tuple[str, subprocess.Popen[bytes]]) -> None:
    name, client = sidecar
    client.kill()
    assert soon(lambda: not exists(name)), "the sidecar outlived its client"


def test_15_has_contrib_locales_and_icu(server: Callable[..., Server]) -> None:
    made = server(15)
    if not made.image.startswith("pgbackup-test/"):
        pytest.skip(f"'{made.image}' is an official image, which has the locales of its own choice")
    for extension in CONTRIB:
        made.sql(f"CREATE EXTENSION {extension}")
    for locale in ("en_US.utf8", "tr_TR.utf8", "C.utf8"):
        made.sql(f"CREATE DATABASE \"{locale}\" TEMPLATE template0 LOCALE '{locale}'")
    made.sql("CREATE DATABASE icu TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'")


def test_scripts_run_once_at_set_up(server: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text("CREATE TABLE seen (what text); INSERT INTO seen VALUES ('sql');")
    (tmp_path / "2.sh").write_text('psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "INSERT INTO seen VALUES (\'sh\')"\n')
    tmp_path.chmod(0o755)  # read by the account of the server, as in the official image
    made = server(15, database="d", mounts={tmp_path: "/docker-entrypoint-initdb.d"})
    assert made.sql("SELECT what FROM seen") == [("sql",), ("sh",)]
    made.restart()
    assert made.sql("SELECT what FROM seen") == [("sql",), ("sh",)]


def test_without_a_password_the_set_up_is_refused(image: Callable[[int], str]) -> None:
    refused = docker("run", "--rm", image(15), check=False)
    assert refused.returncode == 1
    assert "superuser password is not specified" in refused.stderr


def test_a_server_that_is_killed_comes_back(server: Callable[..., Server]) -> None:
    made = server(15, durable=True)
    made.sql("CREATE TABLE t AS SELECT 1 AS x")
    made.kill()
    made.start()
    assert made.sql("SELECT x FROM t") == [(1,)]
