"""Runs that are killed, or lose the programs that work for them: rows 1, 2 and 4 of the table of faults."""

from __future__ import annotations

import gzip
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.support import backups, killing, promises
from tests.support.backups import Place, Source
from tests.support.effort import FULL, only_in_full

Tries = Callable[[int, int], int]
Note = Callable[..., None]


# ------------------------------------------------------------------------------------------------- row 1


def killed_at_random(place: Place, how: Callable[[int], None], count: int, done: Callable[[], None]) -> None:
    """Kill `count` runs at moments from 0 to 1.2 of a run's time, and check after each of them and its successor."""
    took = place.run("-q").seconds
    chosen = random.Random(took)
    for number in range(count):
        place.again()
        delay = chosen.uniform(0, 1.2 * took)
        process = place.start()
        time.sleep(delay)
        if process.poll() is None:
            how(process.pid)
        process.communicate()
        where = f"try {number}: killed after {delay:.3f} s of {took:.3f} s"
        assert not promises.problems(place), where
        assert not promises.after(place, "-q"), where
        done()


@pytest.mark.parametrize("how", [killing.kill_process, killing.kill_everything], ids=["process", "group"])
def test_a_kill_at_any_moment_leaves_only_good_backups(
    small: list[Source], tmp_path: Path, tries: Tries, expected: Note, survived: Note, how: Callable[[int], None]
) -> None:
    fault, count = (
        f"kill -9 of the {'process' if how is killing.kill_process else 'whole group'}, direct",
        tries(2, 300),
    )
    expected(1, fault, count)
    killed_at_random(backups.prepared(tmp_path, small), how, count, lambda: survived(1, fault))


def test_a_kill_beside_a_container_leaves_nothing_behind_in_it(
    contained: list[Source], tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    place, kind = backups.prepared(tmp_path, contained), contained[0].values["CLIENT"]
    for how in (killing.kill_process, killing.kill_everything) if FULL else (killing.kill_everything,):
        fault, count = f"kill -9 of the {how.__name__.removeprefix('kill_')}, {kind}", tries(1, 40)
        expected(1, fault, count)
        killed_at_random(place, how, count, partial(survived, 1, fault))


def test_a_kill_in_mid_dump_ends_the_servers_session_at_the_next_run(
    contained: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = f"kill -9 in mid-dump, {contained[0].values['CLIENT']}"
    expected(1, fault, 1)
    place = backups.prepared(tmp_path, contained)
    with backups.in_dump(place) as process:
        killing.kill_everything(process.pid)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert not promises.problems(place)
    assert not promises.after(place, "-q")
    survived(1, fault)


# ------------------------------------------------------------------------------------------------- row 2

CALLS = ("openat", "mkdirat,mkdir", "write", "fsync", "linkat", "unlinkat", "symlinkat", "renameat", "utimensat")


def traced(place: Place, call: str, inject: str = "") -> subprocess.CompletedProcess[str]:
    """Run auth's backup alone under strace, its programs not traced; the log of the calls is in `stdout`.

    Of openat only those count that open something in the place: Python's own imports come before.
    """
    log = place.path.parent / "trace"
    paths = [place.path, *(place.path / one.directory for one in place.sources), place.path / "backup.log"]
    only = [word for path in paths for word in ("-P", str(path))] if call == "openat" else []
    wish = ["-e", f"inject={call}:{inject}"] if inject else []
    strace = ["strace", "-f", "-b", "execve", "-o", str(log), "-e", f"trace={call}", *only, *wish]
    program = [str(place.root / ".venv/bin/python"), "-I", str(place.root / "lib/pgbackup"), "backup", "auth"]
    done = subprocess.run(
        [*strace, *program], env=place.environment, capture_output=True, text=True, timeout=60, check=False
    )
    return subprocess.CompletedProcess(done.args, done.returncode, log.read_text(errors="replace"), done.stderr)


def calls_per_thread(trace: str, call: str) -> int:
    """The most calls that one thread made: strace counts them for each thread."""
    counts: dict[str, int] = {}
    for thread, _name in re.findall(rf"^(\d+) +({call.replace(',', '|')})\(", trace, re.MULTILINE):
        counts[thread] = counts.get(thread, 0) + 1
    return max(counts.values(), default=0)


@pytest.mark.parametrize("call", CALLS)
def test_a_kill_at_any_system_call_leaves_only_good_backups(
    small: list[Source], tmp_path: Path, tries: Tries, expected: Note, survived: Note, call: str
) -> None:
    backups.needs(strace="strace")
    place = backups.prepared(tmp_path, small[:1])
    last = calls_per_thread(traced(place, call).stdout, call)
    assert last, f"{call} is never called: the test looks at the wrong calls"
    whole = list(range(1, last + 1))
    chosen = random.Random(call).sample(whole, min(last, tries(1, last)))
    fault = f"kill -9 at each {call}"
    expected(2, fault, len(chosen))
    for number in chosen:
        place.again()
        traced(place, call, f"signal=KILL:when={number}")
        assert not promises.problems(place), f"{call} number {number} of {last}"
        assert not promises.after(place, "-q"), f"{call} number {number} of {last}"
        survived(2, fault)


# ------------------------------------------------------------------------------------------------- row 4


def test_killing_what_works_for_a_run_fails_it_and_publishes_nothing(
    contained: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    kind = contained[0].values["CLIENT"]
    place = backups.prepared(tmp_path, contained)
    workers = ["docker client", "pg_dump", "backend", "sidecar's client"][: 4 if kind == "sidecar" else 3]
    for what in workers:
        fault = f"kill of the {what} in mid-dump, {kind}"
        expected(4, fault, 1)
        place.again()
        with backups.in_dump(place) as process:
            if what == "backend":
                ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE"
                assert contained[0].sql(f"{ending} 'pgbackup-%'"), "pg_dump has no session"
            else:
                victims = {
                    "docker client": partial(killing.programs_of, process, "exec", "pg_dump"),
                    "sidecar's client": partial(killing.programs_of, process, "run", "--rm"),
                    "pg_dump": partial(killing.dumping, promises.owner(place, contained[0])),
                }[what]()
                assert victims, f"there is no {what} to kill"
                for victim in victims:
                    os.kill(victim, signal.SIGKILL)
        ended = place.end(process, 30)
        assert not promises.failed(place, ended, 69), fault
        assert not promises.after(place, "-q"), fault
        survived(4, fault)


# ------------------------------------------------------------------------------------- tests of these tests


def test_the_checker_sees_what_is_broken_in_a_place(small: list[Source], tmp_path: Path) -> None:
    place = backups.prepared(tmp_path, small[:1])
    assert not promises.after(place), "nothing is broken yet"
    (good,) = place.fresh()
    whole = good.read_bytes()

    def sees(promise: str) -> None:
        found = promises.problems(place, sweep=True)
        assert [trouble for trouble in found if trouble.startswith(promise)], f"checker is broken: {found}"

    good.write_bytes(whole[:-1])
    sees("A")
    good.write_bytes(whole[: len(whole) // 2])
    sees("A")
    good.write_bytes(b"")
    sees("A")
    good.write_bytes(gzip.compress(small[0].text.replace(b"Okello", b"Okelli", 1)))
    sees("A")
    good.write_bytes(whole)
    good.chmod(0o644)
    sees("A")
    good.chmod(0o600)
    assert not promises.problems(place, sweep=True)
    for hidden in (".pgbackup-x-y.partial", ".pgbackup-x-y.link"):
        (place.directory() / hidden).touch()
        sees("E")
        (place.directory() / hidden).unlink()
    kept = max(path for path in place.planted if path.exists())
    content = kept.read_bytes()
    kept.write_bytes(content[:100])
    sees("B")
    kept.unlink()
    sees("B")
    kept.write_bytes(content)
    kept.chmod(0o600)
    session = small[0].values["URL"] + f"&application_name=pgbackup-{promises.owner(place, small[0])}-x"
    with psycopg.connect(session):
        sees("E")
    with subprocess.Popen(["sleep", "60", promises.owner(place, small[0])], stderr=subprocess.DEVNULL) as process:
        process.kill()
    with subprocess.Popen(["sh", "-c", "sleep 60; :", promises.owner(place, small[0])]) as process:
        sees("E")
        killing.kill_everything(process.pid)


@only_in_full
def test_a_suite_that_does_not_sweep_is_caught(
    large: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promises, "SETTLE_SECONDS", 2.0)  # what is not swept stays
    place = backups.prepared(tmp_path, large[:1])
    place.root = backups.mutated(
        tmp_path / "copy", ("store/workfiles.py", "    removed = []\n", "    return []\n    removed = []\n")
    )
    with backups.in_dump(place) as process:
        killing.kill_process(process.pid)
    process.communicate()
    found = promises.after(place, "-q")
    assert [trouble for trouble in found if trouble.startswith("E")], f"checker is broken: {found}"
    assert backups.partial(place), "the checker saw something else"
