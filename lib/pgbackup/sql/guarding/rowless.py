"""A dump without the rows of its COPY statements: what is left says whether a server takes everything else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from pgbackup.sql.scanner import DumpScanner, reads_stdin

_END = b"\\.\n"


def without_rows(pieces: Iterable[bytes], scanner: DumpScanner) -> Iterator[bytes]:
    """Feed the pieces of a dump to the scanner and yield them without the rows of COPY, the rest as it came.

    scanner: nobody else's.
    """
    copies: list[int] = []  # where COPY statements end whose rows have not ended
    edges: list[tuple[str, int]] = []

    def mark(kind: str, position: int, _excerpt: bytes) -> None:
        if kind == "data end" or (kind == "end" and scanner.words[:1] == [b"copy"] and reads_stdin(scanner.words)):
            edges.append((kind, position))

    scanner.on_mark = mark
    text, begin, inside = bytearray(), 0, False  # begin: where in the dump the text begins; inside: among rows
    for piece in chain(pieces, [None]):
        if piece is None:
            scanner.finish()
        else:
            scanner.feed(piece)
            text += piece
        for kind, position in edges:
            if kind == "end":
                copies.append(position)
                continue
            if not inside:
                yield bytes(text[: text.index(b"\n", copies[0] - begin) + 1])
            yield _END
            del copies[0], text[: position - begin]
            begin, inside = position, bool(copies)
        edges.clear()
        # Rows begin behind the line in which their statement ends.
        newline = text.find(b"\n", copies[0] - begin) if copies and not inside else -1
        until = newline + 1 if newline >= 0 else 0 if copies and not inside else scanner.decided_bytes - begin
        if not inside:
            yield bytes(text[:until])
        inside = bool(copies) and (inside or newline >= 0)
        del text[: max(0, until)]
        begin += max(0, until)
    yield bytes(text)
