"""Segments of WAL as files: what each says of itself, compressed for the archive, read back for recovery."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import BinaryIO

from pgbackup.archive import wal, workfiles
from pgbackup.archive.dumpfile import write_all
from pgbackup.archive.folder import Folder
from pgbackup.archive.gzipped import GZIP, LEVEL, Damaged, deflate
from pgbackup.archive.wal import Segment
from pgbackup.errors import BackupBad

COMPRESSED = ".gz"
_LARGEST_BYTES = 1 << 30  # of a segment, by initdb --wal-segsize
_LONG_HEADER = 0x0002
# xlp_magic, xlp_info, xlp_tli, xlp_pageaddr, xlp_rem_len, padding, xlp_sysid, xlp_seg_size, xlp_xlog_blcksz
# (access/xlog_internal.h, XLogLongPageHeaderData), as little-endian machines write it.
_HEADER = struct.Struct("<HHIQIxxxxQII")


def check_header(data: bytes, segment: Segment, system: int) -> None:
    """Raise BackupBad unless `data`, a segment's whole content, begins as that segment of that cluster does.

    system: the cluster's identifier. The records in it are for pg_waldump to check.
    """
    timeline, position, owner, size = _header(data)
    if owner != system:
        raise BackupBad(f"it is of another cluster (system identifier {owner}, not {system})")
    if len(data) != size:
        raise BackupBad(f"it has {len(data):,} bytes, and a segment of this cluster {size:,}")
    if position != segment.number * size:
        raise BackupBad(f"it holds the WAL from {wal.format_lsn(position)} and not what its name says")
    # The first pages of a new timeline's first segment are copied from the old one.
    if not 0 < timeline <= segment.timeline:
        raise BackupBad(f"it is of timeline {timeline}, and its name says {segment.timeline}")


def _header(data: bytes) -> tuple[int, int, int, int]:
    """Timeline, position, system identifier and size of segments, as the first page says."""
    if len(data) < _HEADER.size:
        raise BackupBad("it is cut off in its first page")
    _magic, info, timeline, position, _rest, system, size, _page = _HEADER.unpack_from(data)
    if not info & _LONG_HEADER or size not in (1 << power for power in range(20, 31)):
        raise BackupBad("it does not begin as a segment of WAL does")
    return timeline, position, system, size


def is_blank(folder: Folder, name: str) -> bool:
    """Whether no WAL has been written yet into an unfinished segment: pg_receivewal fills it with zeros before."""
    if not name.endswith(wal.PARTIAL):
        return False  # without opening it: an archive may have many thousands of finished ones
    try:
        with _opened(folder, name) as file:
            return not any(file.read(_HEADER.size))
    except OSError:
        return False  # whoever reads it says why it cannot be read


def compress(data: bytes) -> bytes:
    """One gzip member, as pg_receivewal and gunzip know it."""
    made = deflate.compressobj(LEVEL, deflate.DEFLATED, GZIP)
    return bytes(made.compress(data)) + bytes(made.flush())


def decompress(data: bytes) -> bytes:
    """What one gzip member holds, at most the largest segment. Raise BackupBad for damage or anything behind it."""
    inflater = deflate.decompressobj(wbits=GZIP)
    try:
        content = inflater.decompress(data, _LARGEST_BYTES)
    except Damaged:
        raise BackupBad("it is not gzip data, or damaged") from None
    if not inflater.eof or inflater.unused_data:
        raise BackupBad("it is cut off, or something else stands behind it")
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
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
    return open(descriptor, "rb")  # noqa: PTH123  a descriptor, not a path; the caller closes it


def store(folder: Folder, name: str, content: bytes) -> str:
    """Put a segment into the archive as `<name>.gz` and return that name: compressed, synced and read back.

    What lies there under that name already is replaced when it is the same, else left. Raise BackupBad then, or when
    what was read back differs; OSError as the system does. The file appears in one step.
    """
    final = name + COMPRESSED
    with suppress(BackupBad):  # a damaged one makes way for a whole one
        present = read(folder, final)
        if present == content:
            return final
        if present is not None:
            raise FileExistsError(f"'{folder.path / final}' is there and holds something else")
    hidden = f".{final}.new"
    with workfiles.replacement(folder, hidden) as descriptor:
        write_all(descriptor, compress(content))
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if decompress(os.pread(descriptor, os.fstat(descriptor).st_size, 0)) != content:
            raise BackupBad(f"'{folder.path / final}' does not read back as it was written")
        os.rename(hidden, final, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    os.fsync(folder.fd)
    return final
