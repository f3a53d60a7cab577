"""The backup file: a dump in one gzip member, its manifest in a second one. Written and read as a stream."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pgbackup import interrupt
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


def write_dump(
    descriptor: int,
    pieces: Iterable[bytes],
    advance: Callable[[int], None],
    scan: Callable[[], Scan] = Scan,
    wrote: Callable[[int], None] = lambda _bytes: None,
) -> Written:
    """Compress what pg_dump writes, piece by piece, into an empty open file. advance: takes bytes of SQL done.

    scan: makes the one that it is scanned by. wrote: takes how long the file is by now.
    Whether the dump is a good one is for the caller to ask of the scanner. Raise OSError as the system does.
    """
    seen, digest, checksum, gzip_bytes = scan(), hashlib.sha256(), 0, 0
    compressor = deflate.compressobj(LEVEL, deflate.DEFLATED, RAW_DEFLATE)

    def put(data: bytes) -> None:
        nonlocal gzip_bytes
        write_all(descriptor, data)
        digest.update(data)
        gzip_bytes += len(data)
        wrote(gzip_bytes)

    def compressed(piece: bytes) -> bytes:
        nonlocal checksum
        checksum = deflate.crc32(piece, checksum)
        return bytes(compressor.compress(piece))

    put(manifest.PROMISE)
    with ThreadPoolExecutor(1, "compress") as aside:
        for piece in pieces:
            coming = aside.submit(compressed, piece)
            seen.feed(piece)
            advance(len(piece))
            put(coming.result())
    seen.finish()
    trailer = checksum.to_bytes(4, "little") + (seen.scanner.sql_bytes & 0xFFFFFFFF).to_bytes(4, "little")
    put(compressor.flush() + trailer)
    return Written(seen, gzip_bytes, digest.hexdigest())


def append_manifest(descriptor: int, facts: dict[str, Any]) -> bytes:
    """Write the second member behind the first, and return it."""
    member = manifest.encoded(facts)
    write_all(descriptor, member)
    return member


def unpacked(
    descriptor: int, ends: Iterable[int], advance: Callable[[int], None] = lambda _bytes: None
) -> tuple[int, str]:
    """Read the first member of an open file as far as each of `ends` says, the last of them being its end.

    Return how many bytes it unpacks to, and its SHA-256; what it holds is not looked at, but gzip's own CRC-32 of it.
    advance: takes bytes of the file read. Raise BackupBad at damage, OSError, Interrupted on a signal.
    """
    digest = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        position = 0
        with ThreadPoolExecutor(1, "hash") as aside:
            for end in ends:
                while position < end:
                    data = os.pread(descriptor, min(_READ_BYTES, end - position), position)
                    if not data:
                        raise BackupBad("it is shorter than what was written")
                    position += len(data)
                    hashing = aside.submit(digest.update, data)
                    yield data
                    hashing.result()
                    advance(len(data))

    sql_bytes = sum(map(len, inflated(blocks())))
    return sql_bytes, digest.hexdigest()


def compare_with_written(descriptor: int, written: Written, member: bytes, found: tuple[int, str]) -> None:
    """Raise BackupBad unless an open file is what write_dump() and append_manifest() wrote, to the last byte.

    found: what unpacked() has said of it.
    """
    file_bytes, wanted = os.fstat(descriptor).st_size, written.gzip_bytes + len(member)
    if file_bytes != wanted:
        raise BackupBad(f"it has {file_bytes:,} bytes instead of {wanted:,}")
    if found != (written.scan.scanner.sql_bytes, written.sha256):
        raise BackupBad("the dump in it is another one (its length or SHA-256 differs)")
    if os.pread(descriptor, len(member) + 1, written.gzip_bytes) != member or not manifest.read(descriptor, file_bytes):
        raise BackupBad("its manifest is not the one that was written")


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


def contents_of(found: manifest.Manifest | None, scan: Scan, sha256: str) -> Contents:
    """What a file holds. found: its manifest. scan: has seen all of the dump. sha256: of the dump, compressed."""
    scanner = scan.scanner
    return Contents(
        manifest=found,
        sha256=sha256,
        sql_bytes=scanner.sql_bytes,
        statements=scanner.statements,
        tables=scanner.tables,
        rows=dict(scanner.rows),
        content=scan.checksums.found(),
        outline=scan.outline,
        left_out=tuple(scan.left_out),
    )


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
        return contents_of(self.manifest, self._scan, self._digest.hexdigest())


def check_unchanged(descriptor: int) -> None:
    """Read an open backup to its last byte and compare it with its manifest's SHA-256: enough for one that check() has
    found to be good before, at a tenth of its cost. Raise BackupBad where it is not the same, and as check() does.
    """
    digest, file_bytes = hashlib.sha256(), os.fstat(descriptor).st_size
    found = manifest.read(descriptor, file_bytes)
    if not found or found[0].gzip_bytes + found[1] != file_bytes:
        raise BackupBad("it is cut off or damaged: its manifest is not at its end")
    for position in range(0, found[0].gzip_bytes, _READ_BYTES):
        interrupt.check()
        digest.update(os.pread(descriptor, min(_READ_BYTES, found[0].gzip_bytes - position), position))
    if digest.hexdigest() != found[0].sha256:
        raise BackupBad("the dump in it is not the one that its manifest describes (SHA-256 differs)")


def check(descriptor: int, advance: Callable[[int], None] = lambda _bytes: None, *, alone: bool = False) -> Contents:
    """Read an open backup from its first to its last byte and return what it holds.

    advance: takes bytes of the file read. alone: no other file is read meanwhile, so two threads share the work. Raise
    BackupBad, saying what is wrong, unless every byte is as it was written and the dump in it is whole; OSError when it
    cannot be read; Interrupted on a signal.
    """
    reader = Reader(descriptor, advance)
    for piece in _ahead(reader.pieces()) if alone else reader.pieces():
        reader.scanner.feed(piece)
    return reader.finished()


def _ahead(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same; the next piece is unpacked by another thread while one is used."""
    with ThreadPoolExecutor(1, "ahead") as aside:
        coming = aside.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = aside.submit(next, pieces, None)
            yield piece


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
