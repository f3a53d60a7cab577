"""The three clients: each reaches the right database and delivers a whole dump; `auto` takes the best that works."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pgbackup.database.clients import container, sidecar
from pgbackup.database.clients.client import Run
from pgbackup.errors import ConfigurationError, PermissionDenied, Unavailable

from tests.support import runs, servers
from tests.support.effort import chosen, wide
from tests.support.runs import left_behind, of_kind, opened, soon
from tests.support.servers import Server, docker

KINDS = ("sidecar", "exec", "direct")
HOSTILE_NAMES = (
    "-h",
    "a/b",
    "../x",
    "$(id)",
    ";",
    " a  b ",
    "*",
    "new\nline",
    "quo'te\"\\'",
    "dbname=postgres host=evil",
    "postgresql://evil/postgres",
    "ÄÖ€" + "x" * 56,
    "İı-tr",
)


@pytest.fixture(scope="module")
def lab(engine: str) -> Iterator[Server]:
    with runs.lab() as server:
        yield server


@pytest.fixture(scope="module")
def named(lab: Server) -> Server:
    """The lab with databases of all the hostile names."""
    with lab.connect() as session:
        for name in HOSTILE_NAMES:
            quoted = name.replace('"', '""')
            session.execute(f'CREATE DATABASE "{quoted}" TEMPLATE template0 STRATEGY wal_log'.encode())
    return lab


@pytest.fixture(scope="module")
def newest(engine: str) -> Iterator[Server]:
    with servers.running(18, database="shop", user="keeper") as server:
        server.sql("CREATE TABLE goods AS SELECT 1 AS id")
        yield server


# What they are for


@pytest.mark.parametrize("kind", KINDS)
def test_a_dump_is_whole_and_of_the_servers_version(lab: Server, kind: str) -> None:
    with of_kind(lab, kind) as work:
        dumped = work.dump()
        assert work.client.kind == kind
    assert dumped.count(b"\n60000\t") == 1
    assert b"\n-- PostgreSQL database dump complete\n" in dumped[-200:]
    if kind != "direct":
        assert b"Dumped by pg_dump version 15." in dumped[:300]
    assert not left_behind(lab, work.run)


@wide("kind", ["sidecar", "direct"], KINDS)
def test_18_is_dumped_too(newest: Server, kind: str) -> None:
    with of_kind(newest, kind) as work:
        found = work.gather()
        assert (found.server_version[:3], found.tables, found.details["owner"]) == ("18.", 1, "keeper")
        assert b"dump complete" in work.dump()[-200:]


@pytest.mark.fault(17, "database names that look like options, paths, programs or connection strings")
@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_only_a_name(named: Server, kind: str) -> None:
    with of_kind(named, kind) as work:
        for name in HOSTILE_NAMES[:: chosen(1 + (kind != "exec"), 1)]:
            work.client.target = replace(work.target, database=name)
            assert work.query("SELECT current_database()") == name
    with of_kind(named, kind, database="dbname=postgres host=evil") as work:
        assert work.gather().details["database"]["datname"] == "dbname=postgres host=evil"
        assert b"dump complete" in work.dump()[-200:]


def test_a_name_that_the_server_would_cut_is_refused(named: Server) -> None:
    longer = HOSTILE_NAMES[-2] + "y"
    with opened(named, "exec") as work, pytest.raises(Unavailable) as refused:
        work.client.target = replace(work.target, database=longer)
        work.gather()
    assert longer in refused.value.message


@pytest.mark.parametrize("kind", KINDS)
def test_the_callers_environment_changes_nothing(lab: Server, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = {
        "PGOPTIONS": "-c search_path=evil -c extra_float_digits=0",
        "PGSERVICE": "evil",
        "PGHOST": "evil",
        "PGPORT": "1",
        "PGDATABASE": "evil",
        "PGUSER": "evil",
        "PGPASSFILE": "/evil",
        "PGCLIENTENCODING": "LATIN1",
        "PSQLRC": "/evil",
        "LC_ALL": "tr_TR",
        "LANGUAGE": "tr",
    }
    for key, value in hostile.items():
        monkeypatch.setenv(key, value)
    with of_kind(lab, kind) as work:
        assert work.query("SELECT current_user, current_database(), current_setting('search_path')") == (
            "keeper|shop|pg_catalog"
        )
        assert b"dump complete" in work.dump()[-200:]


# Which one is chosen


def test_auto_is_a_sidecar_without_privileges(lab: Server, tmp_path: Path) -> None:
    pipes = tmp_path / 'a, "b":c'
    pipes.mkdir()
    with opened(lab, pipes=pipes) as work:
        assert (work.client.kind, work.told) == ("sidecar", [])
        assert work.client.container_id == lab.id
        assert work.client.image_id.startswith("sha256:")
        (made,) = json.loads(docker("inspect", runs.container_of(work.run)).stdout)
        host = made["HostConfig"]
        assert made["Config"]["User"] == f"{os.geteuid()}:{os.getegid()}"
        assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
        assert (host["ReadonlyRootfs"], host["SecurityOpt"]) == (True, ["no-new-privileges"])
        assert [mount["Destination"] for mount in made["Mounts"] if mount["Type"] == "bind"] == ["/pipes"]
    assert list(pipes.iterdir()) == []


def test_sidecars_that_were_left_are_found_and_removed_and_nobody_elses(lab: Server) -> None:
    dead, other = runs.fresh_run(), runs.fresh_run()
    engine = runs.target_of(lab)[1].docker
    try:
        for run in (dead, other):
            docker("create", "--name", run.application_name, "--label", f"{sidecar.LABEL}={run.owner}", lab.image)
        again = runs.fresh_run(dead.owner)
        left = sidecar.leftovers(again, engine)
        assert len(left) == 1
        sidecar.remove(left, engine)
        assert sidecar.leftovers(again, engine) == []
        assert len(sidecar.leftovers(other, engine)) == 1
    finally:
        docker("rm", "-fv", dead.application_name, other.application_name, check=False)


@contextmanager
def password_wanted(server: Server) -> Iterator[None]:
    """Let the server ask for the password on the loopback address."""
    path = f"{server.sql('SHOW data_directory')[0][0]}/pg_hba.conf"
    before = server.exec(["cat", path]).stdout
    new = "local all all trust\nhost all all all scram-sha-256\n"
    try:
        server.exec(["sh", "-c", f'cat >"{path}"'], stdin=new)
        server.sql("SELECT pg_reload_conf()")
        assert soon(lambda: server.sql("SELECT count(*) FROM pg_hba_file_rules") == [(2,)])
        yield
    finally:
        server.exec(["sh", "-c", f'cat >"{path}"'], stdin=before)
        server.sql("SELECT pg_reload_conf()")


def test_a_password_on_the_loopback_comes_from_the_passfile_or_makes_auto_fall_back(lab: Server) -> None:
    with password_wanted(lab):
        with opened(lab) as work:
            assert work.client.kind == "exec"
            assert "password" in work.told[0]
            assert b"dump complete" in work.dump()[-200:]
        assert not left_behind(lab, work.run)
        with pytest.raises(PermissionDenied, match="keeper") as refused, opened(lab, "sidecar") as work:
            work.gather()
        assert "LAB_PASSFILE" in (refused.value.hint or "")
        with runs.passfile(lab) as file, opened(lab, LAB_PASSFILE=file) as work:
            assert (work.client.kind, work.told) == ("sidecar", [])
            with work.client.reading(work.pg_dump()) as stream:
                next(stream.chunks(10))
                assert not seen_with(lab.password, work.run)
                assert seen_with("PGPASSFILE", work.run), "the checker looked at nothing"


def seen_with(secret: str, run: Run) -> list[str]:
    """Where a word can be read: arguments and environments of all processes, `docker inspect` of the sidecar."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                text = (entry / name).read_bytes()
            except OSError:
                continue
            if secret.encode() in text and b"POSTGRES_PASSWORD" not in text:
                found.append(f"{entry.name} {name}")
    if secret in docker("inspect", runs.container_of(run)).stdout:
        found.append("docker inspect")
    return found


def test_a_passfile_of_somebody_else_serves_root(lab: Server) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may read a file of somebody else")
    with password_wanted(lab), runs.passfile(lab) as file:
        os.chown(file, 65534, 65534)
        with opened(lab, "sidecar", LAB_PASSFILE=file) as work:
            assert work.query("SELECT 1") == "1"


def test_a_passfile_that_libpq_would_ignore_is_refused(lab: Server) -> None:
    with runs.passfile(lab) as file:
        os.chmod(file, 0o640)  # noqa: PTH101
        with pytest.raises(ConfigurationError, match="only its owner"), opened(lab, LAB_PASSFILE=file):
            pass
    with pytest.raises(ConfigurationError, match="LAB_PASSFILE"), opened(lab, LAB_PASSFILE=file):
        pass


def test_docker_on_another_machine_means_exec(lab: Server, engine: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, runs.relayed(listener, engine):
        remote = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        with runs.docker_host(remote), opened(lab) as work:
            assert work.client.kind == "exec"
            assert remote in work.told[0]
            assert b"dump complete" in work.dump()[-200:]


# What a Docker that is rootless or remaps users does: the container's user is another one on the host.
REMAPPING = """sh -c 'n=$#; while [ $n -gt 0 ]; do word=$1; shift; [ "$last" = --user ] && word=100000:100000
last=$word; set -- "$@" "$word"; n=$((n-1)); done; exec docker "$@"' -"""


@pytest.mark.parametrize("reason", ["no FIFO", "no docker run", "users are remapped"])
def test_where_no_sidecar_can_be_it_is_exec(lab: Server, reason: str) -> None:
    refusing = (
        """sh -c 'if [ "$1" = run ]; then echo "docker: not allowed here" >&2; exit 126; fi; exec docker "$@"' -"""
    )
    pipes, client, said = {
        "no FIFO": (Path("/proc/self"), "docker", "FIFO"),
        "no docker run": (None, refusing, "not allowed here"),
        "users are remapped": (None, REMAPPING, "Permission denied"),
    }[reason]
    with opened(lab, pipes=pipes, DOCKER=client) as work:
        assert work.client.kind == "exec"
        (told,) = work.told
        assert said in told, "once, and at once: it does not wait for what never comes"
        assert b"dump complete" in work.dump()[-200:]


def test_16_without_network_on_another_port_has_a_sidecar(server: Callable[..., Server]) -> None:
    made = server(16, network_mode="none", environment={"PGPORT": "5544"}, wait=False)
    with opened(made, "sidecar") as work:
        found = work.gather()  # it was just starting: this waited for it
        assert (found.server_version[:3], found.tables, found.details["owner"]) == ("16.", 0, "postgres")
        assert b"dump complete" in work.dump()[-200:]
    with opened(made) as work:
        assert work.client.kind == "sidecar"


def test_a_server_that_listens_on_its_socket_only_means_exec(server: Callable[..., Server]) -> None:
    made = server(15, settings={"listen_addresses": ""}, environment={"PGPORT": "5545"}, wait=False)
    with opened(made) as work:
        assert work.client.kind == "exec"
        assert "Connection refused" in work.told[0]
        assert soon(lambda: "ready for start up" in made.logs())
        assert work.gather().tables == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "port"),
    [
        (["postgres"], [], "5432"),
        (["postgres", "-c", "fsync=off"], ["PGPORT=5499", "PATH=/bin"], "5499"),
        (["postgres", "-p", "5433"], ["PGPORT=5499"], "5433"),
        (["postgres", "-p5434"], [], "5434"),
        (["-c", "port=5435", "-c", "max_connections=10"], [], "5435"),
        (["--port=5436", "--reporting=1"], [], "5436"),
        (["postgres", "-c", "report=1", "/data/-p5437x"], ["PGPORT="], "5432"),
    ],
)
def test_the_port_is_read_from_how_the_container_was_started(
    arguments: list[str], environment: list[str], port: str
) -> None:
    assert container.server_port(arguments, environment) == port
