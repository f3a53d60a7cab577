"""Runs short programs in a sidecar without Docker: a shell that waits in it starts them.

`docker exec` takes five times as long as what it starts, and a restore asks a dozen questions. An order is a script in
the directory that both sides see, and FIFOs for its input, its output, its errors and its exit status.
"""

from __future__ import annotations

import itertools
import os
import select
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from pgbackup import interrupt, proc
from pgbackup.database.clients.streams import hand_over, make_fifo
from pgbackup.proc import Finished

_LINE = "orders"  # the FIFO in which orders come
_ENDS = ("input", "output", "errors", "status")
_TICK_MS = 200
_OPENING_MS = 2  # nothing tells when a FIFO is opened at its other end
_READ_BYTES = 1 << 16
_MOST_BYTES = 64 << 20
_CUT_OFF = 137  # as `docker exec` ends when its container is killed


def waiting(inside: str) -> str:
    """The shell's part: takes orders for as long as its container runs. inside: where it sees the directory. Pure."""
    order = f'"{inside}/$order.'
    program = f'sh {order}program" <{order}input" >{order}output" 2>{order}errors"; echo $?'
    loop = f'while read -r order <&3; do {{ {program}; }} >{order}status" 3<&- & done'
    return f"exec 3<>{inside}/{_LINE}; {loop} & exec 3<&-;"


class Orders:
    """Gives orders to the shell that runs `waiting()`."""

    def __init__(self, place: Path) -> None:
        """place: an empty directory, which belongs to the shell's user."""
        self._place = place
        self._numbers = itertools.count()
        make_fifo(place / _LINE)

    def close(self) -> None:
        """Leave the directory as it was."""
        _removed(self._place / _LINE)

    def completed(self, argv: Sequence[str], seconds: float, stdin: bytes) -> Finished | None:
        """Run a program to its end, and return what it said; None where the order could not be given.

        Raise NoAnswer when it does not end within `seconds`, Interrupted on a signal; it may go on then.
        """
        proc.require_utf8(argv)
        with ExitStack() as stack:
            try:
                order = self._given(argv, stdin, stack)
            except OSError:  # the shell has ended, or the disk is full
                return None
            return order.finished(seconds)

    def _given(self, argv: Sequence[str], stdin: bytes, stack: ExitStack) -> _Order:
        line = os.open(self._place / _LINE, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        stack.callback(os.close, line)
        name = f"order-{next(self._numbers)}"
        script = self._place / f"{name}.program"
        stack.callback(_removed, script)
        script.write_bytes(f"exec {shlex.join(argv)}\n".encode())
        hand_over(script)
        fifos = [self._place / f"{name}.{end}" for end in _ENDS]
        for fifo in fifos:
            stack.callback(_removed, fifo)
            make_fifo(fifo)
        order = stack.enter_context(_Order(argv, line, fifos, stdin))
        os.write(line, f"{name}\n".encode())
        return order


class _Order:
    """One order, while it is carried out."""

    def __init__(self, argv: Sequence[str], line: int, fifos: Sequence[Path], stdin: bytes) -> None:
        """line: an open end of the FIFO in which it is given. fifos: its own, in the order of _ENDS."""
        self._argv, self._line, self._input, self._left = argv, line, fifos[0], memoryview(stdin)
        self._to = -1  # its input, when it is open
        self._is_fed = False
        self._from = [os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) for fifo in fifos[1:]]
        self._said = [bytearray() for _ in self._from]

    def __enter__(self) -> _Order:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_input()
        for fd in self._from:
            os.close(fd)

    def finished(self, seconds: float) -> Finished:
        """Move it on to its end. Raise NoAnswer, Interrupted."""
        deadline = time.monotonic() + seconds
        is_over = False
        while not is_over:
            interrupt.check()
            self._feed()
            is_over = self._wait()
            for fd, said in zip(self._from, self._said, strict=True):
                _hear(fd, said)
            if not is_over and time.monotonic() > deadline:
                raise proc.no_answer(self._argv, seconds)
        output, errors, status = map(bytes, self._said)
        code = int(status) if status.strip().isdigit() else _CUT_OFF
        return Finished(code, output, errors.decode("utf-8", "replace").strip())

    def _feed(self) -> None:
        """Give it what it takes of its input now."""
        if self._is_fed:
            return
        try:
            if self._to < 0:
                self._to = os.open(self._input, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            while self._left:
                self._left = self._left[os.write(self._to, self._left) :]
        except BrokenPipeError:  # it is over, and says why
            self._left = self._left[:0]
        except OSError:  # it has not opened it yet, or takes no more now
            return
        self._is_fed = True
        self._end_input()

    def _end_input(self) -> None:
        if self._to >= 0:
            os.close(self._to)
        self._to = -1

    def _wait(self) -> bool:
        """Wait for something to happen; return whether it is over, or nobody is there any more to carry it out."""
        poll = select.poll()
        for fd in self._from:
            poll.register(fd, select.POLLIN)
        poll.register(self._line, 0)
        if self._to >= 0:
            poll.register(self._to, select.POLLOUT)
        events = dict(poll.poll(_TICK_MS if self._is_fed or self._to >= 0 else _OPENING_MS))
        is_lost = bool(events.get(self._line, 0) & select.POLLERR)
        return is_lost or events.get(self._from[-1], 0) & (select.POLLHUP | select.POLLIN) == select.POLLHUP


def _removed(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _hear(fd: int, said: bytearray) -> None:
    """Add what a program has said."""
    with suppress(BlockingIOError):
        while piece := os.read(fd, _READ_BYTES):
            if len(said) < _MOST_BYTES:
                said += piece
