"""Which backups of a database lie in a directory, from their names and manifests. Nothing is decompressed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pgbackup.errors import BackupBad, IoFailed
from pgbackup.formats import manifest, names
from pgbackup.store.folder import Folder


@dataclass(frozen=True)
class Backup:
    """One backup file. taken: an instant in UTC; manual: made by hand under a `_manual_` name; bytes: of the file.

    manifest: without its rows, content and raw, which would add up; None without one. problem: what can be seen to be
    wrong without reading it through, or "". denied: this user may not read it, and that is its problem. rows: of all
    tables; seconds: how long the dump took; 0 without a manifest.
    """

    name: str
    taken: datetime
    manual: bool
    bytes: int
    manifest: manifest.Manifest | None
    problem: str
    denied: bool = False
    rows: int = 0
    seconds: float = 0.0

    @property
    def sha256(self) -> str:
        """The SHA-256 of its dump, as its manifest has it; "" without one."""
        return self.manifest.sha256 if self.manifest else ""


def listing(folder: Folder, database: str, *, strangers: bool = False) -> list[Backup]:
    """Return the backups of exactly this database, newest first. Other files are passed over in silence.

    What is no regular file, or names another database in its manifest, is not one of them, whatever its own name
    is. strangers: list these too, with that as their problem. Raise IoFailed when the directory cannot be read.
    """
    found = [_look(folder, database, name, strangers) for name in _entries(folder)]
    return sorted((backup for backup in found if backup), key=lambda backup: (backup.taken, backup.name), reverse=True)


def last_good(folder: Folder, database: str) -> Backup | None:
    """Return the newest backup, by name, whose manifest fits its file; the others are not looked at."""
    for name in sorted(_entries(folder), reverse=True):
        found = _look(folder, database, name, strangers=False)
        if found and found.manifest and not found.problem and not found.manual:
            return found
    return None


def one(folder: Folder, database: str, name: str) -> Backup | None:
    """Return the backup of that name, None where there is none of this database."""
    return _look(folder, database, name, strangers=False)


def _entries(folder: Folder) -> Sequence[str]:
    try:
        return folder.list()
    except OSError as error:
        raise IoFailed(f"cannot list '{folder.path}': {error.strerror}") from None


def _look(folder: Folder, database: str, name: str, strangers: bool) -> Backup | None:
    said = names.parse(database, name)
    if said is None:
        return None
    try:
        descriptor = open_file(folder, name)
    except BackupBad as bad:
        return Backup(name, said.taken, said.manual, 0, None, bad.message) if strangers else None
    except FileNotFoundError:
        return None  # removed in this moment
    except PermissionError:
        # A file of root's, made by hand, must not keep tonight's backup from being made.
        return Backup(name, said.taken, said.manual, 0, None, "this user may not read it", denied=True)
    except OSError as error:
        return Backup(name, said.taken, said.manual, 0, None, f"it cannot be opened: {error.strerror}")
    try:
        found = _from_end(descriptor, name, said)
    finally:
        os.close(descriptor)
    if found.manifest is None or found.manifest.database == database:
        return found
    # What app_manual's own backups are called looks made by hand to app.
    others_own = said.manual and found.manifest.database == f"{database}_manual"
    problem = f"its manifest says that it is of the database {found.manifest.database!r}"
    return replace(found, problem=problem) if strangers and not others_own else None


def _from_end(descriptor: int, name: str, said: names.Named) -> Backup:
    size = os.fstat(descriptor).st_size
    try:
        found = manifest.read(descriptor, size)
    except BackupBad as bad:
        return Backup(name, said.taken, said.manual, size, None, bad.message)
    except OSError as error:
        return Backup(name, said.taken, said.manual, size, None, f"it cannot be read: {error.strerror}")
    if not found:
        cut = size == 0 or manifest.is_promised(descriptor)
        problem = "it is empty" if size == 0 else "it is cut off: its manifest is missing" if cut else ""
        return Backup(name, said.taken, said.manual, size, None, problem)
    held, member_bytes = found
    rows, seconds = sum(held.rows.values()), _seconds(held)
    held = replace(held, rows={}, content={}, raw={})
    problem = "" if held.gzip_bytes + member_bytes == size else "it is not as long as its manifest says"
    return Backup(name, held.started, said.manual, size, held, problem, rows=rows, seconds=seconds)


def _seconds(held: manifest.Manifest) -> float:
    try:
        ended = datetime.fromisoformat(str(held.raw.get("ended")).removesuffix("Z") + "+00:00")
        return max(0.0, (ended - held.started).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def open_file(folder: Folder, name: str) -> int:
    """Open a backup for reading: never through a link, never a FIFO or device. Raise BackupBad or OSError."""
    try:
        descriptor = folder.open(name)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BackupBad("it is a symbolic link, not a file") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BackupBad("it is not a regular file")
    return descriptor
