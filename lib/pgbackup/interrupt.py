"""Signals asked for politely: a handler only notes the request, the places that wait look at it.

SIGHUP, SIGINT and SIGTERM stop a run. Nothing is cleaned up inside a handler; whoever waits calls
`check()`, gets Interrupted, and leaves through its ordinary `finally` blocks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
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
    """Raise Interrupted when a stopping signal has arrived, except inside `shielded()`."""
    if _requested and not getattr(_thread, "shielded", False):
        raise Interrupted(_requested[0])


@contextmanager
def shielded() -> Iterator[None]:
    """Let cleanup run its programs although a signal has arrived. For this thread only."""
    before = getattr(_thread, "shielded", False)
    _thread.shielded = True
    try:
        yield
    finally:
        _thread.shielded = before
