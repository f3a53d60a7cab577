"""Restores that are killed, or whose container is, at any moment: row 31, and of 32 the container, and 33.

Whatever happens, the live database is wholly old or wholly new and open, and the next command cleans up.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support import killing, restores, servers
from tests.support.effort import wide
from tests.support.restores import Content, Lab, Writers
from tests.support.runs import soon

Tries = Callable[[int, int], int]
Note = Callable[..., None]


def old_again(lab: Lab, new: Content, old: Content) -> None:
    """The state before a try: the live database is the old one, nothing is kept, nobody has arrived."""
    for name in lab.kept():
        lab.sql(f'DROP DATABASE "{name}"')
    if lab.content() == new:
        lab.lose()
    lab.sql("TRUNCATE arrivals", lab.database)
    assert lab.content() == old


# ------------------------------------------------------------------------------------------------- row 31


def killed_at_random(lab: Lab, count: int, done: Callable[[], None]) -> dict[str, int]:
    """Kill `count` restores at moments from 0 to 1.2 of a restore's time; return how often the old and new stayed."""
    file, new, old = lab.reset()
    with Writers(lab):
        took = lab.restore("--yes", file.name).seconds
    chosen, stayed = random.Random(31), {"old": 0, "new": 0}
    for number in range(count):
        old_again(lab, new, old)
        delay, how = chosen.uniform(0, 1.2 * took), (killing.kill_process, killing.kill_everything)[number % 2]
        with Writers(lab, stay=number % 3 == 0) as writers:
            process = lab.start("--yes", file.name)
            time.sleep(delay)
            if process.poll() is None:
                how(process.pid)
            process.communicate()
            where = f"try {number}: {how.__name__} after {delay:.3f} s of {took:.3f} s"
            assert not restores.wholly(lab, old, new), where
            wrong = restores.after(lab, old, new)
            assert not wrong, where
        assert not writers.lost(), where
        assert writers.acknowledged, "nobody was writing"
        stayed["new" if lab.content() == new else "old"] += 1
        done()
    return stayed


def test_a_kill_at_any_moment_leaves_the_live_database_wholly_old_or_new(
    lab: Lab, tries: Tries, expected: Note, survived: Note
) -> None:
    fault, count = "restore: kill -9 under connecting writers, direct", tries(3, 200)
    expected(31, fault, count)
    print(killed_at_random(lab, count, lambda: survived(31, fault)))


@wide("kind", ["exec"], ["sidecar", "exec"])
def test_a_kill_beside_a_container_too(
    server: servers.Server,
    tmp_path: Path,
    side_by_side_root: Path,
    tries: Tries,
    expected: Note,
    survived: Note,
    kind: str,
) -> None:
    fault, count = f"restore: kill -9 under connecting writers, {kind}", tries(1, 40)
    expected(31, fault, count)
    lab = restores.in_container(server, tmp_path, kind)
    lab.place.root = side_by_side_root
    print(killed_at_random(lab, count, lambda: survived(31, fault)))


@contextmanager
def stopped_in_the_load(lab: Lab, file: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Give a restore that is stopped when its scratch database is there; it goes on when the block is left."""
    process = lab.start("--yes", *options, file.name)
    assert soon(lambda: bool(lab.scratch()) or process.poll() is not None, 60)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert process.poll() is None
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)


@pytest.mark.parametrize("moment", ["load", "swap"])
def test_a_killed_in_place_restore_is_brought_back_by_the_next_command(
    lab: Lab, expected: Note, survived: Note, moment: str
) -> None:
    fault = "restore --in-place: kill -9, brought back by the next command"
    expected(31, fault, 1)
    file, new, old = lab.reset()
    if moment == "load":
        with stopped_in_the_load(lab, file, "--in-place") as process:
            killing.kill_everything(process.pid)
    else:
        process = lab.start("--yes", "--in-place", file.name)
        assert soon(lambda: lab.database not in lab.databases(), 60)
        killing.kill_process(process.pid)
    process.communicate()
    assert not restores.after(lab, old, new)
    survived(31, fault)


# ------------------------------------------------------------------------------------------------- row 32


@wide("kind", ["sidecar"], ["sidecar", "exec"])
def test_a_container_killed_in_mid_load_loses_nothing(
    server: servers.Server, tmp_path: Path, side_by_side_root: Path, expected: Note, survived: Note, kind: str
) -> None:
    fault = f"restore: container killed in mid-load, {kind}"
    expected(32, fault, 1)
    lab = restores.in_container(server, tmp_path, kind)
    lab.place.root = side_by_side_root
    file, new, old = lab.reset()
    with stopped_in_the_load(lab, file) as process:
        server.kill()
    ended = lab.place.end(process)
    assert ended.status == 69, ended.stderr
    assert "next run" in ended.stderr
    server.start()
    assert not restores.problems(lab, old, old)
    assert not restores.after(lab, old, new)
    survived(32, fault)


# ------------------------------------------------------------------------------------------------- row 33


@wide("options", [[]], [["--online"], []])
def test_fifty_reconnecting_clients_are_without_the_database_for_seconds(
    server: servers.Server, tmp_path: Path, expected: Note, survived: Note, options: list[str]
) -> None:
    lab = restores.in_container(server, tmp_path)
    fault = f"restore {' '.join(options)}: 50 clients reconnecting during the swap"
    expected(33, fault, 1)
    file, new, old = lab.reset()
    with Writers(lab, count=50, stay=True) as writers:
        assert soon(lambda: len(writers.acknowledged) > 500, 30)
        writers.gaps[:] = [0.0] * writers.count
        ended = lab.restore("--yes", *options, file.name)
        assert ended.status == 0, ended.stderr
        before = len(writers.acknowledged)
        assert soon(lambda: len(writers.acknowledged) > before + 500, 30), "they write again"
    print(f"\n{fault}: longest gap {max(writers.gaps):.2f} s, median {sorted(writers.gaps)[25]:.2f} s")
    assert lab.content() == new
    assert not restores.settled(lab, old, new)
    assert not writers.lost()
    assert max(writers.gaps) <= 5.0
    survived(33, fault)


# ------------------------------------------------------------------------------------- tests of these tests


def test_the_checker_sees_what_is_broken(lab: Lab) -> None:
    _, new, old = lab.reset()
    assert restores.problems(lab, old, new) == restores.leftovers(lab) == []

    def sees(promise: str) -> None:
        found = restores.problems(lab, old, new) + restores.leftovers(lab)
        assert [trouble for trouble in found if trouble.startswith(promise)], f"checker is broken: {found}"

    lab.sql(f'CREATE DATABASE "{lab.database}_restore_20240101_000000"')
    sees("E")
    lab.sql(f'DROP DATABASE "{lab.database}_restore_20240101_000000"')
    lab.sql("DELETE FROM orders WHERE id = 1", lab.database)
    sees("D")
    lab.sql(f'ALTER DATABASE "{lab.database}" ALLOW_CONNECTIONS false')
    sees("D")
    lab.sql(f'ALTER DATABASE "{lab.database}" RENAME TO "{lab.database}_before_restore_20240101_000000"')
    sees("D")
    restores.remade(lab)
    lab.sql("INSERT INTO arrivals VALUES (1)", lab.database)
    assert Writers(lab, acknowledged={1, 2}).lost() == {2}
