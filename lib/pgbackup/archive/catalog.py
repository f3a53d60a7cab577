"""Which backups of a database lie in a directory, from their names and manifests. Nothing is decompressed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import datetime

from pgbackup.archive import dumpfile, manifest, names
from pgbackup.archive.folder import Folder, explained
from pgbackup.errors import BackupBad, IoFailed


@dataclass(frozen=True)
class Backup:
    """One backup file. taken: an instant in UTC; manual: made by hand under a `_manual_` name; bytes: of the file.

    manifest: None without one. problem: what can be seen to be wrong without reading it through, or "".
    """

    name: str
    taken: datetime
    manual: bool
    bytes: int
    manifest: manifest.Manifest | None
    problem: str


def listing(folder: Folder, database: str) -> list[Backup]:
    """Return the backups of exactly this database, newest first. Other files are passed over in silence.

    A file whose manifest names another database is not one of them. Raise IoFailed when the directory cannot
    be read.
    """
    try:
        entries = os.listdir(folder.fd)
    except OSError as error:
        raise IoFailed(f"cannot list '{folder.path}': {error.strerror}") from None
    found = [_look(folder, database, name) for name in entries]
    return sorted((backup for backup in found if backup), key=lambda backup: (backup.taken, backup.name), reverse=True)


def _look(folder: Folder, database: str, name: str) -> Backup | None:
    said = names.parse(database, name)
    if said is None:
        return None
    try:
        descriptor = open_file(folder, name)
    except BackupBad as bad:
        return Backup(name, said.taken, said.manual, 0, None, bad.message)
    except FileNotFoundError:
        return None  # removed in this moment
    except PermissionError as error:
        raise explained(error, folder.path / name) from None
    except OSError as error:
        return Backup(name, said.taken, said.manual, 0, None, f"it cannot be opened: {error.strerror}")
    try:
        return _from_end(descriptor, database, name, said)
    finally:
        os.close(descriptor)


def _from_end(descriptor: int, database: str, name: str, said: names.Named) -> Backup | None:
    size = os.fstat(descriptor).st_size
    try:
        found = manifest.read(descriptor, size)
    except BackupBad as bad:
        return Backup(name, said.taken, said.manual, size, None, bad.message)
    except OSError as error:
        return Backup(name, said.taken, said.manual, size, None, f"it cannot be read: {error.strerror}")
    if not found:
        cut = size == 0 or dumpfile.promises_manifest(descriptor)
        problem = "it is empty" if size == 0 else "it is cut off: its manifest is missing" if cut else ""
        return Backup(name, said.taken, said.manual, size, None, problem)
    held, member_bytes = found
    if held.database != database:
        return None
    problem = "" if held.gzip_bytes + member_bytes == size else "it is not as long as its manifest says"
    return Backup(name, held.started, said.manual, size, held, problem)


def open_file(folder: Folder, name: str) -> int:
    """Open a backup for reading: never through a link, never a FIFO or device. Raise BackupBad or OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if stat.S_ISLNK(os.lstat(name, dir_fd=folder.fd).st_mode):
        raise BackupBad("it is a symbolic link, not a file")
    descriptor = os.open(name, flags, dir_fd=folder.fd)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BackupBad("it is not a regular file")
    return descriptor
