"""Reads a backup as a restore will read it, and says beforehand why it could not be loaded into a new database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from pgbackup.errors import BackupBad
from pgbackup.formats.dumpfile import Contents, Reader
from pgbackup.sql.guarding.guard import Guard
from pgbackup.sql.scanner import DumpScanner

_SCHEMA = re.compile(r'("(?:[^"]|"")*"|[^\s".(;]+)\s*\.')
_EVERYWHERE = {"public", "pg_catalog", "information_schema"}
_BY_HAND = "load it by hand into a database that has the rest: gunzip -c FILE | psql -X -v ON_ERROR_STOP=1 -d DATABASE"


def read(descriptor: int, advance: Callable[[int], None] = lambda _bytes: None) -> tuple[Contents, BackupBad | None]:
    """Do what dumpfile.check() does. Return what the file holds, and why a restore would refuse it if it would."""
    reader = Reader(descriptor, advance)
    refused, left_out = judged(reader.pieces(), reader.scanner)
    contents = replace(reader.finished(), left_out=tuple(left_out))
    if not refused and not contents.manifest and (lacking := shortfall(reader.scanner)):
        refused = BackupBad(lacking, _BY_HAND)
    return contents, refused


def judged(pieces: Iterable[bytes], scanner: DumpScanner) -> tuple[BackupBad | None, list[str]]:
    """Feed all pieces to the scanner. Return why the guard would refuse them, None if it would not, and what of them
    it leaves out or changes for a new database.
    """
    reading = Guard(scanner, apart=False)
    found: list[BackupBad] = []

    def refuse(bad: BackupBad) -> None:
        found.append(bad)
        scanner.on_mark = None

    def mark(kind: str, position: int, excerpt: bytes) -> None:
        try:
            reading.mark(kind, position, excerpt)
        except BackupBad as bad:  # the scanner goes on
            refuse(bad)

    scanner.on_mark = mark
    for piece in pieces:
        if found:
            scanner.feed(piece)
            continue
        try:
            reading.skip(reading.walk(piece))
        except BackupBad as bad:
            refuse(bad)
    if not found:
        try:
            reading.finish()
        except BackupBad as bad:
            refuse(bad)
    return (found[0] if found else None), reading.adapter.left_out


def shortfall(scanner: DumpScanner) -> str:
    """Given a scanner that has read a whole dump, say which option of pg_dump has made it a part of a database, ""
    if none is seen to have. What extensions bring does not stand in a dump, so with any nothing is said. Pure.
    """
    if scanner.extensions:
        return ""
    if scanner.rows and not scanner.tables:
        return "it holds rows but creates no table: it was made with --data-only"
    if scanner.constraints and not scanner.tables:
        return "it holds constraints but creates no table: it was made with --section=post-data"
    homes = {name: found[1] for name in scanner.rows if (found := _SCHEMA.match(name))}
    for table, schema in sorted(homes.items()):
        if schema not in scanner.schemas | _EVERYWHERE:
            return f"it holds rows of {table} but does not create the schema {schema}: it was made with --table"
    return ""


def rowless(contents: Contents) -> str:
    """Say when a dump made by hand holds tables, and rows of none: pg_dump has COPY for an empty one too. Pure."""
    if contents.manifest or contents.rows or not contents.tables:
        return ""
    return "it holds tables and no rows at all: it was made with --schema-only"
