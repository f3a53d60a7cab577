"""Reads a backup as a restore will read it, and says beforehand why it could not be loaded into a new database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from pgbackup.errors import BackupBad
from pgbackup.formats.dumpfile import Contents, Reader
from pgbackup.formats.scan import Scan
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
    judge = _Judge(scanner)
    for piece in pieces:
        judge.feed(piece)
    judge.finish()
    return judge.refused, judge.left_out


class JudgedScan(Scan):
    """A scan that says as well why a restore would refuse the dump, as far as it has seen it."""

    def __init__(self) -> None:
        super().__init__()
        self._judge = _Judge(self.scanner)

    def feed(self, piece: bytes) -> None:
        self._judge.feed(piece)

    def finish(self) -> None:
        self._judge.finish()
        self.refused, self.left_out = self._judge.refused, self._judge.left_out
        super().finish()


class _Judge:
    """Feeds a scanner and asks the guard at each piece. refused: its reason; left_out: see judged()."""

    def __init__(self, scanner: DumpScanner) -> None:
        self.refused: BackupBad | None = None
        self._scanner, self._guard = scanner, Guard(scanner, apart=False)
        scanner.on_mark = self._mark

    @property
    def left_out(self) -> list[str]:
        return self._guard.adapter.left_out

    def feed(self, piece: bytes) -> None:
        if self.refused:
            self._scanner.feed(piece)
            return
        table = self._scanner.amid_rows_of
        if table is not None and piece.rfind(b"\n\\.") < 0 and b"\0" not in piece:
            self._feed_rows(table, piece)
            return
        try:
            self._guard.skip(self._guard.walk(piece))
        except BackupBad as bad:
            self._refuse(bad)

    def _feed_rows(self, table: str, piece: bytes) -> None:
        """Feed what is surely nothing but rows, of which most dumps consist: the guard need not have them."""
        scanner = self._scanner
        before = scanner.rows[table]
        scanner.feed(piece)
        undecided = scanner.sql_bytes - scanner.decided_bytes
        self._guard.skip(scanner.decided_bytes, scanner.rows[table] - before, piece[len(piece) - undecided :])

    def finish(self) -> None:
        if not self.refused:
            try:
                self._guard.finish()
            except BackupBad as bad:
                self._refuse(bad)

    def _mark(self, kind: str, position: int, excerpt: bytes) -> None:
        try:
            self._guard.mark(kind, position, excerpt)
        except BackupBad as bad:  # the scanner goes on
            self._refuse(bad)

    def _refuse(self, bad: BackupBad) -> None:
        self.refused = self.refused or bad
        self._scanner.on_mark = None


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
