"""Runs one command line and measures it: wall time, CPU time of the whole machine, memory of its processes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_EVERY_MS = 25
_ROOT = Path(__file__).resolve().parent.parent
_PYTHON = Path(sys.executable).resolve()


class MeasuredFailed(Exception):
    """A measured command line ended with an error; with what it said."""


@dataclass(frozen=True)
class Measured:
    """What one command line took.

    seconds: wall time. cpu_seconds: of everything on the machine (containers and the Docker daemon too), less
    what the idle machine uses in the same time. host_memory: most bytes resident at one moment in the processes
    that the line started on the host, Docker clients included. python_memory: the peak of its largest Python process.
    """

    seconds: float
    cpu_seconds: float
    host_memory: int
    python_memory: int
    stdout: str


def busy_seconds() -> float:
    """CPU seconds that all cores have worked since the machine started (proc(5), /proc/stat: no idle, no iowait)."""
    user, nice, system, _idle, _iowait, irq, softirq = map(
        int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) / _TICKS


def idle_load(windows: int = 6, seconds: float = 2.5, quiet: float = 0.05) -> float:
    """CPU seconds per second that the machine uses while nothing is measured.

    Looks through several windows for a quiet one, and returns the load of the quietest.
    """
    lowest = float("inf")
    for _ in range(windows):
        began = busy_seconds()
        time.sleep(seconds)
        lowest = min(lowest, (busy_seconds() - began) / seconds)
        if lowest <= quiet:
            break
    return lowest


def run(line: str, environment: Mapping[str, str], idle: float, limit: float = 3600) -> Measured:
    """Run a line of bash with pipefail, in the project's directory, and measure it. idle: from idle_load().

    Everything on disk is synced before the clock starts, so no one pays for the writes of the one before.
    Raise MeasuredFailed when the line fails or takes longer than `limit` seconds.
    """
    os.sync()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        busy, began = busy_seconds(), time.perf_counter()
        shell = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line],
            env=dict(environment),
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        memory = _Memory(shell.pid)
        try:
            in_time = _watch(shell.pid, memory, began + limit)
            seconds, busy = time.perf_counter() - began, busy_seconds() - busy
        finally:
            _end(shell)
        if shell.returncode != 0 or not in_time:
            how = f"ended with {shell.returncode}" if in_time else f"took more than {limit:g} s"
            raise MeasuredFailed(f"`{line}` {how}: {_last_words(_text(err))}")
        cpu = max(0.0, busy - idle * seconds)
        return Measured(seconds, cpu, memory.host, memory.python, _text(out))


def _watch(pid: int, memory: _Memory, deadline: float) -> bool:
    """Look at the memory until the process ends; return False if the deadline came first."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while not poll.poll(_LOOK_EVERY_MS):
            memory.look()
            if time.perf_counter() > deadline:
                return False
        return True
    finally:
        os.close(descriptor)


def _end(shell: subprocess.Popen[bytes]) -> None:
    if shell.poll() is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                shell.wait(15)
                return


def _last_words(text: str) -> str:
    return " / ".join([said for line in text.splitlines() if (said := line.strip())][-2:])


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class _Memory:
    """The memory of a process and all its descendants, looked at again and again."""

    def __init__(self, pid: int) -> None:
        self.pid, self.host, self.python = pid, 0, 0
        self._programs: dict[int, Path] = {}

    def look(self) -> None:
        programs = {pid: _program(pid) for pid in _tree(self.pid)}
        # Between fork and exec a child looks like a second one of its parent: it counts from the second look on.
        settled = [pid for pid, program in programs.items() if self._programs.get(pid) == program]
        self._programs = programs
        memory = {pid: _memory_of(pid) for pid in settled}
        self.host = max(self.host, sum(now for now, _ in memory.values()))
        peaks = [peak for pid, (_, peak) in memory.items() if programs[pid] == _PYTHON]
        self.python = max([self.python, *peaks])


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def _memory_of(pid: int) -> tuple[int, int]:
    """Bytes resident now and at most so far; 0 for a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    fields = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS:", "VmHWM:")))
    now, peak = (int(fields.get(key, "0 kB").split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    return now, peak


def _program(pid: int) -> Path:
    try:
        return Path(f"/proc/{pid}/exe").readlink()
    except OSError:
        return Path()
