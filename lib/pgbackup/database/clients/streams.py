"""The output and the input of a program that runs next to a database, as they flow."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pgbackup import interrupt, proc
from pgbackup.errors import Unavailable

_PIECE_BYTES = 1 << 20
_PIPE_BYTES = 1 << 20  # what an unprivileged process may ask for, pipe(7)
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ; the module fcntl names it from Python 3.10 on, but not everywhere
_TICK_SECONDS = 0.2
_FILL_SECONDS = 0.002


def make_fifo(path: Path) -> None:
    """Make a FIFO for us and for the container's user, who owns the directory that it is in."""
    os.mkfifo(path, 0o600)
    hand_over(path)


def hand_over(path: Path) -> None:
    """Let the container's user have a file, who owns the directory that it is in."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


@dataclass(frozen=True)
class Stream:
    """A program's output as it flows. fd: does not block; program: ask for its status after the output has ended."""

    fd: int
    program: proc.Program
    database: str

    def chunks(self, stall_seconds: float) -> Iterator[bytes]:
        """Yield the output in pieces of at most 1 MiB until its true end: the writer came and closed, or the
        program is over and the pipe empty. After a program that failed the rest is not waited for.

        Raise Unavailable when nothing came for `stall_seconds`, Interrupted on a signal.
        """
        deadline = time.monotonic() + stall_seconds
        while True:
            interrupt.check()
            status = self.program.status  # asked before reading: what it wrote by then is in the pipe
            piece = self._read()
            if piece:
                yield piece
                deadline = time.monotonic() + stall_seconds
                if len(piece) < _PIECE_BYTES // 4 and status is None:
                    time.sleep(_FILL_SECONDS)  # a few large pieces cost less than many small ones
                continue
            if status is not None or (piece == b"" and self._writer_left()):
                return
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"the dump of '{self.database}' delivered nothing for {stall_seconds:g} s",
                    "is the server or Docker hanging? STALL_SECONDS sets the limit",
                )
            self.program.pause(_TICK_SECONDS, self.fd)

    def _read(self) -> bytes | None:
        """What is there, at most 1 MiB; None when nothing is there yet; b"" when nobody holds the other end."""
        try:
            return os.read(self.fd, _PIECE_BYTES)
        except BlockingIOError:
            return None

    def _writer_left(self) -> bool:
        """Whether a writer was there and is gone: a FIFO that nobody has opened yet reads as ended, too."""
        poll = select.poll()
        poll.register(self.fd, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))


@dataclass
class Sink:
    """A program's input. fd: does not block, -1 when closed; program: ask for its status after close()."""

    fd: int
    program: proc.Program
    database: str

    def write(self, data: bytes, stall_seconds: float) -> None:
        """Write all of it. Raise BrokenPipeError when the program is over, Unavailable when it has taken nothing
        for `stall_seconds`, Interrupted on a signal.
        """
        view, deadline = memoryview(data), time.monotonic() + stall_seconds
        while view:
            interrupt.check()
            try:
                view = view[os.write(self.fd, view) :]
                deadline = time.monotonic() + stall_seconds
            except BlockingIOError:
                if self.program.status is not None:
                    raise BrokenPipeError(errno.EPIPE, "the program is over") from None
                if time.monotonic() >= deadline:
                    raise Unavailable(
                        f"the load into '{self.database}' took nothing for {stall_seconds:g} s",
                        "is a statement waiting for a lock? LOAD_STALL_SECONDS sets the limit",
                    ) from None
                _wait_writable(self.fd)

    def offer(self, data: memoryview) -> int:
        """Write what is taken at once, and return how many bytes. Raise BrokenPipeError when the program is over."""
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Say that no more comes. Nothing happens the second time."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def _wait_writable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(int(_TICK_SECONDS * 1000))


def widened(fd: int) -> int:
    """Given a pipe's descriptor, let the pipe hold 1 MiB, where that is allowed, and return the descriptor."""
    with suppress(OSError):
        fcntl.fcntl(fd, _SET_PIPE_SIZE, _PIPE_BYTES)
    return fd


@contextmanager
def piped(argv: Sequence[str], database: str) -> Iterator[Stream]:
    """Start argv with its output in an ordinary pipe: what the clients without a FIFO of their own use."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            os.set_blocking(read_end, False)
            program = proc.Program(argv, stdout=widened(write_end))
        finally:
            os.close(write_end)
        with program:
            yield Stream(read_end, program, database)
    finally:
        os.close(read_end)


@contextmanager
def fed(argv: Sequence[str], database: str, answers: int | None = None) -> Iterator[Sink]:
    """Start argv with its input from an ordinary pipe: what the clients without a FIFO of their own use.

    answers: a descriptor for its output.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(write_end, False)
        program = proc.Program(argv, stdin=read_end, stdout=answers)
    except BaseException:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
    sink = Sink(widened(write_end), program, database)
    try:
        with program:
            yield sink
    finally:
        sink.close()
