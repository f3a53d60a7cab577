"""Segments of WAL as files: what each says of itself, compressed for the archive, read back for recovery."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import reduce
from itertools import zip_longest
from typing import BinaryIO

from pgbackup import wal
from pgbackup.descriptor import write_all
from pgbackup.errors import BackupBad
from pgbackup.formats.gzipped import GZIP, LEVEL, Damaged, deflate, inflated
from pgbackup.store import workfiles
from pgbackup.store.folder import Folder
from pgbackup.wal import Segment

COMPRESSED = ".gz"
_LARGEST_BYTES = 1 << 30  # of a segment, by initdb --wal-segsize
_PIECE_BYTES = 1 << 20
_LONG_HEADER = 0x0002
# xlp_magic, xlp_info, xlp_tli, xlp_pageaddr, xlp_rem_len, padding, xlp_sysid, xlp_seg_size, xlp_xlog_blcksz
# (access/xlog_internal.h, XLogLongPageHeaderData), as little-endian machines write it.
_HEADER = struct.Struct("<HHIQIxxxxQII")


def check_header(data: bytes, segment: Segment, system: int, length: int | None = None) -> None:
    """Raise BackupBad unless `data`, a segment's whole content, begins as that segment of that cluster does.

    system: the cluster's identifier. length: of the whole, where `data` is only its beginning. The records in it are
    for pg_waldump to check.
    """
    timeline, position, owner, size = _header(data)
    length = len(data) if length is None else length
    if owner != system:
        raise BackupBad(f"it is of another cluster (system identifier {owner}, not {system})")
    if length != size:
        raise BackupBad(f"it has {length:,} bytes, but a segment of this cluster has {size:,}")
    if position != segment.number * size:
        raise BackupBad(f"it holds the WAL from {wal.format_lsn(position)}, not what its name says")
    # The first pages of a new timeline's first segment are copied from the old one.
    if not 0 < timeline <= segment.timeline:
        raise BackupBad(f"it is of timeline {timeline}, but its name says {segment.timeline}")


def _header(data: bytes) -> tuple[int, int, int, int]:
    """Timeline, position, system identifier and size of segments, as the first page says."""
    if len(data) < _HEADER.size:
        raise BackupBad("it is cut off in its first page")
    _magic, info, timeline, position, _rest, system, size, _page = _HEADER.unpack_from(data)
    if not info & _LONG_HEADER or size not in (1 << power for power in range(20, 31)):
        raise BackupBad("it does not begin like a segment of WAL")
    return timeline, position, system, size


def origin(folder: Folder, name: str) -> tuple[int, int]:
    """The cluster that a segment is of, and the size of its segments. Raise BackupBad for no segment, and OSError."""
    head = bytearray()
    for piece in pieces(folder, name):
        head += piece
        if len(head) >= _HEADER.size:
            break
    _timeline, _position, system, size = _header(bytes(head))
    return system, size


def is_blank(folder: Folder, name: str) -> bool:
    """Whether no WAL has been written yet into an unfinished segment: pg_receivewal fills it with zeros before."""
    if not name.endswith(wal.PARTIAL):
        return False  # without opening it: an archive may have many thousands of finished ones
    try:
        with _opened(folder, name) as file:
            return not any(file.read(_HEADER.size))
    except OSError:
        return False  # whoever reads it says why it cannot be read


def decompress(data: bytes) -> bytes:
    """What one gzip member holds, at most the largest segment. Raise BackupBad for damage or anything behind it."""
    inflater = deflate.decompressobj(wbits=GZIP)
    try:
        content = inflater.decompress(data, _LARGEST_BYTES)
    except Damaged:
        raise BackupBad("it is not gzip data, or damaged") from None
    if not inflater.eof or inflater.unused_data:
        raise BackupBad("it is cut off, or something else follows it")
    return bytes(content)


def read(folder: Folder, name: str) -> bytes | None:
    """Return a file's content, decompressed if its name ends in `.gz`; None where there is none.

    Raise BackupBad for damage, OSError as the system does: a link is not followed.
    """
    try:
        opened = _opened(folder, name)
    except FileNotFoundError:
        return None
    with opened as file:
        data = file.read(_LARGEST_BYTES + 1)
    if len(data) > _LARGEST_BYTES:
        raise BackupBad("it is larger than any segment")
    return decompress(data) if name.endswith(COMPRESSED) else data


def _opened(folder: Folder, name: str) -> BinaryIO:
    descriptor = folder.open(name)
    return open(descriptor, "rb")  # noqa: PTH123  a descriptor, not a path; the caller closes it


def head(folder: Folder, name: str) -> tuple[bytes, int]:
    """The beginning of a file that is not compressed, enough for check_header(), and its length. Raise OSError."""
    with _opened(folder, name) as file:
        return file.read(_HEADER.size), os.fstat(file.fileno()).st_size


def pieces(folder: Folder, name: str) -> Iterator[bytes]:
    """Yield what read() returns, in pieces of at most 1 MiB. Raise BackupBad for damage, OSError."""
    with _opened(folder, name) as file:
        blocks = iter(lambda: file.read(_PIECE_BYTES), b"")
        yield from inflated(blocks) if name.endswith(COMPRESSED) else blocks


def store(folder: Folder, name: str, content: Callable[[], Iterable[bytes]]) -> str:
    """Put a segment into the archive as `<name>.gz` and return that name: compressed, synced and read back.

    content: gives its pieces, again and again. What lies there under that name already is left where it is the same,
    or an unfinished segment that holds more; a damaged one, or an unfinished one that holds less, makes way. Raise
    BackupBad where it holds something else, or when what was read back differs; OSError as the system does. The file
    appears in one step, and no more than some MiB of it are in memory.
    """
    final = name + COMPRESSED
    present = ""
    with suppress(BackupBad, FileNotFoundError):  # a damaged one makes way for a whole one
        present = _compared(pieces(folder, final), content())
    is_partial = name.endswith(wal.PARTIAL)
    if present == _SAME or (present == _MORE and is_partial):
        return final
    if present and not (present == _LESS and is_partial):
        raise BackupBad(
            f"'{folder.path / final}' is there and holds something else",
            "see with pg_waldump which one is right, and move the other one away",
        )
    hidden = f".{final}.new"
    with workfiles.replacement(folder, hidden) as descriptor:
        made, told = deflate.compressobj(LEVEL, deflate.DEFLATED, GZIP), _EMPTY
        for piece in content():
            told = _with(told, piece)
            write_all(descriptor, bytes(made.compress(piece)))
        write_all(descriptor, bytes(made.flush()))
        os.fsync(descriptor)
        workfiles.forget(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        blocks = iter(lambda: os.read(descriptor, _PIECE_BYTES), b"")
        if reduce(_with, inflated(blocks), _EMPTY) != told:
            raise BackupBad(f"'{folder.path / final}' does not read back as it was written")
        folder.replace(hidden, final)
    folder.sync()
    return final


_EMPTY = (0, 0, 1)


def _with(told: tuple[int, int, int], piece: bytes) -> tuple[int, int, int]:
    """Length, CRC-32 and Adler-32 of some bytes, and one more piece: as sure as formats/content.py is."""
    length, crc, adler = told
    return length + len(piece), deflate.crc32(piece, crc), deflate.adler32(piece, adler)


_SAME, _MORE, _LESS, _OTHER = "same", "more", "less", "other"


def _compared(one: Iterable[bytes], other: Iterable[bytes]) -> str:
    """Whether two contents are the same, or one goes on where the other has only zeros. Pure but for the reading."""
    pairs = zip_longest(_blocks(one), _blocks(other), fillvalue=b"")
    for mine, its in pairs:
        if mine == its:
            continue
        at = next(
            (number for number, (a, b) in enumerate(zip(mine, its, strict=False)) if a != b), min(len(mine), len(its))
        )
        mine_over, its_over = not any(mine[at:]), not any(its[at:])
        for rest, its_rest in pairs:
            mine_over, its_over = mine_over and not any(rest), its_over and not any(its_rest)
        return _LESS if mine_over else _MORE if its_over else _OTHER
    return _SAME


def _blocks(content: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of one size."""
    held = bytearray()
    for piece in content:
        held += piece
        while len(held) >= _PIECE_BYTES:
            yield bytes(held[:_PIECE_BYTES])
            del held[:_PIECE_BYTES]
    if held:
        yield bytes(held)
