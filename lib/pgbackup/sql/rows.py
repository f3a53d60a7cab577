r"""Cuts the rows of a COPY where a row ends, so that several sessions can load a table at once. Pure.

In the text format a row ends at a newline that no backslash stands before (PostgreSQL manual, COPY, Text Format). Where
a carriage return is among the rows, how they end is for the server to find out, and nothing is cut from there on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """Some rows of a piece, in the order in which they came.

    begins: nothing of the piece was given before. ends: the piece is whole with these. whole: the piece is, or will be,
    all there is.
    """

    texts: list[bytes]
    begins: bool
    ends: bool
    whole: bool


class Cutter:
    """Takes the rows of one COPY in texts of any length and gives them in runs; each piece is made of whole rows.

    piece_bytes: what is held at most; then the piece ends at the next end of a row. cuts: False to make one piece of
    all. A row that is longer than a piece comes in several runs, so memory stays flat.
    """

    def __init__(self, piece_bytes: int, *, cuts: bool) -> None:
        self._piece_bytes, self._cuts = piece_bytes, cuts
        self._held: list[bytes] = []
        self._bytes = 0  # of the piece, given or held
        self._is_given = False  # some of the piece
        self._is_cut = False  # the table
        self._previous = b""

    def take(self, text: bytes) -> Iterator[Run]:
        """Take more rows, without the line that ends them, and give what is to go now."""
        self._cuts = self._cuts and b"\r" not in text
        while text:
            end = self._row_end(text, self._piece_bytes - self._bytes - 1)
            piece, text = (text[:end], text[end:]) if end else (text, b"")
            self._held.append(piece)
            self._bytes += len(piece)
            self._previous = piece[-1:]
            if end:
                self._is_cut = True
                yield self._run(ends=True)
            elif self._bytes >= self._piece_bytes:
                yield self._run(ends=False)

    def finish(self) -> Iterator[Run]:
        """There are no more rows: give what is left of the last piece, if it is not whole yet."""
        if self._bytes or not self._is_cut:
            yield self._run(ends=True)

    def _row_end(self, text: bytes, start: int) -> int:
        """Where, at that position or behind it, the first row ends at which the table may be cut; 0 for nowhere."""
        at = text.find(b"\n", max(0, start)) if self._cuts else -1
        while at >= 0:
            if (text[at - 1 : at] if at else self._previous) != b"\\":
                return at + 1
            at = text.find(b"\n", at + 1)
        return 0

    def _run(self, *, ends: bool) -> Run:
        whole = not self._is_cut and (ends or not self._cuts)
        run = Run(self._held, begins=not self._is_given, ends=ends, whole=whole)
        self._held, self._is_given = [], not ends
        self._bytes = 0 if ends else self._bytes
        return run
