"""Remembers the last of what a session of psql was fed, so that an error can be said of an object and not of a line."""

from __future__ import annotations

import re
from collections import deque

from pgbackup.sql.locate import HEADING, about

_KEPT_BYTES = 1 << 21  # more than lies in pipes between us and psql
_AT_LINE = re.compile(r"^psql:<stdin>:(\d+): ", re.MULTILINE)


def failed_line(stderr: str) -> int:
    """Given what psql said, return the line in which it gave up, 0 if it does not say. Warnings come before. Pure."""
    found = _AT_LINE.findall(stderr)
    return int(found[-1]) if found else 0


class Tape:
    """What was fed, in pieces of whole or broken lines; psql counts the lines from 1."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._bytes = 0
        self._lines_before = 0  # those of pieces that are forgotten

    @property
    def lines(self) -> int:
        """How many lines have ended so far."""
        return self._lines_before + sum(piece.count(b"\n") for piece in self._pieces)

    def note(self, text: bytes) -> None:
        """Remember it, and forget what is too long ago."""
        self._pieces.append(text)
        self._bytes += len(text)
        while self._bytes > _KEPT_BYTES and len(self._pieces) > 1:
            gone = self._pieces.popleft()
            self._bytes -= len(gone)
            self._lines_before += gone.count(b"\n")

    def blamed(self, stderr: str) -> str:
        """Given what psql said, return what its error was about: `TRIGGER orders audit in schema public`.

        Return "" where that is not known any more, or the text is not pg_dump's.
        """
        line = failed_line(stderr)
        if not line:
            return ""
        lines = b"".join(self._pieces).split(b"\n")[: line - self._lines_before]
        headings = HEADING.findall(b"\n".join(lines))
        return about(headings[-1]) if headings else ""
