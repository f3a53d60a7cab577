"""Base backups on disk: a directory for each, `base/<UTC>`, with gzipped tar archives and `base.json`, written last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from pgbackup import wal
from pgbackup.errors import IoFailed, SuiteError
from pgbackup.formats.cluster import backup_manifest
from pgbackup.formats.cluster.backup_manifest import MAIN
from pgbackup.store import folder, workfiles
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile
from pgbackup.store.wal.window import BaseBackup

RECORD = "base.json"
MANIFEST = backup_manifest.NAME
TAR = ".tar.gz"
_HIDDEN = ".new-"
_NAME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class BaseBackupRecord:
    """What base.json says. archives: name (`base`, or a tablespace's oid) to the SHA-256 of its file.

    start, stop: positions (LSN) as PostgreSQL writes them. parent: the base that an incremental one builds upon, or "".
    bytes: of all archives on disk. image: the full id of the database's image.
    proven: whether pg_verifybackup has seen it. settings: what the server had set that a recovery needs to know.
    missing: libraries that it loads and its image lacks.
    """

    system: int
    timeline: int
    start: str
    stop: str
    ended: datetime
    parent: str
    image: str
    major: int
    archives: dict[str, str]
    bytes: int
    proven: bool
    settings: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be of a base backup."""
        if wal.parse_lsn(self.stop) < wal.parse_lsn(self.start) or self.timeline < 1:
            raise ValueError("its positions make no sense")
        if MAIN not in self.archives or any("/" in name or name.startswith(".") for name in self.archives):
            raise ValueError("its archives are not valid")
        if self.bytes < 0 or self.image.startswith("-"):
            raise ValueError("its size or image is not valid")


@contextmanager
def fresh(base: Folder, token: str) -> Iterator[Folder]:
    """Make a hidden directory for a base backup; it is gone when the block is left, unless publish() has named it."""
    name = f"{_HIDDEN}{token}"
    try:
        with folder.opened(base.path / name, create=True) as place:
            yield place
    finally:
        shutil.rmtree(base.path / name, ignore_errors=True)


def unfinished(base: Folder) -> list[str]:
    """The names of what is being made or removed, or was when a run was killed."""
    return [name for name in base.list() if name.startswith(_HIDDEN)]


def sweep(base: Folder) -> list[str]:
    """Remove what killed runs have left; the lock is held. Return the names."""
    found = unfinished(base)
    for name in found:
        shutil.rmtree(base.path / name, ignore_errors=True)
    return found


def publish(base: Folder, place: Folder, record: BaseBackupRecord, started: datetime) -> str:
    """Write base.json, sync everything, and give the directory its name. Return it. Raise OSError."""
    statefile.write(place, RECORD, record)
    for entry in place.list():
        descriptor = place.open(entry)
        try:
            place.close_to_others(descriptor)
            os.fsync(descriptor)
            workfiles.forget(descriptor)
        finally:
            os.close(descriptor)
    place.sync()
    name = f"{started:{_NAME}}"
    if os.path.lexists(base.path / name):
        raise IoFailed(f"there is a base backup '{base.path / name}' already", "run it again")
    base.replace(place.path.name, name)
    base.sync()
    return name


def listing(base: Folder, segment_bytes: int) -> tuple[dict[str, tuple[BaseBackup, BaseBackupRecord]], dict[str, str]]:
    """Return the base backups by name, oldest first, and what is wrong with those that cannot be one."""
    found: dict[str, tuple[BaseBackup, BaseBackupRecord]] = {}
    wrong: dict[str, str] = {}
    for name in sorted(base.list()):
        if name.startswith("."):
            continue
        try:
            with folder.opened(base.path / name, create=False) as place:
                record = statefile.read(place, RECORD, BaseBackupRecord)
            if record is None:
                wrong[name] = f"it has no {RECORD}"
                continue
            begun = wal.segment_at(wal.parse_lsn(record.start), record.timeline, segment_bytes)
            found[name] = BaseBackup(name, begun, wal.parse_lsn(record.stop), record.ended, record.parent), record
        except (SuiteError, OSError) as error:
            if not os.path.lexists(base.path / name):
                continue  # it has expired just now
            wrong[name] = error.message if isinstance(error, SuiteError) else f"it cannot be read: {error.strerror}"
    return found, wrong


def remove(base: Folder, name: str) -> None:
    """Remove an expired base backup, in one step as far as others can see. Raise OSError."""
    hidden = f"{_HIDDEN}expired-{name}-{os.urandom(4).hex()}"  # what could not be removed before may be there
    base.replace(name, hidden)
    shutil.rmtree(base.path / hidden)
