"""Signals asked for politely: a handler only notes the request, the places that wait look at it.

SIGHUP, SIGINT and SIGTERM stop a run. Nothing is cleaned up inside a handler; whoever waits calls
`check()`, gets Interrupted, and leaves through its ordinary `finally` blocks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pgbackup.errors import Interrupted

STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

_requested: list[int] = []
_thread = threading.local()


def _note(number: int, _frame: FrameType | None) -> None:
    _requested.append(number)


def install() -> None:
    """Note SIGHUP, SIGINT and SIGTERM instead of dying of them; a SIGHUP ignored by nohup stays ignored.

    What else a parent may have left odd is put right: SIGCHLD ignored would hide how children ended.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*STOPPING, signal.SIGCHLD})
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


def check() -> None:
    """Raise Interrupted when a stopping signal has arrived, or what `giving_way()` raises, but not in `shielded()`."""
    if getattr(_thread, "shielded", False):
        return
    if _requested:
        raise Interrupted(_requested[0])
    if look := getattr(_thread, "look", None):
        look()


@contextmanager
def giving_way(look: Callable[[], None]) -> Iterator[None]:
    """Let every wait of the block, in this thread, call `look` as well: it raises where the work is to end."""
    _thread.look = look
    try:
        yield
    finally:
        _thread.look = None


@contextmanager
def shielded() -> Iterator[None]:
    """Let cleanup run its programs although a signal has arrived. For this thread only."""
    before = getattr(_thread, "shielded", False)
    _thread.shielded = True
    try:
        yield
    finally:
        _thread.shielded = before
