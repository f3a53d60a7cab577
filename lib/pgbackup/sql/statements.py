"""Cuts a text of SQL into its statements."""

from __future__ import annotations

import itertools

from pgbackup.sql.scanner import DumpScanner


def split(text: bytes) -> list[bytes]:
    """Return the statements without their semicolons, by psql's rule where one ends. Pure."""
    ends: list[int] = []
    scanner = DumpScanner()
    scanner.on_mark = lambda kind, position, _excerpt: ends.append(position) if kind == "end" else None
    scanner.feed(text)
    scanner.finish()
    cuts = [0, *(end + 1 for end in ends), len(text) + 1]
    found = (text[begin : end - 1].strip() for begin, end in itertools.pairwise(cuts))
    return [statement for statement in found if _says(statement)]


def _says(statement: bytes) -> bool:
    lines = (line.strip() for line in statement.splitlines())
    return any(line and not line.startswith(b"--") for line in lines)
