"""Opens the library's clients on the servers of tests, and looks for what they might leave behind."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pgbackup.database.clients import client, connect, sidecar
from pgbackup.database.clients.client import Client, Run
from pgbackup.database.questions import facts
from pgbackup.settings import config
from pgbackup.settings.config import Settings, Target

from tests.support import images, servers
from tests.support.servers import Server, docker

GUARD_SECONDS = 60.0  # more than ten times what anything here takes: only what hangs takes longer
SHORT = {"WAIT_SECONDS": "20", "COMMAND_SECONDS": "20"}


@dataclass(frozen=True)
class Work:
    """An open client with all that its functions want; told: what `auto` said."""

    client: Client
    run: Run
    target: Target
    settings: Settings
    told: list[str] = field(default_factory=list)

    def query(self, sql: str) -> str:
        return self.client.query(sql)

    def gather(self, first: str = "") -> facts.Facts:
        return facts.gather(self.client, first)

    def pg_dump(self, *arguments: str) -> list[str]:
        where = client.conninfo(self.client.connection, self.target.database, self.run.application_name)
        return ["pg_dump", "-w", *arguments, "-d", where]

    def dump(self, stall_seconds: float = 20) -> bytes:
        """A whole dump; fails the test if pg_dump does."""
        with self.client.reading(self.pg_dump()) as stream:
            dumped = b"".join(stream.chunks(stall_seconds))
            assert stream.program.wait(10) == 0, stream.program.stderr
            return dumped


def fresh_run(owner: str = "") -> Run:
    return Run(owner or secrets.token_hex(4), secrets.token_hex(8))


def settings(container: str, user: str, database: str, **values: str) -> Settings:
    """Settings with one target `lab`; values: more of them, LAB_… for the target's own."""
    known = {"DATABASES": "lab", "LAB_CONTAINER": container, "LAB_USER": user, "LAB_DATABASE": database, **SHORT}
    return config.load({}, Path("/nonexistent/.env"), {**known, **values})


@contextmanager
def opened(
    server: Server,
    kind: str = "auto",
    *,
    database: str | None = None,
    user: str | None = None,
    run: Run | None = None,
    pipes: Path | None = None,
    **values: str,
) -> Iterator[Work]:
    """Open a client of that kind on a server."""
    chosen = settings(server.name, user or server.user, database or server.database, LAB_CLIENT=kind, **values)
    (target,) = chosen.targets
    told: list[str] = []
    run = run or fresh_run()
    with (
        tempfile.TemporaryDirectory() as directory,
        connect.opened(target, chosen, run, pipes or Path(directory), told.append) as made,
    ):
        yield Work(made, run, target, chosen, told)


@contextmanager
def direct(server: Server, major: int | None = None, *, database: str | None = None) -> Iterator[Work]:
    """Open the direct client on a server, with programs of `major` (16 or 18, default the newest) on this host."""
    path = f"{images.wheel_tree(major or 18) / 'bin'}:{os.environ['PATH']}"
    with passfile(server) as file, set_to("PATH", path):
        url = f"postgresql://{server.user}@{server.address}:5432/"
        with opened(server, "direct", database=database, LAB_URL=url, LAB_PASSFILE=file) as work:
            yield work


@contextmanager
def passfile(server: Server) -> Iterator[str]:
    """A .pgpass file that opens the server from anywhere."""
    with tempfile.TemporaryDirectory() as directory:
        yield str(server.passfile(Path(directory)))


@contextmanager
def set_to(name: str, value: str) -> Iterator[None]:
    """Let that variable of our environment have that value for the length of the block."""
    with pytest.MonkeyPatch.context() as ours:
        ours.setenv(name, value)
        yield


def docker_host(place: str) -> AbstractContextManager[None]:
    """Let Docker be asked there for the length of the block."""
    return set_to("DOCKER_HOST", place)


def of_kind(server: Server, kind: str, *, database: str | None = None) -> AbstractContextManager[Work]:
    """`opened`, or `direct` for that kind."""
    return direct(server, database=database) if kind == "direct" else opened(server, kind, database=database)


def soon(condition: Callable[[], bool], seconds: float = GUARD_SECONDS) -> bool:
    """Whether it becomes true; the limit is none of a promise, but lets a test end that would wait for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def left_behind(server: Server, run: Run) -> list[str]:
    """What is there of a run: sessions on the server, processes on this machine, containers."""
    sessions = server.sql(
        f"SELECT 'session ' || pid || ' ' || state FROM pg_stat_activity WHERE application_name LIKE '%{run.token}'"
    )
    containers = docker("ps", "-aq", "--filter", f"label={sidecar.LABEL}={run.owner}").stdout.split()
    return [row[0] for row in sessions] + processes(run) + [f"container {name}" for name in containers]


def container_of(run: Run) -> str:
    """The id of the one container of a run."""
    (found,) = docker("ps", "-aq", "--filter", f"label={sidecar.LABEL}={run.owner}").stdout.split()
    return found


def processes(run: Run, program: str = "") -> list[str]:
    """The processes on this machine, in containers too, that have the run's name in their arguments."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if run.token in " ".join(words) and Path(words[0]).name.startswith(program):
            found.append(f"process {entry.name} {words[0]}")
    return found


def crashed(server: Server) -> bool:
    """Whether PostgreSQL ever restarted itself after a crash of one of its processes."""
    return "terminating any other active server processes" in server.logs()


@contextmanager
def lab(rows: int = 60000) -> Iterator[Server]:
    """PostgreSQL 15 with a table of 650 bytes a row. When it is given back it must never have crashed or restarted."""
    with servers.running(15, name="pgbackup-test-lab-", database="shop", user="keeper") as server:
        started = server.sql("SELECT pg_postmaster_start_time()")
        server.sql(f"CREATE TABLE goods AS SELECT i AS id, repeat(md5(i::text), 20) FROM generate_series(1, {rows}) i")
        yield server
        assert server.sql("SELECT pg_postmaster_start_time()") == started
        assert not crashed(server)


def target_of(server: Server, **values: str) -> tuple[Target, Settings]:
    """What container.find() and others want."""
    chosen = settings(server.name, server.user, server.database, **values)
    return chosen.targets[0], chosen


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
