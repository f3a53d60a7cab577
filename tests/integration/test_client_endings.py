"""However a client is left, nothing of it goes on, within limits, and the server takes no harm."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pgbackup.database.clients import container
from pgbackup.database.questions.facts import END_EARLIER
from pgbackup.errors import Unavailable

from tests.support import runs
from tests.support.effort import each_value, wide
from tests.support.runs import left_behind, of_kind, opened, soon
from tests.support.servers import Server, docker

KINDS = ("sidecar", "exec", "direct")
NO_DOCKER = ("direct", "docker")  # it has none in between
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lab(engine: str) -> Iterator[Server]:
    with runs.lab() as server:
        yield server


def programs_pid(work: runs.Work, program: str) -> int:
    """The pid on this machine of a program of the run, when it runs."""
    assert soon(lambda: bool(runs.processes(work.run, program)))
    return int(runs.processes(work.run, program)[0].split()[1])


# That they leave nothing


@each_value(kind=KINDS, moment=["flowing", "waiting for a lock"])
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
        assert soon(lambda: not runs.processes(work.run, "pg_dump"))
        assert [word for word in left_behind(lab, work.run) if word.startswith("session")] == []
        assert work.query("SELECT 1") == "1", "the client is of no use any more"
    assert left_behind(lab, work.run) == []


@wide(
    "kind, victim",
    [("sidecar", "docker"), ("exec", "docker"), ("sidecar", "pg_dump"), ("direct", "backend")],
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
    assert soon(lambda: not left_behind(lab, work.run)), left_behind(lab, work.run)


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
            work.gather(END_EARLIER)
    assert soon(lambda: not left_behind(lab, run)), left_behind(lab, run)


def test_the_check_for_a_crash_of_the_server_sees_one(server: Callable[..., Server]) -> None:
    made = server(15, durable=True)
    with made.connect() as session:
        made.exec(["sh", "-c", f"kill -9 {session.info.backend_pid}"])
        assert soon(lambda: runs.crashed(made))


# Limits


def test_a_short_pause_is_survived(lab: Server) -> None:
    with opened(lab) as work, work.client.reading(work.pg_dump()) as stream:
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
            assert time.monotonic() - begun < runs.GUARD_SECONDS
            told = container.blamed(failed.value, work.client)
            assert told.message == f"container '{lab.name}' is paused"
            assert told.hint == f"docker unpause {lab.name}"
            with pytest.raises(Unavailable, match="is paused"), opened(lab, WAIT_SECONDS="0"):
                pass
        finally:
            docker("unpause", lab.name)
    assert soon(lambda: not left_behind(lab, work.run))


def test_a_docker_that_hangs_is_a_failure_within_limits(lab: Server, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        target, settings = runs.target_of(lab, COMMAND_SECONDS="1")
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="no answer within 1 s"), runs.docker_host(f"unix://{tmp_path}/s"):
            container.inspect(target, settings.docker)
        assert time.monotonic() - begun < runs.GUARD_SECONDS


def test_a_docker_that_begins_to_hang_is_left_within_limits(lab: Server, engine: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with runs.relayed(listener, engine) as flows:
            with runs.docker_host(f"unix://{tmp_path}/s"), opened(lab) as work:
                assert work.client.kind == "sidecar"
                with work.client.reading(work.pg_dump()) as stream:
                    assert next(stream.chunks(10))
                    flows.clear()
                    begun = time.monotonic()
            assert time.monotonic() - begun < runs.GUARD_SECONDS
            flows.set()
            assert soon(lambda: not left_behind(lab, work.run)), left_behind(lab, work.run)
