"""The three clients: each reaches the right database, delivers a whole dump, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pgbackup import proc
from pgbackup.database import container, failures
from pgbackup.errors import ConfigurationError, PermissionDenied, Unavailable

from tests.support import runs, servers
from tests.support.runs import left_behind, of_kind, opened, soon
from tests.support.servers import Server, docker

KINDS = ("sidecar", "exec", "direct")
NO_DOCKER = ("direct", "docker")  # it has none in between
ROOT = Path(__file__).parents[2]
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
    """PostgreSQL 15 with 40 MB to dump in shop. At the end it must never have crashed or restarted."""
    with servers.running(15, name="pgbackup-test-lab-", database="shop", user="keeper") as server:
        started = server.sql("SELECT pg_postmaster_start_time()")
        server.sql(
            "CREATE TABLE goods AS SELECT i AS id, repeat(md5(i::text), 20) AS what FROM generate_series(1, 60000) i"
        )
        yield server
        assert server.sql("SELECT pg_postmaster_start_time()") == started
        assert not crashed(server)


def crashed(server: Server) -> bool:
    return "terminating any other active server processes" in server.logs()


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


def programs_pid(work: runs.Work, program: str) -> int:
    """The pid on this machine of a program of the run, when it runs."""
    assert soon(lambda: bool(runs.processes(work.run, program)))
    return int(runs.processes(work.run, program)[0].split()[1])


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


@pytest.mark.parametrize("kind", KINDS)
def test_18_is_dumped_too(newest: Server, kind: str) -> None:
    with of_kind(newest, kind) as work:
        found = work.gather()
        assert (found.server_version[:3], found.tables, found.details["owner"]) == ("18.", 1, "keeper")
        assert b"dump complete" in work.dump()[-200:]


def test_16_is_dumped_too(server) -> None:
    made = server(16)
    with opened(made) as work:
        assert work.client.kind == "sidecar"
        found = work.gather()
        assert (found.server_version[:3], found.tables, found.details["owner"]) == ("16.", 0, "postgres")
        assert b"dump complete" in work.dump()[-200:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_only_a_name(named: Server, kind: str) -> None:
    with of_kind(named, kind) as work:
        for name in HOSTILE_NAMES:
            there = replace(work, target=replace(work.target, database=name))
            assert there.query("SELECT current_database()") == name
    with of_kind(named, kind, database="dbname=postgres host=evil") as work:
        assert work.gather().details["database"]["datname"] == "dbname=postgres host=evil"
        assert b"dump complete" in work.dump()[-200:]


def test_a_name_that_the_server_would_cut_is_refused(named: Server) -> None:
    longer = HOSTILE_NAMES[-2] + "y"
    with opened(named, "exec") as work, pytest.raises(Unavailable) as refused:
        replace(work, target=replace(work.target, database=longer)).gather()
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
            'keeper|shop|"$user", public'
        )
        assert b"dump complete" in work.dump()[-200:]


# Which one is chosen


def test_auto_is_a_sidecar(lab: Server) -> None:
    with opened(lab) as work:
        assert (work.client.kind, work.told) == ("sidecar", [])
        assert work.client.container_id == lab.id
        assert work.client.image_id.startswith("sha256:")


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


def seen_with(secret: str, run: runs.Run) -> list[str]:
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
    if secret in docker("inspect", run.application_name).stdout:
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


@contextmanager
def relayed(listener: socket.socket, host: str) -> Iterator[threading.Event]:
    """Pass what comes to a listening socket on to the engine, as long as the event that is given is set."""
    engine_socket = host.removeprefix("unix://") or "/var/run/docker.sock"
    flows = threading.Event()
    flows.set()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                flows.wait()
                sink.sendall(data)
            flows.wait()
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve() -> None:
        while True:
            try:
                outside, _ = listener.accept()
            except OSError:
                return
            flows.wait()
            inside = socket.socket(socket.AF_UNIX)
            inside.connect(engine_socket)
            for pair in ((outside, inside), (inside, outside)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield flows


def test_docker_on_another_machine_means_exec(lab: Server, engine: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, relayed(listener, engine):
        remote = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        environment = {**proc.environment(os.environ), "DOCKER_HOST": remote}
        with opened(lab, environment=environment) as work:
            assert work.client.kind == "exec"
            assert remote in work.told[0]
            assert b"dump complete" in work.dump()[-200:]


@pytest.mark.parametrize("reason", ["no FIFO", "no docker run"])
def test_where_no_sidecar_can_be_it_is_exec(lab: Server, reason: str) -> None:
    refusing = (
        """sh -c 'if [ "$1" = run ]; then echo "docker: not allowed here" >&2; exit 126; fi; exec docker "$@"' -"""
    )
    options = {"pipes": Path("/proc/self")} if reason == "no FIFO" else {"DOCKER": refusing}
    with opened(lab, **options) as work:
        assert work.client.kind == "exec"
        assert ("FIFO" if reason == "no FIFO" else "not allowed here") in work.told[0]
        assert b"dump complete" in work.dump()[-200:]


def test_a_server_without_network_on_another_port_has_a_sidecar(server) -> None:
    made = server(15, network_mode="none", environment={"PGPORT": "5544"}, wait=False)
    with opened(made, "sidecar") as work:
        assert work.gather().tables == 0  # it was just starting: this waited for it
        assert b"dump complete" in work.dump()[-200:]
    with opened(made) as work:
        assert work.client.kind == "sidecar"


def test_a_server_that_listens_on_its_socket_only_means_exec(server) -> None:
    made = server(15, settings={"listen_addresses": ""}, environment={"PGPORT": "5545"}, wait=False)
    with opened(made) as work:
        assert work.client.kind == "exec"
        assert "Connection refused" in work.told[0]
        assert soon(lambda: "ready for start up" in made.logs())
        assert work.gather().tables == 0


# That they leave nothing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", ["flowing", "waiting for a lock"])
def test_leaving_early_ends_everything(lab: Server, kind: str, moment: str) -> None:
    with of_kind(lab, kind) as work, lab.connect(autocommit=False) as other:
        if moment != "flowing":
            other.execute("LOCK TABLE goods")
        with work.client.reading(work.pg_dump()) as stream:
            if moment == "flowing":
                assert next(stream.chunks(10))
                assert runs.processes(work.run, "pg_dump"), "the checker sees nothing"
            else:
                with pytest.raises(Unavailable, match=r"'shop' delivered nothing for 0\.5 s"):
                    for _ in stream.chunks(0.5):
                        pass
        assert soon(lambda: not runs.processes(work.run, "pg_dump"), 2)
        assert [word for word in left_behind(lab, work.run) if word.startswith("session")] == []
        assert work.query("SELECT 1") == "1", "the client is of no use any more"
    assert left_behind(lab, work.run) == []


@pytest.mark.parametrize(
    ("kind", "victim"),
    [(kind, victim) for kind in KINDS for victim in ("docker", "pg_dump", "backend") if (kind, victim) != NO_DOCKER],
)
def test_whatever_is_killed_the_dump_fails_and_nothing_is_left(lab: Server, kind: str, victim: str) -> None:
    with of_kind(lab, kind) as work:
        with work.client.reading(work.pg_dump()) as stream:
            pieces = stream.chunks(10)
            next(pieces)
            if victim == "backend":
                ended = lab.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    f" WHERE application_name = '{work.run.application_name}'"
                )
                assert ended == [(True,)]
            elif victim == "docker":
                os.kill(stream.program.pid, signal.SIGKILL)
            else:
                os.kill(programs_pid(work, "pg_dump"), signal.SIGKILL)
            rest = b"".join(pieces)
            assert stream.program.wait(10) != 0
            assert b"dump complete" not in rest
        assert [word for word in left_behind(lab, work.run) if word.startswith("session")] == []
    assert soon(lambda: not left_behind(lab, work.run), 2), left_behind(lab, work.run)


_DUMPER = """
import sys, time
from tests.support import runs, servers
server = servers.Server(*sys.argv[1:4], 15, *sys.argv[4:7])
with runs.opened(server, sys.argv[7], run=runs.Run(*sys.argv[8:10])) as work:
    with work.client.reading(work.pg_dump()) as stream:
        next(stream.chunks(10))
        print("flowing", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["sidecar", "exec"])
def test_after_kill_9_the_sidecar_goes_by_itself_and_the_next_run_ends_the_rest(lab: Server, kind: str) -> None:
    run = runs.fresh_run()
    words = [lab.name, lab.id, lab.image, lab.database, lab.user, lab.password, kind, run.owner, run.token]
    with subprocess.Popen(
        [sys.executable, "-c", _DUMPER, *words],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'lib'}"},
        cwd=ROOT,
    ) as dumper:
        assert dumper.stdout is not None
        assert dumper.stdout.readline() == b"flowing\n"
        dumper.kill()
    if kind == "exec":
        with opened(lab, kind, run=runs.fresh_run(run.owner)) as work:
            work.gather()
    assert soon(lambda: not left_behind(lab, run), 5), left_behind(lab, run)


def test_the_check_for_a_crash_of_the_server_sees_one(server) -> None:
    made = server(15, durable=True)
    with made.connect() as session:
        made.exec(["sh", "-c", f"kill -9 {session.info.backend_pid}"])
        assert soon(lambda: crashed(made))


# Limits


@pytest.mark.parametrize("kind", ["sidecar", "exec"])
def test_a_short_pause_is_survived(lab: Server, kind: str) -> None:
    with opened(lab, kind) as work, work.client.reading(work.pg_dump()) as stream:
        pieces = stream.chunks(10)
        dumped = next(pieces)
        docker("pause", lab.name)
        resume = threading.Timer(0.6, docker, ("unpause", lab.name))
        resume.start()
        dumped += b"".join(pieces)
        resume.join()
        assert stream.program.wait(10) == 0
    assert b"dump complete" in dumped[-200:]


def test_a_long_pause_is_a_failure_within_limits(lab: Server) -> None:
    with opened(lab, "sidecar") as work:
        docker("pause", lab.name)
        try:
            begun = time.monotonic()
            with pytest.raises(Unavailable) as failed, work.client.reading(work.pg_dump()) as stream:
                for _ in stream.chunks(0.5):
                    pass
            assert time.monotonic() - begun < 8
            told = container.blamed(failed.value, lab.id, work.target, work.settings, work.client.environment)
            assert told.message == f"container '{lab.name}' is paused"
            assert told.hint == f"docker unpause {lab.name}"
            with pytest.raises(Unavailable, match="is paused"), opened(lab, WAIT_SECONDS="0"):
                pass
        finally:
            docker("unpause", lab.name)
    assert soon(lambda: not left_behind(lab, work.run), 5)


def test_a_docker_that_hangs_is_a_failure_within_limits(lab: Server, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        environment = {**proc.environment(os.environ), "DOCKER_HOST": f"unix://{tmp_path}/s"}
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="no answer within 1 s"):
            container.inspect(*lab_target(lab, COMMAND_SECONDS="1"), environment)
        assert time.monotonic() - begun < 5


def test_a_docker_that_begins_to_hang_is_left_within_limits(lab: Server, engine: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        environment = {**proc.environment(os.environ), "DOCKER_HOST": f"unix://{tmp_path}/s"}
        with relayed(listener, engine) as flows:
            with opened(lab, environment=environment) as work:
                assert work.client.kind == "sidecar"
                with work.client.reading(work.pg_dump()) as stream:
                    assert next(stream.chunks(10))
                    flows.clear()
                    begun = time.monotonic()
            assert time.monotonic() - begun < 10
            flows.set()
            assert soon(lambda: not left_behind(lab, work.run), 5), left_behind(lab, work.run)


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


def lab_target(lab: Server, **values: str):
    chosen = runs.settings(lab.name, lab.user, lab.database, **values)
    return chosen.targets[0], chosen


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
    plain = proc.environment(os.environ)
    with pytest.raises(Unavailable, match="container 'absent' is not there"):
        chosen = runs.settings("absent", "keeper", "shop")
        container.find(chosen.targets[0], chosen, plain)
    with pytest.raises(Unavailable, match="Docker cannot be reached"):
        container.find(*lab_target(lab), {**plain, "DOCKER_HOST": f"unix://{tmp_path}/none"})
    with pytest.raises(Unavailable, match="there is no program 'dokker'"):
        container.find(*lab_target(lab, DOCKER="dokker"), plain)
    if os.geteuid() == 0:
        stranger = "setpriv --reuid=65534 --regid=65534 --clear-groups docker"
        with pytest.raises(PermissionDenied, match="may not use Docker") as refused:
            container.find(*lab_target(lab, DOCKER=stranger), plain)
        assert "usermod -aG docker" in (refused.value.hint or "")


def test_a_container_that_was_stopped_or_replaced_is_told(server) -> None:
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
            raise container.blamed(stopped.value, made.id, work.target, work.settings, work.client.environment)
