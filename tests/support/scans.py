"""Feeds a dump to the scanner, whole or in pieces."""

from __future__ import annotations

from collections.abc import Iterable

from pgbackup.sql.scanner import DumpScanner


def scan(pieces: Iterable[bytes]) -> DumpScanner:
    scanner = DumpScanner()
    for piece in pieces:
        scanner.feed(piece)
    scanner.finish()
    return scanner


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
