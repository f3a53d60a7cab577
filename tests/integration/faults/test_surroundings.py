"""Hostile environments, and secrets that nobody may see: rows 18 and 20 of the table of faults."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support import backups, databases, promises, relay, servers
from tests.support.backups import Place, Source
from tests.support.effort import FULL
from tests.support.runs import soon
from tests.support.servers import docker

Tries = Callable[[int, int], int]
Note = Callable[..., None]


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[servers.Server]:
    with servers.running(15, name="pgbackup-test-a-", database="auth_db", user="auth_user") as running:
        yield running


# ------------------------------------------------------------------------------------------------ row 18

HOSTILE = {
    "PGOPTIONS": "-c search_path=nowhere -c statement_timeout=1",
    "PGSERVICE": "nowhere",
    "PGHOST": "192.0.2.1",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGDATABASE": "nowhere",
    "PGPASSFILE": "/nonexistent",
    "PGCLIENTENCODING": "LATIN1",
    "PGTZ": "Asia/Kathmandu",
    "PSQLRC": "psqlrc",
    "BASH_ENV": "shell",
    "ENV": "shell",
    "IFS": "/_",
    "CDPATH": "/",
    "PYTHONPATH": ".",
    "PYTHONSTARTUP": "json.py",
    "PYTHONHOME": "/nonexistent",
    "PYTHONINSPECT": "1",
    "PYTHONIOENCODING": "utf-16",
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "tr_TR.UTF-8",
    "GZIP": "-1",
    "POSIXLY_CORRECT": "1",
    "TERM": "",
    "COLUMNS": "-1",
}


@pytest.mark.parametrize("name", [*(HOSTILE if FULL else ("LC_ALL", "PYTHONPATH")), "all of them"])
def test_a_hostile_environment_changes_nothing(
    place: Place, tmp_path: Path, expected: Note, survived: Note, name: str
) -> None:
    fault = "hostile environment, each variable and all"
    expected(18, fault, 1)
    trap, sprung = tmp_path / "current", tmp_path / "sprung"
    trap.mkdir()
    for module in ("json", "os", "sh", "pgbackup", "argparse", "sitecustomize"):
        (trap / f"{module}.py").write_text(f"open({str(sprung)!r}, 'w')\nraise SystemExit(99)\n")
    (trap / "psqlrc").write_text(f"\\! touch {sprung}\n")
    (trap / "shell").write_text(f"touch {sprung}\n")
    (trap / ".env").write_text("RETENTION_DAYS=nonsense\n")
    environment = HOSTILE if name == "all of them" else {name: HOSTILE[name]}
    ended = place.run(prefix=["env", f"--chdir={trap}"], **environment)
    assert ended.status == 0, ended.stderr
    assert not sprung.exists(), "something of the current directory was run"
    assert not promises.told(ended) + promises.settled(place)
    survived(18, fault)


@contextlib.contextmanager
def engine_on_tcp() -> Iterator[str]:
    """The engine's socket as a port of this machine: another machine, as far as a DOCKER_HOST tells."""
    with relay.relay(tcp=True) as way:
        yield way.host


def test_a_docker_host_is_honoured_and_another_machine_is_asked_by_exec(
    server: servers.Server, tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "DOCKER_HOST: unix socket, another machine"
    expected(18, fault, 2)
    source = databases.container_source(server, "auth")
    place = backups.place(tmp_path / "backups", [source])
    with engine_on_tcp() as host:
        for given, client in ((place.environment.get("DOCKER_HOST", ""), "sidecar"), (host, "exec")):
            ended = place.run("--json", **({"DOCKER_HOST": given} if given else {}))
            assert ended.status == 0, ended.stderr
            assert json.loads(ended.stdout)["databases"][0]["client"] == client
            survived(18, fault)
    assert not promises.settled(place)


# ------------------------------------------------------------------------------------------------ row 20

PASSWORD = "Tr0ub4dor&3-'\"correct horse"


class Watch:
    """Looks at the command lines and environments of all processes, and at the helper containers, as long as it is."""

    def __init__(self, secret: str, mark: str) -> None:
        self.secret, self.mark = secret.encode(), mark
        self.seen: set[str] = set()
        self.looks = self.containers = 0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=look) for look in (self._processes, self._containers)]

    def _processes(self) -> None:
        while not self.over.is_set():
            self.looks += 1
            for entry in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        if self.secret in (entry / name).read_bytes():
                            self.seen.add(f"F: {name} of {(entry / 'cmdline').read_bytes()[:80]!r}")

    def _containers(self) -> None:
        while not self.over.is_set():
            names = docker("ps", "-aq", "--filter", f"label=pgbackup.owner={self.mark}", check=False).stdout.split()
            for name in names:
                shown = docker("inspect", name, check=False).stdout
                self.containers += '"Id"' in shown
                if self.secret.decode() in shown or json.dumps(self.secret.decode())[1:-1] in shown:
                    self.seen.add("F: docker inspect of the sidecar")

    def __enter__(self) -> Watch:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def written_secrets(place: Place, ended: backups.Ended) -> list[str]:
    """Where the password stands in what a run has written: log, stdout, stderr, the files and their manifests."""
    texts = {"stdout": ended.stdout, "stderr": ended.stderr, "log": "\n".join(place.log())}
    for path in place.fresh():
        texts[path.name] = subprocess.run(["gunzip", "-c", str(path)], capture_output=True, check=True).stdout.decode()
    shapes = {PASSWORD, json.dumps(PASSWORD)[1:-1], PASSWORD.replace("'", "''")}
    return [f"F: {name}" for name, text in texts.items() if any(shape in text for shape in shapes)]


@pytest.fixture(scope="module")
def guarded(server: servers.Server) -> servers.Server:
    """A server that asks everybody for a password, on the loopback too; a role of ours has one."""
    databases.container_source(server, "auth", bulk=databases.BULK_ROWS)
    with server.connect() as session:
        session.execute(
            psycopg.sql.SQL("CREATE ROLE keeper LOGIN SUPERUSER PASSWORD {}").format(psycopg.sql.Literal(PASSWORD))
        )
    data = server.sql("SHOW data_directory")[0][0]
    server.exec(["sh", "-c", f"echo 'host all all all scram-sha-256' >{data}/pg_hba.conf"])
    server.sql("SELECT pg_reload_conf()")
    return server


@pytest.mark.parametrize("kind", ["sidecar", "direct"])
def test_a_password_is_nowhere_to_be_seen(
    guarded: servers.Server, tmp_path: Path, expected: Note, survived: Note, kind: str
) -> None:
    fault = f"password in processes, containers, log, files, {kind}"
    expected(20, fault, 2)
    passfile = tmp_path / "pass"
    passfile.touch(0o600)
    passfile.write_text("*:*:*:keeper:" + PASSWORD.replace("\\", "\\\\").replace(":", "\\:") + "\n")
    values = {"CONTAINER": guarded.name, "DIR": "auth", "CLIENT": kind, "DATABASE": "auth_db", "USER": "keeper"}
    values |= {"PASSFILE": str(passfile)}
    if kind == "direct":
        values |= {"URL": f"postgresql://keeper@{guarded.address}:5432/auth_db"}
        programs = str(databases.embedded_programs(18))
        values["PROGRAMS"] = programs
    source = Source("auth", "auth_db", b"", values, lambda text: guarded.sql(text, "postgres"), lambda: "")
    place = backups.place(tmp_path / "backups", [source])
    with Watch(PASSWORD, promises.owner(place, source)) as watch:
        ended = place.run()
    assert ended.status == 0, ended.stderr
    assert watch.looks > 2
    assert kind == "direct" or watch.containers > 0, "the watch saw no container: it proves nothing"
    assert not watch.seen
    assert not written_secrets(place, ended)
    survived(20, fault)
    passfile.write_text(f"*:*:*:keeper:{PASSWORD}wrong\n")
    with Watch(PASSWORD, promises.owner(place, source)) as watch:
        ended = place.run()
    assert ended.status == 77, ended.stderr
    assert not list(watch.seen) + written_secrets(place, ended)
    survived(20, fault)


def test_a_password_in_a_url_is_refused_and_not_repeated(place: Place, expected: Note, survived: Note) -> None:
    fault = "password in a URL"
    expected(20, fault, 2)
    for url in ("postgresql://keeper:Sekret77@localhost/auth_db", "postgresql://localhost/auth_db?password=Sekret77"):
        ended = place.run("--json", AUTH_URL=url)
        assert ended.status == 78
        assert "Sekret77" not in ended.stdout + ended.stderr + "".join(place.log())
        survived(20, fault)


# ------------------------------------------------------------------------------------- tests of these tests


def test_the_watch_sees_a_secret_on_a_command_line_and_in_an_environment() -> None:
    with (
        Watch("a-secret-of-the-test", "x") as watch,
        subprocess.Popen(["sh", "-c", "read x", "a-secret-of-the-test"], stdin=subprocess.PIPE),
    ):
        assert soon(lambda: bool(watch.seen)), "checker is broken: no error found"
    given = {"PATH": os.environ["PATH"], "SECRET": "another-secret-of-the-test"}
    with (
        Watch("another-secret-of-the-test", "x") as watch,
        subprocess.Popen(["sh", "-c", "read x"], env=given, stdin=subprocess.PIPE),
    ):
        assert soon(lambda: bool(watch.seen)), "checker is broken: no error found"
