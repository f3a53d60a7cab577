"""Finds the statement of a dump that stands in a line: only asked when that statement has failed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pgbackup.sql.scanner import DumpScanner, reads_stdin

# As pg_dump writes it in front of every object (_printTocEntry in pg_backup_archiver.c).
HEADING = re.compile(rb"^-- (?:Data for )?Name: ([^\n]*); Type: ([A-Z ]+); Schema: ([^\n;]*); Owner: ", re.MULTILINE)


@dataclass(frozen=True)
class Unit:
    """Whole lines, counted from 1: a statement, what lies between the one before and it, and rows that follow it.

    about: what pg_dump calls the object, `TRIGGER orders audit in schema public`; "" where it does not say.
    """

    first: int
    last: int
    about: str


def about(heading: tuple[bytes, bytes, bytes]) -> str:
    """Given the groups of HEADING, return the object's kind, name and schema. Pure."""
    name, kind, schema = (each.decode("utf-8", "replace") for each in heading)
    return f"{kind} {name}" if schema in ("-", "") else f"{kind} {name} in schema {schema}"


def heading(text: bytes) -> str:
    """What pg_dump calls the object that the last heading in a text stands before, "" without one. Pure."""
    found = HEADING.findall(text)
    return about(found[-1]) if found else ""


def unit_at(pieces: Iterable[bytes], line: int) -> Unit:
    """Return the first unit that ends in that line or behind it; the last one where the dump is shorter."""
    walk = _Walk(line)
    for piece in pieces:
        walk.take(piece)
        if walk.found:
            return walk.found
    return walk.finish()


def rows_end(pieces: Iterable[bytes]) -> int:
    """Return the last line that holds rows of a table, 0 where there are none: behind it come indexes and triggers."""
    walk = _Walk(0)
    for piece in pieces:
        walk.take(piece)
    walk.finish()
    return walk.rows_end


class _Walk:
    def __init__(self, wanted: int) -> None:
        self.rows_end = 0
        self.first = self.line = 1
        self.found: Unit | None = None
        self.about = ""
        self._wanted = wanted
        self._scanner = DumpScanner()
        self._scanner.on_mark = self._mark
        self._text = bytearray()  # what is not counted yet
        self._begin = 0
        self._in_rows = False

    def take(self, piece: bytes) -> None:
        self._text += piece
        self._scanner.feed(piece)
        decided = self._scanner.decided_bytes - self._begin
        self._count(self._begin + self._text.rfind(b"\n", 0, max(0, decided)) + 1)

    def finish(self) -> Unit:
        self._scanner.finish()
        self._count(self._begin + len(self._text))
        return self.found or Unit(self.first, max(self.first, self.line, self._wanted), self.about)

    def _mark(self, kind: str, position: int, _excerpt: bytes) -> None:
        if kind == "end":
            self._count(position + 1)
            words = self._scanner.words
            self._in_rows = words[:1] == [b"copy"] and reads_stdin(words)
            if not self._in_rows:
                self._close(self.line)
                self.rows_end = self.line if words[:1] == [b"insert"] else self.rows_end
        elif kind == "data end":
            self._count(position)
            self._in_rows = False
            self._close(self.line - 1)
            self.rows_end = self.line - 1

    def _close(self, last: int) -> None:
        if not self.found and last >= self._wanted:
            self.found = Unit(self.first, last, self.about)
        self.first = last + 1

    def _count(self, until: int) -> None:
        text = bytes(self._text[: max(0, until - self._begin)])
        del self._text[: len(text)]
        self._begin += len(text)
        self.line += text.count(b"\n")
        if not self._in_rows and (headings := HEADING.findall(text)):
            self.about = about(headings[-1])
