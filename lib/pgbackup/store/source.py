"""The file that a restore reads: found by what the operator typed, opened once, recognised, or read to its end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pgbackup.errors import BackupBad, NoBackup, PermissionDenied, SuiteError
from pgbackup.formats import dumpfile, foreign, manifest, names
from pgbackup.store import catalog, folder
from pgbackup.store.folder import Folder


@dataclass(frozen=True)
class Source:
    """An open backup file. path: where it was found; database: whose it is by manifest or name, None if unknown.

    name: what it is called where people read of it. contents: what it holds, where that was seen as it was written;
    refused: why it would be refused then.
    """

    path: Path
    descriptor: int
    database: str | None
    manifest: manifest.Manifest | None
    name: str
    contents: dumpfile.Contents | None = None
    refused: BackupBad | None = None


def find(typed: str, directory: Path, database: str) -> Path:
    """Given FILE as typed, return the path to open.

    A bare name is looked for in the database's directory first, then here. `<database>_LATEST.sql.gz` is followed
    to the file beside it that it names, and is the newest good one there where it does not exist; no other link is.
    Raise NoBackup, with the way to the list.
    """
    path = Path(typed)
    is_latest = typed == names.latest(database) and not os.path.lexists(path)
    if "/" not in typed and (is_latest or os.path.lexists(directory / typed)):
        path = directory / typed
    if path.name == names.latest(database):
        path = path.parent / path.readlink().name if path.is_symlink() else _newest(path, database)
    if not os.path.lexists(path):
        raise NoBackup(f"there is no file '{path}'", "see what there is: restore-postgres.sh TARGET --list")
    return path


def _newest(latest: Path, database: str) -> Path:
    """The newest good backup where nothing lies under the name of the link to it: not all file systems have links."""
    if not os.path.lexists(latest):
        with suppress(SuiteError), folder.opened(latest.parent, create=False) as place:
            if found := catalog.last_good(place, database):
                return latest.parent / found.name
    return latest


@contextmanager
def found(typed: str, directory: Path, database: str) -> Iterator[Source]:
    """Give the file that was typed, for the length of the block. Raise what find() and opened() raise."""
    with reading(find(typed, directory, database), database) as source:
        yield source


@contextmanager
def reading(path: Path, database: str) -> Iterator[Source]:
    """Give the file at that path, for the length of the block. Raise what opened() raises."""
    source = opened(path, database)
    try:
        yield source
    finally:
        os.close(source.descriptor)


def opened(path: Path, database: str, name: str = "") -> Source:
    """Open it for reading, once: everything afterwards goes through this descriptor. The caller closes it.

    name: what it is called, where that is not its path.

    Raise BackupBad for what is no regular file or its manifest is damaged, PermissionDenied, NoBackup.
    """
    called = name or str(path)
    try:
        if path.is_symlink():
            raise BackupBad(f"'{called}' is a symbolic link", f"name the file itself: {path.readlink()}")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise PermissionDenied(f"may not read '{called}': {error.strerror}", "run it with sudo") from None
    except OSError as error:
        raise NoBackup(f"cannot open '{called}': {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise BackupBad(f"'{called}' is not a regular file")
        if other := _other_kind(path, descriptor, status, database):
            raise BackupBad(f"'{called}' {other[0]}", other[1])
        try:
            found = manifest.read(descriptor, status.st_size)
        except BackupBad as bad:
            raise BackupBad(f"'{called}' is bad: {bad.message}", "take an older one: --list") from None
        held = found[0] if found else None
        named = database if names.parse(database, path.name) else None
        return Source(path, descriptor, held.database if held else named, held, called)
    except BaseException:
        os.close(descriptor)
        raise


def _other_kind(path: Path, descriptor: int, status: os.stat_result, database: str) -> tuple[str, str] | None:
    """What it is and what to do with it, unless it is a compressed plain dump of one database."""
    changed = datetime.fromtimestamp(status.st_mtime, timezone.utc)
    if stat.S_ISDIR(status.st_mode):
        return foreign.of_directory((path / "toc.dat").exists(), str(path), database, changed)
    return foreign.told(os.pread(descriptor, foreign.PEEK_BYTES, 0), str(path), database, changed)


def read_through(place: Folder, name: str) -> dumpfile.Contents:
    """Read a backup to its last byte and return what it holds. Raise as open_file() and dumpfile.check() do."""
    descriptor = catalog.open_file(place, name)
    try:
        return dumpfile.check(descriptor)
    finally:
        os.close(descriptor)
