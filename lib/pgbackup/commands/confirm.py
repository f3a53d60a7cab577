"""Asks before something is replaced, dropped or deleted. Only the name of it, typed on a terminal, is a yes."""

from __future__ import annotations

import os
import select
import sys

from pgbackup import interrupt
from pgbackup.errors import UsageError
from pgbackup.report.log import say

_TICK_SECONDS = 0.2


def ask(name: str, what: str, of: str = "database") -> None:
    """Ask on the terminal for `name`, that of a database or of what `of` says.

    Raise UsageError unless exactly that is typed; nothing was touched then.
    """
    require_terminal(what)
    sys.stderr.write(f"Type the {of}'s name, {name}, to go on: ")
    sys.stderr.flush()
    if typed() != name:
        raise UsageError("not confirmed: nothing was touched", f"type exactly: {name}")
    say("")


def require_terminal(what: str) -> None:
    """Raise UsageError where ask() could not ask."""
    if not sys.stdin or not sys.stdin.isatty():
        raise UsageError(
            f"{what} needs a confirmation, and there is no terminal to ask on: nothing was touched",
            "run it in a terminal, or add --yes",
        )


def typed() -> str:
    """One line from the terminal; "" at its end. A signal interrupts the waiting, as input() would not let it."""
    line = b""
    while not line.endswith(b"\n"):
        interrupt.check()
        if select.select([0], [], [], _TICK_SECONDS)[0]:
            piece = os.read(0, 1024)
            if not piece:
                break
            line += piece
    return line.decode("utf-8", "replace").rstrip("\n")
