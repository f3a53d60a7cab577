"""The tar archives of a base backup: written, read back, and compared with PostgreSQL's manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from pgbackup.descriptor import write_all
from pgbackup.errors import BackupBad
from pgbackup.formats.cluster.backup_manifest import BaseManifest, Contents
from pgbackup.formats.gzipped import GZIP, LEVEL, deflate, inflated
from pgbackup.store import workfiles
from pgbackup.store.folder import Folder
from pgbackup.store.wal import segments
from pgbackup.store.wal.base_backups import MANIFEST, RECORD, TAR, BaseBackupRecord

_READ_BYTES = 256 << 10
_WAITING_BYTES = 16 << 20  # in memory only, until they are sent to the disk


def write(descriptor: int, pieces: Iterable[bytes]) -> str:
    """Compress a tar archive as it comes into an open file, sync it, and return the file's SHA-256. Raise OSError.

    It goes to the disk as it is written, and is read from there next time.
    """
    digest, compressor, waiting = hashlib.sha256(), deflate.compressobj(LEVEL, deflate.DEFLATED, GZIP), 0

    with ThreadPoolExecutor(1, "hash") as aside:
        for piece in chain(pieces, [None]):
            data = bytes(compressor.flush() if piece is None else compressor.compress(piece))
            hashing = aside.submit(digest.update, data)
            write_all(descriptor, data)
            hashing.result()
            waiting += len(data)
            if waiting >= _WAITING_BYTES:
                workfiles.forget(descriptor)
                waiting = 0
    os.fsync(descriptor)
    workfiles.forget(descriptor)
    return digest.hexdigest()


def pieces(
    place: Folder, archive: str, sha256: str, advance: Callable[[int], None] = lambda _bytes: None
) -> Iterator[bytes]:
    """Yield a tar archive in pieces of at most 1 MiB. sha256: of its file. advance: takes bytes of the file read.

    Raise BackupBad, at the latest at its end, if it is damaged, unreadable or not the one that was written.
    """
    name = archive + TAR
    try:
        descriptor = place.open(name)
    except FileNotFoundError:
        raise BackupBad(f"its archive '{name}' is not there") from None
    except OSError as error:
        raise _unreadable(f"its archive '{name}'", error) from None
    digest = hashlib.sha256()

    def blocks(aside: ThreadPoolExecutor) -> Iterator[bytes]:
        while data := _read(descriptor):
            hashing = aside.submit(digest.update, data)
            advance(len(data))
            yield data
            hashing.result()

    try:
        with ThreadPoolExecutor(1, "hash") as aside:
            yield from inflated(blocks(aside))
    except BackupBad as bad:
        raise BackupBad(f"its archive '{name}' is bad: {bad.message}") from None
    finally:
        os.close(descriptor)
    if digest.hexdigest() != sha256:
        raise BackupBad(f"its archive '{name}' is not the one that was written (SHA-256 differs)")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _READ_BYTES)
    except OSError as error:
        raise _unreadable("it", error) from None


def _unreadable(what: str, error: OSError) -> BackupBad:
    return BackupBad(f"{what} cannot be read: {error.strerror}")


def size(place: Folder, archives: Iterable[str]) -> int:
    """How large the files of those archives are together."""
    return sum(place.status(name + TAR).st_size for name in archives)


def digest_of(place: Folder, archive: str) -> str:
    """The SHA-256 of an archive's file that another program has written, and synced. It is read anew next time."""
    descriptor = place.open(archive + TAR)
    with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor, not a path
        digest = hashlib.sha256()
        while data := file.read(_READ_BYTES):
            digest.update(data)
        workfiles.forget(descriptor)
        return digest.hexdigest()


def manifest_text(place: Folder) -> bytes:
    """PostgreSQL's manifest as it lies beside the archives. Raise BackupBad where it does not."""
    try:
        found = segments.read(place, MANIFEST)
    except OSError as error:
        raise _unreadable(f"its {MANIFEST}", error) from None
    if found is None:
        raise BackupBad(f"it has no {MANIFEST}")
    return found


def check(place: Folder, record: BaseBackupRecord, advance: Callable[[int], None]) -> BaseManifest:
    """Read all archives to their last byte and compare them with PostgreSQL's manifest. Raise BackupBad or OSError."""
    contents, beside = Contents(), manifest_text(place)
    for archive, sha256 in record.archives.items():
        contents.add(archive, pieces(place, archive, sha256, advance))
    if contents.manifest_text not in (b"", beside):
        raise BackupBad(f"its {MANIFEST} is not the one in its archive")
    contents.manifest_text = beside
    found = contents.compare()
    if (found.start, found.stop, found.timeline) != (record.start, record.stop, record.timeline):
        raise BackupBad(f"'{RECORD}' has other positions than its {MANIFEST}")
    return found
