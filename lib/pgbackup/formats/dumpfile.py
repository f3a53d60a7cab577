"""The backup file: a dump in one gzip member, its manifest in a second one. Written and read as a stream."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pgbackup.descriptor import write_all
from pgbackup.errors import BackupBad
from pgbackup.formats import manifest
from pgbackup.formats.gzipped import LEVEL, RAW_DEFLATE, deflate, inflated
from pgbackup.formats.scan import Scan
from pgbackup.sql.outline import Outline
from pgbackup.sql.scanner import DumpScanner

_READ_BYTES = 256 << 10


@dataclass(frozen=True)
class Written:
    """What was written as the first member. sha256, gzip_bytes: of that member as it lies on disk."""

    scan: Scan
    gzip_bytes: int
    sha256: str


def write_dump(descriptor: int, pieces: Iterable[bytes], advance: Callable[[int], None]) -> Written:
    """Compress what pg_dump writes, piece by piece, into an empty open file. advance: takes bytes of SQL done.

    Whether the dump is a good one is for the caller to ask of the scanner. Raise OSError as the system does.
    """
    scan, digest, checksum, gzip_bytes = Scan(), hashlib.sha256(), 0, 0

    def put(data: bytes) -> None:
        nonlocal gzip_bytes
        write_all(descriptor, data)
        digest.update(data)
        gzip_bytes += len(data)

    put(manifest.PROMISE)
    compressor = deflate.compressobj(LEVEL, deflate.DEFLATED, RAW_DEFLATE)
    for piece in pieces:
        checksum = deflate.crc32(piece, checksum)
        put(compressor.compress(piece))
        scan.scanner.feed(piece)
        advance(len(piece))
    scan.finish()
    trailer = checksum.to_bytes(4, "little") + (scan.scanner.sql_bytes & 0xFFFFFFFF).to_bytes(4, "little")
    put(compressor.flush() + trailer)
    return Written(scan, gzip_bytes, digest.hexdigest())


def append_manifest(descriptor: int, facts: dict[str, Any]) -> None:
    """Write the second member behind the first."""
    write_all(descriptor, manifest.encoded(facts))


@dataclass(frozen=True)
class Contents:
    """What a file was found to hold when it was read to its last byte.

    manifest: None for one made by hand. sha256: of the compressed dump. content, outline: see Scan. left_out: what a
    restore leaves out of the dump or changes, for people to read; see loadable.py.
    """

    manifest: manifest.Manifest | None
    sha256: str
    sql_bytes: int
    statements: int
    tables: int
    rows: dict[str, int]
    content: dict[str, str]
    outline: Outline = field(compare=False)
    left_out: tuple[str, ...] = field(default=(), compare=False)


class Reader:
    """Reads one open backup: pieces() to the end, each fed to the scanner by whoever takes it, then finished()."""

    def __init__(self, descriptor: int, advance: Callable[[int], None] = lambda _bytes: None) -> None:
        """Read the manifest. advance: takes bytes of the file read. Raise BackupBad or OSError."""
        file_bytes = os.fstat(descriptor).st_size
        found = manifest.read(descriptor, file_bytes)
        if not found and manifest.is_promised(descriptor):
            raise BackupBad("it is cut off or damaged: the manifest that it promises is not at its end")
        self.manifest = found[0] if found else None
        self._scan = Scan()
        self.scanner = self._scan.scanner
        self._descriptor, self._advance = descriptor, advance
        self._dump_bytes = file_bytes - found[1] if found else file_bytes
        self._digest = hashlib.sha256()

    def pieces(self) -> Iterator[bytes]:
        """Yield the dump in pieces of at most 1 MiB. Raise BackupBad at damage, Interrupted on a signal."""
        taken = 0
        for piece in inflated(self._blocks(), several=self.manifest is None):
            taken += len(piece)
            if self.manifest and taken > self.manifest.sql_bytes:
                raise BackupBad(f"it unpacks to more than the {self.manifest.sql_bytes:,} bytes in its manifest")
            yield piece

    def _blocks(self) -> Iterator[bytes]:
        position = 0
        while position < self._dump_bytes:
            data = os.pread(self._descriptor, min(_READ_BYTES, self._dump_bytes - position), position)
            if not data:
                raise BackupBad("it became shorter while it was read")
            position += len(data)
            self._digest.update(data)
            self._advance(len(data))
            yield data

    def finished(self) -> Contents:
        """Return what the file holds. Raise BackupBad unless it is what its manifest says, and the dump is whole."""
        self._scan.finish()
        if self.manifest:
            _compare(self.manifest, self._scan, self._dump_bytes, self._digest.hexdigest())
        if not self.scanner.complete:
            raise _not_whole(self.scanner)
        return Contents(
            manifest=self.manifest,
            sha256=self._digest.hexdigest(),
            sql_bytes=self.scanner.sql_bytes,
            statements=self.scanner.statements,
            tables=self.scanner.tables,
            rows=dict(self.scanner.rows),
            content=self._scan.checksums.found(),
            outline=self._scan.outline,
        )


def check(descriptor: int, advance: Callable[[int], None] = lambda _bytes: None) -> Contents:
    """Read an open backup from its first to its last byte and return what it holds.

    advance: takes bytes of the file read. Raise BackupBad, saying what is wrong, unless every byte is as it was
    written and the dump in it is whole; OSError when it cannot be read; Interrupted on a signal.
    """
    reader = Reader(descriptor, advance)
    for piece in reader.pieces():
        reader.scanner.feed(piece)
    return reader.finished()


def _not_whole(scanner: DumpScanner) -> BackupBad:
    """What is wrong with a dump that is not complete; the remedy where only its last lines may be missing."""
    if scanner.state != "at the top level":
        return BackupBad(f"the dump in it is incomplete: it ends {scanner.state} without pg_dump's last lines")
    missing = "last lines" if scanner.pg_dump_version else "first lines and its last"
    lines = r"printf -- '--\n-- PostgreSQL database dump complete\n--\n\n' | gzip >> FILE"
    return BackupBad(
        f"the dump in it is incomplete, or not by pg_dump: it lacks pg_dump's {missing}",
        f"take another one: --list; or if you know that it is complete, add the last lines: {lines}",
    )


def _compare(said: manifest.Manifest, scan: Scan, dump_bytes: int, sha256: str) -> None:
    scanner = scan.scanner
    if said.gzip_bytes != dump_bytes or said.sha256 != sha256:
        raise BackupBad("the dump in it is not the one that its manifest describes (SHA-256 differs)")
    if said.sql_bytes != scanner.sql_bytes or said.rows != scanner.rows or said.tables != scanner.tables:
        raise BackupBad("its manifest counts other rows, tables or bytes than the dump holds")
    if said.content not in ({}, scan.checksums.found()):
        raise BackupBad("its manifest and the dump differ in their checksums of rows")
    if said.schema not in ("", scan.outline.fingerprint()):
        raise BackupBad("its manifest and the dump differ in the fingerprint of what is no data")
