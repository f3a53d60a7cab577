"""Runs that are interrupted, on a terminal too, or that nobody listens to: row 3 of the table of faults."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.support import backups, databases, killing, promises, servers
from tests.support.backups import Place, Source
from tests.support.effort import each_value, wide
from tests.support.runs import soon

Tries = Callable[[int, int], int]
Note = Callable[..., None]
STOP_SECONDS = 10.0


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def interrupted_well(place: Place, ended: backups.Ended, number: int) -> list[str]:
    """What does not hold of a run that got the signal: it says so with 128+n, or had finished already."""
    found = promises.settled(place)
    if ended.seconds > STOP_SECONDS:
        found.append(f"H: it took {ended.seconds:.1f} s to stop")
    if ended.status == -number:  # before Python was up: the system's own answer, which a shell shows as 128+n
        return found
    if number == signal.SIGINT and not ended.log and "KeyboardInterrupt" in ended.stderr:
        return found  # before the first line of ours: Python's own answer
    if ended.status not in (0, 128 + number):
        found.append(f"C: status {ended.status} after signal {number}: {ended.stderr[-800:]}")
    return found + promises.told(ended, starts=1 if ended.log else 0)


def test_a_signal_at_any_moment_stops_a_run_cleanly_within_ten_seconds(
    large: list[Source], tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    fault, count = "SIGTERM, SIGINT, SIGHUP at a random moment", tries(3, 100)
    expected(3, fault, count)
    place = backups.prepared(tmp_path, large)
    took = place.run("-q").seconds
    chosen = random.Random(3)
    for turn in range(count):
        place.again()
        number, delay = SIGNALS[turn % 3], chosen.uniform(0, 1.1 * took)
        process = place.start()
        time.sleep(delay)
        process.send_signal(number)
        wrong = interrupted_well(place, place.end(process), number)
        assert not wrong, f"{number!r} after {delay:.3f} s"
        survived(3, fault)
    assert not promises.after(place)


@contextmanager
def held(place: Place) -> Iterator[None]:
    """Let pg_dump stand still until the block is left, so that a run in its dump stays there. Call it in_dump."""
    programs = killing.dumping(promises.owner(place, place.sources[0]))
    assert programs, "there is no pg_dump to hold"
    for program in programs:
        os.kill(program, signal.SIGSTOP)
    try:
        yield
    finally:
        for program in programs:
            with suppress(ProcessLookupError):
                os.kill(program, signal.SIGCONT)


@each_value(number=SIGNALS, kind=["sidecar", "direct", "exec"])
def test_a_signal_in_mid_dump_stops_pg_dump_too(
    large: list[Source],
    postgres_a: servers.Server,
    tmp_path: Path,
    expected: Note,
    survived: Note,
    number: int,
    kind: str,
) -> None:
    fault = f"SIGTERM, SIGINT, SIGHUP in mid-dump, {kind}"
    expected(3, fault, 1)
    bulk = databases.BULK_ROWS
    one = large[0] if kind == "direct" else databases.container_source(postgres_a, "auth", bulk=bulk, kind=kind)
    place = backups.prepared(tmp_path, [one])
    with ExitStack() as standing:
        with backups.in_dump(place) as process:
            standing.enter_context(held(place))
            process.send_signal(number)  # it comes while the run is stopped, as after Ctrl-Z
        ended = place.end(process)
    assert ended.status == 128 + number, ended.stderr
    assert ended.seconds <= STOP_SECONDS
    assert not interrupted_well(place, ended, number)
    assert not place.fresh()
    survived(3, fault)


def test_a_signal_stops_a_run_that_waits_for_a_lock_on_a_table(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "SIGTERM while pg_dump waits for a lock"
    expected(3, fault, 1)
    place = backups.prepared(tmp_path, small[:1])
    with psycopg.connect(small[0].values["URL"]) as holder:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        process = place.start()
        waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'pgbackup-%' AND wait_event_type = 'Lock'"
        assert soon(lambda: bool(small[0].sql(waiting)))
        process.send_signal(signal.SIGTERM)
        ended = place.end(process)
        assert not interrupted_well(place, ended, signal.SIGTERM)
        assert ended.status == 143
    survived(3, fault)


class Terminal:
    """A run on a terminal of its own, as an operator sees it: bars on stderr."""

    def __init__(self, place: Place, *arguments: str) -> None:
        self.master, slave = os.openpty()
        self.place, self.before = place, len(place.log())

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            place.command(*arguments),
            env={**place.environment, "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=take_terminal,
        )
        os.close(slave)
        self.text = b""

    def read(self, seconds: float = 0.0) -> bytes:
        """Take what it shows, so that it never waits for us."""
        with suppress(OSError):  # the test may have hung up
            os.set_blocking(self.master, False)
            while piece := os.read(self.master, 65536):
                self.text += piece
        return self.text

    def end(self) -> backups.Ended:
        begun = time.monotonic()
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() - begun < 120, self.text
            time.sleep(0.01)
        self.read()
        with suppress(OSError):
            os.close(self.master)
        spent = time.monotonic() - begun
        return backups.Ended(
            self.process.returncode, "", self.text.decode(errors="replace"), spent, self.place.log()[self.before :]
        )


@pytest.mark.parametrize("how", ["Ctrl-C", "hang-up"])
def test_a_terminal_can_stop_a_run_that_draws_its_bars(
    large: list[Source], tmp_path: Path, expected: Note, survived: Note, how: str
) -> None:
    fault = "Ctrl-C and hang-up of a terminal with progress bars"
    expected(3, fault, 1)
    place = backups.prepared(tmp_path, large[:1])
    terminal = Terminal(place)
    backups.await_dump(place, terminal.process)
    with held(place):
        os.kill(terminal.process.pid, signal.SIGCONT)
        number = signal.SIGINT if how == "Ctrl-C" else signal.SIGHUP
        if how == "Ctrl-C":
            os.write(terminal.master, b"\x03")
        else:
            os.close(terminal.master)
        ended = terminal.end()
    assert ended.status == 128 + number, (ended.stderr, ended.log)
    if how == "hang-up":
        ended = backups.Ended(ended.status, "", "nobody can see it", ended.seconds, ended.log)
    assert not interrupted_well(place, ended, number)
    assert not place.fresh()
    assert not promises.after(place)
    survived(3, fault)


def test_a_run_on_a_terminal_backs_up(large: list[Source], tmp_path: Path) -> None:
    place = backups.prepared(tmp_path, large[:1])
    ended = Terminal(place).end()
    assert ended.status == 0, ended.stderr
    assert "published" in ended.stderr
    assert not promises.told(ended)
    assert not promises.settled(place)


CLOSED = {
    "stdout and stderr closed": ">&- 2>&-",
    "all three closed": "<&- >&- 2>&-",
    "stderr closed": "2>&-",
    "stderr full": "2>/dev/full",
    "nobody reads stdout": "| true",
    "nobody reads stderr": "2>&1 >/dev/null | true",
}


@wide("how", ["all three closed", "stderr full", "nobody reads stdout"], CLOSED)
def test_a_run_that_nobody_listens_to_still_backs_up(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note, how: str
) -> None:
    fault = "stdout, stderr closed, full, or without a reader"
    expected(3, fault, 1)
    place = backups.prepared(tmp_path, small)
    shell = f'set -o pipefail; "$@" {CLOSED[how]}'
    done = place.run(prefix=["bash", "-c", shell, "bash"])
    assert done.status == 0
    assert len(place.fresh()) == 2
    assert not promises.told(done) + promises.settled(place)
    survived(3, fault)


def test_a_result_that_cannot_be_written_is_a_failure_and_the_backup_is_there(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "stdout full"
    expected(3, fault, 1)
    place = backups.prepared(tmp_path, small)
    done = place.run(prefix=["sh", "-c", 'exec "$@" >/dev/full', "sh"])
    assert done.status == 74, done.stderr
    assert "stdout" in done.stderr
    assert len(place.fresh()) == 2
    assert not promises.settled(place)
    survived(3, fault)
