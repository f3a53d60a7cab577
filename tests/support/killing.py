"""Kills runs, and finds the programs that work for them."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path


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


def programs_of(process: subprocess.Popen[bytes], *words: str) -> list[int]:
    """The children of a run that have all these words on their command line."""
    found = []
    for child in descendants(process.pid):
        with suppress(OSError):
            line = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if all(word.encode() in line for word in words):
                found.append(child)
    return found


def dumping(mark: str) -> list[int]:
    """The pg_dump processes of a run, in containers too."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            if Path(os.fsdecode(line.split(b"\0")[0])).name == "pg_dump" and mark.encode() in line:
                found.append(int(entry.name))
    return found
