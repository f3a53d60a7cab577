"""Runs programs from argument lists. The only file that imports `sh`.

Children get an environment of their own making, their own session (a Ctrl-C reaches only this process, which
then stops them in order), and their data through file descriptors, never through Python strings.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from pgbackup import interrupt
from pgbackup.errors import ConfigurationError, Unavailable

if find_spec("sh") is None:  # told before anything is begun, though it is loaded with the first program only
    raise ModuleNotFoundError("No module named 'sh'", name="sh")

_TICK_SECONDS = 0.2
_STDERR_TAIL_BYTES = 64 * 1024
_OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024
_PR_SET_PDEATHSIG = 1
_LOST = 255  # somebody else has reaped the child: how it ended cannot be known, so it counts as failed
_PATH_FLOOR = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def environment(given: Mapping[str, str] = os.environ, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Given our own environment, return the one that children get: PATH, HOME and Docker's, no PG* at all.

    PGOPTIONS, PGSERVICE or PSQLRC of the caller must not change what is dumped. Cron's PATH has no
    /usr/local/bin, where Docker often lies, so the usual directories are added behind it.
    """
    kept = {key: value for key, value in given.items() if key in ("HOME", "TMPDIR") or key.startswith("DOCKER_")}
    path = [part for part in given.get("PATH", "").split(":") if part.startswith("/")]
    kept["PATH"] = ":".join(dict.fromkeys([*path, *_PATH_FLOOR]))
    kept["LC_ALL"] = "C"
    return {**kept, **(extra or {})}


class NoAnswer(Unavailable):
    """A program did not end in time, and was stopped."""


def no_answer(argv: Sequence[str], seconds: float) -> NoAnswer:
    """What is raised when a program of that argument list has not ended in time."""
    return NoAnswer(
        f"'{' '.join(argv[:3])} …' gave no answer within {seconds:g} s",
        "is the Docker daemon or the database hanging? COMMAND_SECONDS sets the limit",
    )


@dataclass(frozen=True)
class Finished:
    """How a program ended. status: its exit status, or minus the signal that killed it."""

    status: int
    stdout: bytes
    stderr: str


def require_utf8(argv: Sequence[str]) -> None:
    """Raise ConfigurationError for a word that is no UTF-8 text."""
    for word in argv:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            raise ConfigurationError(f"{word!r} is not UTF-8 text", "names are given in UTF-8") from None


def _memory_file(name: str) -> int:
    return os.memfd_create(name, os.MFD_CLOEXEC)


def _content(descriptor: int, limit: int, from_end: bool) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, limit, max(0, size - limit) if from_end else 0)


def _ending_with(parent: int) -> Callable[[], None]:
    """What a new child does, so that the kernel kills it when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    import ctypes  # here: hardly a command has such a child

    library = ctypes.CDLL(None)

    def ask() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(_LOST)

    return ask


class Program:
    """A program that is running. Use as a context manager: leaving the block stops it for certain."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        variables: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        ends_with_us: bool = False,
    ) -> None:
        """Start argv[0]. variables: its environment and the PATH on which it is found, environment() if not given.

        stdin, stdout: open descriptors, default /dev/null. ends_with_us: the kernel kills it when the thread that
        starts it ends, be it by kill -9.
        Raise Unavailable when there is no such program or it cannot be started.
        """
        import sh  # here: it is a third of the start-up of a command that runs no program

        self.argv = list(argv)
        require_utf8(self.argv)
        variables = environment() if variables is None else variables
        self._errors = _memory_file("stderr")
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            # Any: sh takes descriptors as well, which its type stub does not know.
            command: Any = sh.Command(argv[0], variables["PATH"].split(":"))
            self._running: Any = command(
                *argv[1:],
                _env=dict(variables),
                _encoding="utf-8",  # else that of the caller's locale, and names would change on the way
                _in=null if stdin is None else stdin,
                _out=null if stdout is None else stdout,
                _err=self._errors,
                _tty_in=False,
                _tty_out=False,
                _bg=True,
                _bg_exc=False,
                _new_session=True,
                _preexec_fn=_ending_with(os.getpid()) if ends_with_us else None,
                _return_cmd=True,
            )
        except sh.CommandNotFound:
            os.close(self._errors)
            raise Unavailable(
                f"there is no program '{argv[0]}'", f"install it, or name it in .env; PATH is {variables['PATH']}"
            ) from None
        except (sh.ForkException, OSError) as error:
            os.close(self._errors)
            reason = str(error).strip().splitlines()[-1]
            raise Unavailable(f"'{argv[0]}' cannot be started: {reason}") from None
        except BaseException:
            os.close(self._errors)
            raise
        finally:
            os.close(null)
        try:
            self._ended: int | None = os.pidfd_open(self._running.pid)
        except OSError:  # it has ended already, or the kernel is older than 5.3
            self._ended = None

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            os.close(self._errors)
            if self._ended is not None:
                os.close(self._ended)

    @property
    def pid(self) -> int:
        """Its process id; it may have ended."""
        return int(self._running.pid)

    @property
    def status(self) -> int | None:
        """None while it runs; else its exit status, or minus the signal that killed it."""
        alive, status = self._running.process.is_alive()
        if alive:
            return None
        return _LOST if status is None else int(status)

    @property
    def stderr(self) -> str:
        """What it has said so far: the last 64 KiB."""
        return _content(self._errors, _STDERR_TAIL_BYTES, from_end=True).decode("utf-8", "replace").strip()

    def wait(self, seconds: float) -> int:
        """Wait until it has ended and return its status. Raise TimeoutError, or Interrupted on a signal."""
        deadline = time.monotonic() + seconds
        while (status := self.status) is None:
            interrupt.check()
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"'{self.argv[0]}' did not end within {seconds:g} s")
            self.pause(min(left, _TICK_SECONDS))
        return status

    def pause(self, seconds: float, readable: int | None = None) -> None:
        """Sleep until it ends, the descriptor `readable` has something to read, or `seconds` are over."""
        poll = select.poll()
        for descriptor in (self._ended, readable):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        if self._ended is None:
            seconds = min(seconds, 0.005)
        poll.poll(max(1, int(seconds * 1000)))

    def stop(self) -> None:
        """End it: SIGTERM, after a second SIGKILL. Nothing happens when it has ended already."""
        for number, patience in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
            if self.status is not None:
                return
            try:
                self._running.process.signal(number)
            except ProcessLookupError:
                continue
            with interrupt.shielded():
                try:
                    self.wait(patience)
                except TimeoutError:
                    continue


@contextmanager
def fed(content: bytes) -> Iterator[int]:
    """Give a descriptor that reads as `content`, for the standard input of a program."""
    descriptor = _memory_file("stdin")
    try:
        os.pwrite(descriptor, content, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def run(
    argv: Sequence[str], *, seconds: float, stdin: int | None = None, variables: Mapping[str, str] | None = None
) -> Finished:
    """Run argv to its end and return what it said (at most 64 MiB of stdout). stdin, variables: as for Program.

    Raise NoAnswer when it does not end within `seconds` (it is stopped then), Interrupted on a signal.
    """
    output = _memory_file("stdout")
    try:
        with Program(argv, variables=variables, stdin=stdin, stdout=output) as program:
            try:
                status = program.wait(seconds)
            except TimeoutError:
                raise no_answer(argv, seconds) from None
            return Finished(status, _content(output, _OUTPUT_LIMIT_BYTES, from_end=False), program.stderr)
    finally:
        os.close(output)
