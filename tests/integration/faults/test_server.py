"""Containers, Docker, servers and databases that fail: rows 9 to 12 of the table of faults."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.conftest import FULL
from tests.support import backups, databases, promises, servers
from tests.support.backups import Place, Source
from tests.support.runs import soon
from tests.support.servers import Server, docker

Tries = Callable[[int, int], int]
Note = Callable[..., None]
KINDS = ["sidecar", "exec"]
QUICK = {"WAIT_SECONDS": "8", "COMMAND_SECONDS": "8", "STALL_SECONDS": "8", "LOCK_WAIT_SECONDS": "4"}
BOUND_SECONDS = 70.0  # several of those limits, one after the other


@pytest.fixture(scope="module")
def auth(engine: str) -> Iterator[Server]:
    """auth_db with 25 MB more, on a server that these tests may maltreat as long as it answers afterwards."""
    with servers.running(15, name="pgbackup-test-a-", database="auth_db", user="auth_user", durable=True) as server:
        databases.container_source(server, "auth", bulk=databases.BULK_ROWS)
        yield server


@pytest.fixture(scope="module")
def payment(engine: str) -> Iterator[Server]:
    with servers.running(15, name="pgbackup-test-b-", database="payment_db", user="payment_user") as server:
        databases.container_source(server, "payment")
        yield server


def source(server: Server, name: str, kind: str) -> Source:
    text = server.exec(["pg_dump", "-U", server.user, server.database]).stdout.encode()
    values = {"CONTAINER": server.name, "DIR": name, "CLIENT": kind, "DATABASE": server.database}
    values |= {"USER": server.user}
    return Source(name, server.database, text, values, lambda sql: server.sql(sql, "postgres"), server.logs)


@pytest.fixture(params=KINDS if FULL else ["either"])
def kind(request: pytest.FixtureRequest) -> str:
    """The client: each of the two in the full numbers; in the short ones always the same of them for a test."""
    if request.param != "either":
        return str(request.param)
    return KINDS[zlib.crc32(request.node.originalname.encode()) % 2]


@pytest.fixture
def place(auth: Server, tmp_path: Path, kind: str) -> Place:
    made = backups.place(tmp_path / "backups", [source(auth, "auth", kind)], **QUICK)
    made.plant(made.sources[0])
    return made


@pytest.fixture
def both(auth: Server, payment: Server, tmp_path: Path) -> Place:
    """Both databases; auth by exec."""
    made = backups.place(
        tmp_path / "backups", [source(auth, "auth", "exec"), source(payment, "payment", "sidecar")], **QUICK
    )
    for one in made.sources:
        made.plant(one)
    return made


# ------------------------------------------------------------------------------------------------- row 9


def test_a_pause_that_ends_in_time_does_no_harm(
    place: Place, auth: Server, kind: str, expected: Note, survived: Note
) -> None:
    fault = f"container paused 5 s in mid-dump, {kind}"
    expected(9, fault, 1)
    with backups.in_dump(place) as process:
        docker("pause", auth.name)
    try:
        time.sleep(5)  # the length of the pause is the fault
    finally:
        docker("unpause", auth.name)
    ended = place.end(process)
    assert ended.status == 0, ended.stderr
    assert len(place.fresh()) == 1
    assert not promises.told(ended) + promises.settled(place)
    survived(9, fault)


def test_a_pause_past_the_limit_fails_the_run(
    place: Place, auth: Server, kind: str, expected: Note, survived: Note
) -> None:
    fault = f"container paused past the limit, {kind}"
    expected(9, fault, 1)
    with backups.in_dump(place) as process:
        docker("pause", auth.name)
    try:
        ended = place.end(process)
    finally:
        docker("unpause", auth.name)
    assert ended.seconds < BOUND_SECONDS
    assert not promises.failed(place, ended, 69)
    assert not promises.after(place, "-q")
    survived(9, fault)


def recreate(server: Server) -> None:
    """Another container under the same name, with another, empty database."""
    docker("rm", "-f", server.name)
    docker("run", "-d", "--name", server.name, "--label", f"{servers.OWNER}=", *environment(server), server.image)


def environment(server: Server) -> list[str]:
    values = {"POSTGRES_USER": server.user, "POSTGRES_DB": server.database, "POSTGRES_PASSWORD": server.password}
    return [word for key, value in values.items() for word in ("-e", f"{key}={value}")]


HARM: dict[str, Callable[[Server], object]] = {
    "stopped": lambda server: docker("stop", "-t", "2", server.name),
    "killed": lambda server: docker("kill", server.name),
    "restarted": lambda server: docker("restart", "-t", "2", server.name),
    "removed": lambda server: docker("rm", "-f", server.name),
    "recreated under its name": recreate,
}


@pytest.mark.parametrize("harm", HARM if FULL else ["killed", "removed", "recreated under its name"])
def test_a_container_that_goes_away_in_mid_dump_fails_the_run(
    tmp_path: Path, engine: str, tries: Tries, expected: Note, survived: Note, harm: str
) -> None:
    """In the short form each harm comes to one of the two clients."""
    chosen = [KINDS[list(HARM).index(harm) % 2]] if tries(0, 1) == 0 else KINDS
    for kind in chosen:
        fault = f"container {harm} in mid-dump, {kind}"
        expected(9, fault, 1)
        with servers.running(15, name="pgbackup-test-a-", database="auth_db", user="auth_user", durable=True) as server:
            databases.container_source(server, "auth", bulk=databases.BULK_ROWS)
            one = source(server, "auth", kind)
            place = backups.place(tmp_path / kind, [one], **QUICK)
            place.plant(one)
            with backups.in_dump(place) as process:
                HARM[harm](server)
            ended = place.end(process)
            assert ended.seconds < BOUND_SECONDS
            if harm in ("removed", "recreated under its name"):
                gone = Source(one.name, one.database, one.text, one.values, lambda _sql: [], lambda: "")
                place.sources = [gone]
            assert not promises.failed(place, ended, 69)
            assert server.name in ended.stderr or "auth_db" in ended.stderr
            if harm in ("stopped", "killed"):
                server.start()
            if harm not in ("removed", "recreated under its name"):
                server.wait()
                assert not promises.after(place, "-q")
            else:
                assert not promises.settled(place)
            survived(9, fault)


# ------------------------------------------------------------------------------------------------ row 10


class Relay:
    """A way to the Docker engine that a test can cut, silence and restore, while the engine itself goes on."""

    def __init__(self, path: Path, tcp: bool = False) -> None:
        self.path, self.tcp, self.silent = path, tcp, False
        self.pairs: list[socket.socket] = []
        self.listener: socket.socket | None = None
        self.open()

    @property
    def host(self) -> str:
        return f"tcp://127.0.0.1:{self.port}" if self.tcp else f"unix://{self.path}"

    def open(self) -> None:
        if self.tcp:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
        else:
            self.path.unlink(missing_ok=True)
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(self.path))
            self.listener.listen(64)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.pairs.append(client)
            if not self.silent:
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(engine_socket())
                self.pairs.append(engine)
                for source, sink in ((client, engine), (engine, client)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                while self.silent:
                    time.sleep(0.05)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Close all that is open and listen no more: what a daemon does that ends."""
        listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            listener.close()
        pairs, self.pairs = self.pairs, []
        for one in pairs:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def engine_socket() -> str:
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")


@contextmanager
def relay(tcp: bool = False) -> Iterator[Relay]:
    made = Relay(Path("/tmp", f"pgbackup-relay-{secrets.token_hex(4)}.sock"), tcp)
    try:
        yield made
    finally:
        made.silent = False
        made.cut()
        made.path.unlink(missing_ok=True)


def test_a_docker_that_is_dead_silent_or_forbidden_fails_the_run_in_time(
    place: Place, kind: str, tmp_path: Path, expected: Note, survived: Note
) -> None:
    backups.needs_root()
    closed = tmp_path / "closed.sock"
    with relay() as way, socket.socket(socket.AF_UNIX) as listener:
        way.silent = True
        listener.bind(str(closed))
        listener.listen(1)
        shutil.chown(closed, "nobody")
        closed.chmod(0)
        # Root passes over file modes by two capabilities, so this run goes without them.
        plain = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
        cases = {
            "dead": (f"unix://{tmp_path}/nothing.sock", [], 69),
            "silent": (way.host, [], 69),
            "forbidden": (f"unix://{closed}", plain, 77),
        }
        for state, (host, prefix, status) in cases.items():
            fault = f"Docker {state}, {kind}"
            expected(10, fault, 1)
            ended = place.run(prefix=prefix, DOCKER_HOST=host, COMMAND_SECONDS="3")
            assert ended.seconds < BOUND_SECONDS
            assert not promises.failed(place, ended, status), state
            assert "ocker" in ended.stderr
            survived(10, fault)
    assert not promises.after(place, "-q")


def test_a_docker_client_that_is_missing_or_hangs_fails_the_run(
    place: Place, tmp_path: Path, expected: Note, survived: Note
) -> None:
    for state, body in {"not there": "", "hangs": "exec sleep 300", "says nothing useful": "echo '[]'"}.items():
        fault = f"docker client {state}"
        expected(10, fault, 1)
        program = tmp_path / "docker client"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        path = "/nonexistent/docker" if not body else f"'{program}'"
        ended = place.run(DOCKER=path, COMMAND_SECONDS="2")
        assert ended.seconds < BOUND_SECONDS
        assert not promises.failed(place, ended, 69), state
        survived(10, fault)
    assert not promises.after(place, "-q")


@pytest.mark.parametrize("how", ["restarted", "hanging"] if FULL else ["restarted"])
def test_a_docker_that_goes_away_in_mid_dump_fails_the_run_or_is_not_missed(
    place: Place, kind: str, expected: Note, survived: Note, how: str
) -> None:
    """Nothing of a sidecar's data passes through Docker, so its dump may come to a good end."""
    fault = f"Docker {how} in mid-dump, {kind}"
    expected(10, fault, 1)
    with relay() as way:
        with backups.in_dump(place, DOCKER_HOST=way.host) as process:
            if how == "restarted":
                way.cut()
            else:
                way.silent = True
        ended = place.end(process)
        assert ended.seconds < BOUND_SECONDS
        assert not promises.problems(place)
        assert not promises.told(ended)
        if ended.status != 0:
            assert not promises.failed(place, ended, 69)
    assert not promises.after(place, "-q")
    survived(10, fault)


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


# ------------------------------------------------------------------------------------- tests of these tests


def test_a_suite_that_takes_a_replaced_container_for_its_own_is_caught(auth: Server, tmp_path: Path) -> None:
    """A name that leads to another container in the end: the check of the id is what tells."""
    one = source(auth, "auth", "exec")
    program = tmp_path / "docker"
    second, other = tmp_path / "second", 's/"Id": "[0-9a-f]*/"Id": "0123/'
    program.write_text(
        f"#!/bin/sh\nreal={shutil.which('docker')}\n"
        'if [ "$1 $2" = "container inspect" ]; then\n'
        f"  [ ! -e '{second}' ] || {{ \"$real\" \"$@\" | sed '{other}'; exit; }}\n"
        f'  : >\'{second}\'\nfi\nexec "$real" "$@"\n'
    )
    program.chmod(0o755)
    place = backups.place(tmp_path / "backups", [one], **QUICK)
    place.plant(one)
    assert not promises.failed(place, place.run(DOCKER=str(program)), 69)
    second.unlink()
    place.root = backups.mutated(
        tmp_path / "copy", ("commands/dump.py", "        _require_same_container(job, client)\n", "")
    )
    assert promises.failed(place, place.run(DOCKER=str(program)), 69), "checker is broken: no error found"
