"""How the demo tells its story and runs its commands, and how it stops when it is told to.

A signal handler only notes the signal; `Story.run` passes it on to the command that runs, waits for it to
clean up, and leaves through ordinary `finally` blocks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from servers import dying_with_parent

STOP_SECONDS = 10
STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

_noted: list[int] = []


class Stopped(Exception):
    """A signal told the demo to stop."""


class CommandFailed(Exception):
    """A command of the story failed: what it was, and its exit status as a shell would give it."""

    def __init__(self, command: str, status: int) -> None:
        super().__init__(f"'{command}' ended with status {status}")
        self.status = status


def note_signals() -> None:
    """From now on note SIGHUP, SIGINT and SIGTERM; what nohup has set to be ignored stays ignored."""

    def note(number: int, _frame: FrameType | None) -> None:
        _noted.append(number)

    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, note)


def noted() -> int:
    """The signal that has arrived, or 0."""
    return _noted[0] if _noted else 0


def check() -> None:
    """Raise Stopped if a signal has arrived."""
    if _noted:
        raise Stopped


def die_of(number: int) -> None:
    """End this process by the signal that it was sent, so that whoever sent it sees so."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _styled(text: str, code: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


@dataclass
class Story:
    """Numbered steps on stdout. directory, environment: those of the commands it runs."""

    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    steps: int = 0

    def tell(self, text: str = "") -> None:
        """Print a line, now: a command's own output must come after it."""
        print(text, flush=True)

    def heading(self, text: str) -> None:
        """Begin the next step."""
        check()
        self.steps += 1
        self.tell()
        self.tell(_styled(f"{self.steps}. {text}", "1"))

    @contextmanager
    def timed(self, text: str) -> Iterator[None]:
        """Print what is being done, and when it is done the seconds that it took."""
        check()
        begun = time.monotonic()
        print(f"   {text} …", end="", flush=True)
        try:
            yield
        except BaseException:
            self.tell()
            raise
        self.tell(f" {time.monotonic() - begun:.1f} s")

    def run(self, command: str) -> None:
        """Show a shell command, run exactly that, and raise CommandFailed if it fails.

        It gets a session of its own, so that Ctrl-C reaches only us and it is told once.
        """
        check()
        self.tell(_styled(f"$ {command}", "36"))
        process = subprocess.Popen(
            # `exec` leaves no shell in between that would die of a signal before the script has cleaned up.
            ["sh", "-c", command if set(command) & set("|&;") else f"exec {command}"],
            cwd=self.directory,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=dying_with_parent(signal.SIGTERM),
        )
        try:
            status = _wait(process)
        finally:
            _end(process)
        check()
        if status != 0:
            raise CommandFailed(command, status if status > 0 else 128 - status)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for its end; on a signal return early, after the process had its time to clean up."""
    while not _noted:
        try:
            return process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    return 128 + _noted[0]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command and what it started: pass our signal on, later kill the whole session."""
    for number in (_noted[0] if _noted else signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
        try:
            process.wait(STOP_SECONDS)
            return
        except subprocess.TimeoutExpired:
            continue
