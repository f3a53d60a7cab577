"""Containers that go away, and Docker itself: rows 9 and 10 of the table of faults."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.faults.containers.conftest import BOUND_SECONDS, KINDS, QUICK, source
from tests.support import backups, databases, promises, relay, servers
from tests.support.backups import Place, Source
from tests.support.effort import chosen, only_in_full, wide
from tests.support.servers import Server, docker

Tries = Callable[[int, int], int]
Note = Callable[..., None]


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


@wide("harm", ["killed", "recreated under its name"], HARM)
def test_a_container_that_goes_away_in_mid_dump_fails_the_run(
    tmp_path: Path, engine: str, expected: Note, survived: Note, harm: str
) -> None:
    """In the short form each harm comes to one of the two clients."""
    for kind in chosen([KINDS[list(HARM).index(harm) % 2]], KINDS):
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


def test_a_docker_that_is_dead_silent_or_forbidden_fails_the_run_in_time(
    place: Place, kind: str, tmp_path: Path, expected: Note, survived: Note
) -> None:
    backups.needs_root()
    closed = tmp_path / "closed.sock"
    with relay.relay() as way, socket.socket(socket.AF_UNIX) as listener:
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


@wide("how", ["restarted"], ["restarted", "hanging"])
def test_a_docker_that_goes_away_in_mid_dump_fails_the_run_or_is_not_missed(
    place: Place, kind: str, expected: Note, survived: Note, how: str
) -> None:
    """Nothing of a sidecar's data passes through Docker, so its dump may come to a good end."""
    fault = f"Docker {how} in mid-dump, {kind}"
    expected(10, fault, 1)
    with relay.relay() as way:
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


# ------------------------------------------------------------------------------------- tests of these tests


@only_in_full
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
