"""A private key, from a file, from a pipe, or from somebody who types it: never on a command line, never shown."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgbackup.commands import confirm
from pgbackup.report.log import say
from pgbackup.store.state import keys

_LARGEST_BYTES = 64 << 10


def given(file: str) -> list[str]:
    """The private keys in a file; "-" for stdin: typed on a terminal, without echo, or the text of a key file.

    Raise as keys.identities() does, Interrupted.
    """
    return asked("the key") if file == "-" else keys.identities(Path(file))


def asked(what: str) -> list[str]:
    """The private keys on stdin. what: to be typed, for people. Raise ConfigurationError, Interrupted."""
    if not sys.stdin or not sys.stdin.isatty():
        return keys.identities_in(_piped(), "stdin")
    with _without_echo():
        sys.stderr.write(f"Type {what} (AGE-SECRET-KEY-1…; it is not shown): ")
        sys.stderr.flush()
        typed = confirm.typed()
    say("")
    return keys.identities_in(typed, "what was typed")


def _piped() -> str:
    data = b""
    while len(data) <= _LARGEST_BYTES and (piece := os.read(0, 4096)):
        data += piece
    return data.decode("utf-8", "replace")


@contextmanager
def _without_echo() -> Iterator[None]:
    before = termios.tcgetattr(0)
    silent = [*before]
    silent[3] = before[3] & ~termios.ECHO
    termios.tcsetattr(0, termios.TCSADRAIN, silent)  # what is typed ahead stays
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
