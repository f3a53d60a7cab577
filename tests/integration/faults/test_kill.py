"""Runs that are killed, interrupted, or lose the programs that work for them: rows 1 to 5 of the table of faults."""

from __future__ import annotations

import fcntl
import gzip
import os
import random
import re
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.conftest import FULL
from tests.support import backups, databases, promises, servers
from tests.support.backups import Place, Source
from tests.support.runs import soon

Tries = Callable[[int, int], int]
Note = Callable[..., None]
STOP_SECONDS = 10.0


@pytest.fixture(scope="module")
def small() -> Iterator[list[Source]]:
    """Two databases of half a megabyte, for the direct client."""
    with databases.embedded_sources() as sources:
        yield sources


@pytest.fixture(scope="module")
def large() -> Iterator[list[Source]]:
    """The same with 25 MB in auth_db, so that a dump takes a while."""
    with databases.embedded_sources(bulk=databases.BULK_ROWS) as sources:
        yield sources


@pytest.fixture(scope="module", params=["sidecar", "exec"])
def contained(request: pytest.FixtureRequest, postgres_a: servers.Server) -> Iterator[list[Source]]:
    """auth_db with 25 MB more in a container, for each client that works through Docker."""
    yield [databases.container_source(postgres_a, "auth", bulk=databases.BULK_ROWS, kind=request.param)]


def prepared(path: Path, sources: list[Source], **environment: str) -> Place:
    place = backups.place(path / "backups", sources, **environment)
    for source in sources:
        place.plant(source)
    return place


def again(place: Place) -> None:
    """The state before a try: only old backups."""
    place.reset()
    for source in place.sources:
        place.plant(source)


# ------------------------------------------------------------------------------------------------- row 1


def kill_process(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_everything(pid: int) -> None:
    """The process group and all descendants, which have sessions of their own."""
    family = [pid, *descendants(pid)]
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for member in family:
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return children + [below for child in children for below in descendants(child)]


def killed_at_random(place: Place, how: Callable[[int], None], count: int, done: Callable[[], None]) -> None:
    """Kill `count` runs at moments from 0 to 1.2 of a run's time, and check after each of them and its successor."""
    took = place.run("-q").seconds
    chosen = random.Random(took)
    for number in range(count):
        again(place)
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


@pytest.mark.parametrize("how", [kill_process, kill_everything], ids=["process", "group"])
def test_a_kill_at_any_moment_leaves_only_good_backups(
    small: list[Source], tmp_path: Path, tries: Tries, expected: Note, survived: Note, how: Callable[[int], None]
) -> None:
    fault, count = f"kill -9 of the {'process' if how is kill_process else 'whole group'}, direct", tries(3, 300)
    expected(1, fault, count)
    killed_at_random(prepared(tmp_path, small), how, count, lambda: survived(1, fault))


def test_a_kill_beside_a_container_leaves_nothing_behind_in_it(
    contained: list[Source], tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    place, kind = prepared(tmp_path, contained), contained[0].values["CLIENT"]
    for how in (kill_process, kill_everything) if FULL else (kill_everything,):
        fault, count = f"kill -9 of the {how.__name__.removeprefix('kill_')}, {kind}", tries(1, 40)
        expected(1, fault, count)
        killed_at_random(place, how, count, partial(survived, 1, fault))


def test_a_kill_in_mid_dump_ends_the_servers_session_at_the_next_run(
    contained: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = f"kill -9 in mid-dump, {contained[0].values['CLIENT']}"
    expected(1, fault, 1)
    place = prepared(tmp_path, contained)
    with backups.in_dump(place) as process:
        kill_everything(process.pid)
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
    place = prepared(tmp_path, small[:1])
    last = calls_per_thread(traced(place, call).stdout, call)
    assert last, f"{call} is never called: the test looks at the wrong calls"
    whole = list(range(1, last + 1))
    chosen = random.Random(call).sample(whole, min(last, tries(1, last)))
    fault = f"kill -9 at each {call}"
    expected(2, fault, len(chosen))
    for number in chosen:
        again(place)
        traced(place, call, f"signal=KILL:when={number}")
        assert not promises.problems(place), f"{call} number {number} of {last}"
        assert not promises.after(place, "-q"), f"{call} number {number} of {last}"
        survived(2, fault)


# ------------------------------------------------------------------------------------------------- row 3

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
    fault, count = "SIGTERM, SIGINT, SIGHUP at a random moment", tries(4, 100)
    expected(3, fault, count)
    place = prepared(tmp_path, large)
    took = place.run("-q").seconds
    chosen = random.Random(3)
    for turn in range(count):
        again(place)
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
    programs = dumping(promises.owner(place, place.sources[0]))
    assert programs, "there is no pg_dump to hold"
    for program in programs:
        os.kill(program, signal.SIGSTOP)
    try:
        yield
    finally:
        for program in programs:
            with suppress(ProcessLookupError):
                os.kill(program, signal.SIGCONT)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_mid_dump_stops_pg_dump_too(
    large: list[Source], contained: list[Source], tmp_path: Path, expected: Note, survived: Note, number: int
) -> None:
    for kind, sources in (("direct", large[:1]), (contained[0].values["CLIENT"], contained)):
        if not FULL and (kind == "direct") != (number == signal.SIGINT):
            continue  # in the short form each signal comes to one kind of client
        fault = f"SIGTERM, SIGINT, SIGHUP in mid-dump, {kind}"
        expected(3, fault, 1)
        place = prepared(tmp_path / kind, sources)
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
    place = prepared(tmp_path, small[:1])
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
    place = prepared(tmp_path, large[:1])
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
    place = prepared(tmp_path, large[:1])
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


@pytest.mark.parametrize("how", CLOSED)
def test_a_run_that_nobody_listens_to_still_backs_up(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note, how: str
) -> None:
    fault = "stdout, stderr closed, full, or without a reader"
    expected(3, fault, 1)
    place = prepared(tmp_path, small)
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
    place = prepared(tmp_path, small)
    done = place.run(prefix=["sh", "-c", 'exec "$@" >/dev/full', "sh"])
    assert done.status == 74, done.stderr
    assert "stdout" in done.stderr
    assert len(place.fresh()) == 2
    assert not promises.settled(place)
    survived(3, fault)


# ------------------------------------------------------------------------------------------------- row 4


def programs_of(process: subprocess.Popen[bytes], *words: str) -> list[int]:
    """The children of a run that have all these words on their command line."""
    found = []
    for child in descendants(process.pid):
        with suppress(OSError):
            line = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if all(word.encode() in line for word in words):
                found.append(child)
    return found


def test_killing_what_works_for_a_run_fails_it_and_publishes_nothing(
    contained: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    kind = contained[0].values["CLIENT"]
    place = prepared(tmp_path, contained)
    workers = ["docker client", "pg_dump", "backend", "sidecar's client"][: 4 if kind == "sidecar" else 3]
    for what in workers if FULL or kind == "sidecar" else ["docker client"]:
        fault = f"kill of the {what} in mid-dump, {kind}"
        expected(4, fault, 1)
        again(place)
        with backups.in_dump(place) as process:
            if what == "backend":
                ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE"
                assert contained[0].sql(f"{ending} 'pgbackup-%'"), "pg_dump has no session"
            else:
                victims = {
                    "docker client": partial(programs_of, process, "exec", "pg_dump"),
                    "sidecar's client": partial(programs_of, process, "run", "--rm"),
                    "pg_dump": partial(dumping, promises.owner(place, contained[0])),
                }[what]()
                assert victims, f"there is no {what} to kill"
                for victim in victims:
                    os.kill(victim, signal.SIGKILL)
        ended = place.end(process, 30)
        assert not promises.failed(place, ended, 69), fault
        assert not promises.after(place, "-q"), fault
        survived(4, fault)


def dumping(mark: str) -> list[int]:
    """The pg_dump processes of a run, in containers too."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            if Path(os.fsdecode(line.split(b"\0")[0])).name == "pg_dump" and mark.encode() in line:
                found.append(int(entry.name))
    return found


# ------------------------------------------------------------------------------------------------- row 5

STAGES = {
    "whole output, status 1": ('"$real" "$@"; exit 1', 69),
    "half the output, status 0": ('"$real" "$@" | head -c 200000', 65),
    "all but the last line, status 0": ('"$real" "$@" | head -n -8', 65),
    "end marker in a row, then cut": (
        '"$real" "$@" | head -c 100000; printf -- "\\n--\\n-- PostgreSQL database dump complete\\n--\\n"; exit 0',
        65,
    ),
    "nothing, status 0": ("exit 0", 65),
    "only comments, status 0": ('"$real" "$@" | grep "^--"', 65),
    "killed after half": ('"$real" "$@" | head -c 200000; kill -9 $$', 69),
    "hangs before the first byte": ("exec sleep 300", 69),
    "hangs after half": ('"$real" "$@" | head -c 200000; exec sleep 300', 69),
    "not there": ("", 69),
}
SLOW_STAGES = {"closes its output and does not end": ('"$real" "$@"; exec >&- 2>&-; exec sleep 300', 69)}


def stub(directory: Path, place: Place, body: str) -> str:
    """Put a pg_dump before the real one on the PATH; an empty body makes one that cannot be started."""
    directory.mkdir(exist_ok=True)
    real = Path(place.sources[0].values["PROGRAMS"]) / "pg_dump"
    program = directory / "pg_dump"
    program.write_text(f"#!/bin/sh\nreal={real}\n{body}\n" if body else "#!/nonexistent/interpreter\n")
    program.chmod(0o755)
    return f"{directory}:{place.environment['PATH']}"


def test_a_pg_dump_that_fails_lies_or_hangs_publishes_nothing(
    small: list[Source], tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    place = prepared(tmp_path, small[:1], STALL_SECONDS="3", LOCK_WAIT_SECONDS="1")
    stages = {**STAGES, **(SLOW_STAGES if tries(0, 1) else {})}
    for stage, (body, status) in stages.items():
        fault = f"pg_dump: {stage}"
        expected(5, fault, 1)
        again(place)
        ended = place.run(PATH=stub(tmp_path / "bin", place, body))
        assert not promises.failed(place, ended, status), fault
        # Ten times what the limits above come to: what hangs takes for ever.
        assert ended.seconds < 10 * (4 + (30 if stage in SLOW_STAGES else 0)), f"H: {fault} took {ended.seconds:.1f} s"
        assert not promises.settled(place), fault
        survived(5, fault)
    assert not promises.after(place)


# ------------------------------------------------------------------------------------- tests of these tests


def test_the_checker_sees_what_is_broken_in_a_place(small: list[Source], tmp_path: Path) -> None:
    place = prepared(tmp_path, small[:1])
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
        kill_everything(process.pid)


DUMP = "        facts, written = _dump(job, outcome, descriptor, started, last, opening)\n"
BUGS = {
    "published before it is proven": [
        ("commands/dump.py", DUMP, f"        _publish(job, outcome, partial_name, started)\n{DUMP}")
    ],
    "no gate, neither before nor after reading back": [
        ("commands/dump.py", "    if not scanner.complete:\n", "    if False:\n"),
        ("formats/dumpfile.py", "        if not self.scanner.complete:\n", "        if False:\n"),
    ],
    "pg_dump's status not looked at": [("commands/dump.py", "        if status != 0:\n", "        if False:\n")],
    "retention before success": [
        (
            "commands/backup/one_database.py",
            "        dump.make(job, outcome, job.client)\n",
            "        _expire(job, outcome); dump.make(job, outcome, job.client)\n",
        ),
        ("store/retention.py", "elif good >= policy.minimum:", "elif True:"),
    ],
    "failures not logged": [
        ("commands/backup/all_databases.py", "    events.emit(Event(ERROR, outcome", "    (Event(ERROR, outcome")
    ],
    "status 0 after a failure": [
        (
            "commands/backup/all_databases.py",
            "        status = overall_status([",
            "        status = 0 * overall_status([",
        )
    ],
}


@pytest.mark.parametrize("bug", BUGS if FULL else ["published before it is proven"])
def test_a_suite_with_a_bug_is_caught(small: list[Source], tmp_path: Path, bug: str) -> None:
    place = prepared(tmp_path, small[:1], STALL_SECONDS="3", LOCK_WAIT_SECONDS="1")
    place.root = backups.mutated(tmp_path / "copy", *BUGS[bug])
    caught = []
    for stage in ("half the output, status 0", "whole output, status 1"):
        body, status = STAGES[stage]
        again(place)
        caught += promises.failed(place, place.run(PATH=stub(tmp_path / "bin", place, body)), status)
    assert caught, "checker is broken: no error found"


def test_a_suite_that_does_not_sweep_is_caught(
    large: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promises, "SETTLE_SECONDS", 2.0)  # what is not swept stays
    place = prepared(tmp_path, large[:1])
    place.root = backups.mutated(
        tmp_path / "copy", ("store/workfiles.py", "    removed = []\n", "    return []\n    removed = []\n")
    )
    with backups.in_dump(place) as process:
        kill_process(process.pid)
    process.communicate()
    found = promises.after(place, "-q")
    assert [trouble for trouble in found if trouble.startswith("E")], f"checker is broken: {found}"
    assert backups.partial(place), "the checker saw something else"
