"""The file that a restore reads: found by what the operator typed, opened once, recognised."""

from __future__ import annotations

import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path

from pgbackup.archive import manifest, names
from pgbackup.errors import BackupBad, NoBackup, PermissionDenied

_PEEK_BYTES = 64 << 10


@dataclass(frozen=True)
class Source:
    """An open backup file. path: where it was found; database: whose it is by manifest or name, None if unknown.

    name: what it is called where people read of it.
    """

    path: Path
    descriptor: int
    database: str | None
    manifest: manifest.Manifest | None
    name: str


def find(typed: str, directory: Path, database: str) -> Path:
    """Given FILE as typed, return the path to open.

    A bare name is looked for in the database's directory first, then here. `<database>_LATEST.sql.gz` is followed
    to the file beside it that it names; no other link is. Raise NoBackup, with the way to the list.
    """
    path = Path(typed)
    if "/" not in typed and os.path.lexists(directory / typed):
        path = directory / typed
    if path.name == names.latest(database) and path.is_symlink():
        path = path.parent / path.readlink().name
    if not os.path.lexists(path):
        raise NoBackup(f"there is no file '{path}'", "see what there is: restore-postgres.sh TARGET --list")
    return path


def opened(path: Path, database: str, name: str = "") -> Source:
    """Open it for reading, once: everything afterwards goes through this descriptor. The caller closes it.

    name: what it is called, where that is not its path.

    Raise BackupBad for what is no regular file or its manifest is damaged, PermissionDenied, NoBackup.
    """
    try:
        if path.is_symlink():
            raise BackupBad(f"'{path}' is a symbolic link", f"name the file itself: {path.readlink()}")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise PermissionDenied(f"may not read '{path}': {error.strerror}", "run it with sudo") from None
    except OSError as error:
        raise NoBackup(f"cannot open '{path}': {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise BackupBad(f"'{path}' is {kind}", _PG_RESTORE if kind == "a directory" else None)
        _refuse_other_kinds(path, descriptor)
        try:
            found = manifest.read(descriptor, status.st_size)
        except BackupBad as bad:
            raise BackupBad(f"'{path}' is bad: {bad.message}", "take an older one: --list") from None
        held = found[0] if found else None
        named = database if names.parse(database, path.name) else None
        return Source(path, descriptor, held.database if held else named, held, name or str(path))
    except BaseException:
        os.close(descriptor)
        raise


_PG_RESTORE = "a dump in custom, directory or tar format is restored with pg_restore, not with this command"


def _refuse_other_kinds(path: Path, descriptor: int) -> None:
    """Say what the file is when it is not a compressed plain dump."""
    head = os.pread(descriptor, _PEEK_BYTES, 0)
    if not head:
        raise BackupBad(f"'{path}' is empty", "take another one: --list")
    if head[:5] == b"PGDMP":
        raise BackupBad(f"'{path}' is a dump in pg_dump's custom format", _PG_RESTORE)
    if head[:2] != b"\x1f\x8b":
        hint = f"compress it first: gzip -k '{path}'" if head[:3] in (b"--\n", b"--\r") else "take another one: --list"
        raise BackupBad(f"'{path}' is not compressed with gzip", hint)
    try:
        text = zlib.decompressobj(wbits=31).decompress(head, _PEEK_BYTES)
    except zlib.error:
        raise BackupBad(f"'{path}' is damaged at its beginning", "take another one: --list") from None
    if text[:5] == b"PGDMP" or text[257:262] == b"ustar":
        raise BackupBad(f"'{path}' holds a dump in custom or tar format", _PG_RESTORE)
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        hint = f"gunzip -c '{path}' | iconv -f UTF-16 -t UTF-8 | gzip > converted.sql.gz"
        raise BackupBad(f"'{path}' holds UTF-16 text, which psql cannot read", hint)
