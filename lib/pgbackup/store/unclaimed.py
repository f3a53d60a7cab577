"""Backups that lie in BACKUP_DIR and are of no database in DATABASES: what is left to see when `.env` is lost."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from pgbackup.errors import BackupBad, SuiteError
from pgbackup.formats import manifest, names
from pgbackup.store import catalog, folder
from pgbackup.store.folder import Folder


@dataclass(frozen=True)
class Unclaimed:
    """The backups of one database in one directory. newest: a file name; target, container: as its manifest says."""

    directory: str
    database: str
    files: int
    newest: str
    target: str = ""
    container: str = ""


def find(top: Folder, claimed: Iterable[tuple[str, str]]) -> list[Unclaimed]:
    """Return what no pair of directory and database in `claimed` accounts for. What cannot be read is passed over."""
    known = set(claimed)
    found = []
    for directory in sorted(top.list()):
        with suppress(SuiteError, OSError), folder.opened(top.path / directory, create=False) as place:
            found += _in(place, directory, [database for where, database in known if where == directory])
    return found


def _in(place: Folder, directory: str, databases: list[str]) -> list[Unclaimed]:
    files: dict[str, list[str]] = {}
    for name in place.list():
        database = names.database_in(name)
        if database is not None and not any(names.parse(own, name) for own in databases):
            files.setdefault(database, []).append(name)
    return [_described(place, directory, database, sorted(some)) for database, some in sorted(files.items())]


def _described(place: Folder, directory: str, database: str, files: list[str]) -> Unclaimed:
    newest = max(files, key=lambda name: name[-len("YYYYmmdd_HHMMSS.sql.gz") :])
    said = {}
    with suppress(BackupBad, OSError):
        descriptor = catalog.open_file(place, newest)
        try:
            held = manifest.read(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        said = held[0].raw if held else {}
    target, container = (str(said.get(key, "")) for key in ("target", "container"))
    return Unclaimed(directory, database, len(files), newest, target, container)
