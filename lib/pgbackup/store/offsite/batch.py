"""The spool of WAL and base backups: objects that go to a place together, encrypted once for all tries.

They lie below the spool's directory under their own names, as one start of rclone takes them. What a killed run left is
sent on if it was whole, and removed if it was not.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from pgbackup.descriptor import write_all
from pgbackup.errors import path_error
from pgbackup.store.folder import Folder
from pgbackup.store.offsite import spool
from pgbackup.store.state import statefile

_RECORD, _OBJECTS = "batch.json", "objects"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Waiting:
    """An object that is whole in the spool. name: at the place. plain_bytes: of what it was made from."""

    name: str
    bytes: int
    sha256: str
    md5: str
    plain_bytes: int


@dataclass(frozen=True)
class _Journal:
    """objects: name to size, SHA-256, MD5 and plain size, with blanks between."""

    objects: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError for what no batch says."""
        for _ in self.waiting():
            pass

    def waiting(self) -> Iterator[Waiting]:
        for name, told in self.objects.items():
            size, sha256, md5, plain_bytes = told.split(" ")
            if any(part in ("", ".", "..") for part in name.split("/")):
                raise ValueError("it has a name that leads elsewhere")
            yield Waiting(name, int(size), sha256, md5, int(plain_bytes))


def left(folder: Folder) -> list[Waiting]:
    """The batch that an earlier run left whole; where it is not, all that is in the spool is removed."""
    with suppress(statefile.Unreadable, OSError):
        held = statefile.read(folder, _RECORD, _Journal)
        waiting = list(held.waiting()) if held else []
        if waiting and all(_is_whole(folder, one) for one in waiting):
            return waiting
    clear(folder)
    return []


def _is_whole(folder: Folder, one: Waiting) -> bool:
    path = directory(folder) / one.name
    return path.stat().st_size == one.bytes and digest(folder, one.name, "sha256") == one.sha256


def add(folder: Folder, name: str, plain_bytes: int, write: Callable[[BinaryIO], None]) -> Waiting:
    """Make one more object: `write` puts its bytes into a file. It counts when journal() has named it.

    plain_bytes: about. Raise IoFailed where there is no room for it beside the next backup, and what `write` raises.
    """
    spool.require_room(folder, name, plain_bytes)
    path = directory(folder) / name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            folder.adopt(descriptor)
            hashed = _Hashed(descriptor)
            write(cast("BinaryIO", hashed))  # it has all of a file that a writer needs
            os.fsync(descriptor)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise path_error(error, folder.path) from None
    return Waiting(name, hashed.bytes, hashed.sha256.hexdigest(), hashed.md5.hexdigest(), plain_bytes)


def journal(folder: Folder, batch: Sequence[Waiting]) -> None:
    """Note on disk what is to be sent: from here on it is sent with these bytes or not at all. Raise IoFailed."""
    held = {one.name: f"{one.bytes} {one.sha256} {one.md5} {one.plain_bytes}" for one in batch}
    try:
        statefile.write(folder, _RECORD, _Journal(held))
    except OSError as error:
        raise path_error(error, folder.path) from None


def directory(folder: Folder) -> Path:
    """What the names of the objects are below."""
    return folder.path / _OBJECTS


def digest(folder: Folder, name: str, kind: str) -> str:
    """The hash of an object in the spool, in hexadecimal. Raise OSError."""
    made = hashlib.new(kind, usedforsecurity=False)
    with (directory(folder) / name).open("rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            made.update(piece)
    return made.hexdigest()


def clear(folder: Folder) -> None:
    """Remove what is in the spool; its directory is private, and nothing else is kept there."""
    with suppress(FileNotFoundError):
        folder.remove(_RECORD)  # first: what is left of a batch is none
    shutil.rmtree(directory(folder), ignore_errors=True)


class _Hashed:
    """A file that counts and hashes what is written into it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.sha256, self.md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self.bytes = 0

    def write(self, data: bytes) -> int:
        self.bytes += len(data)
        self.sha256.update(data)
        self.md5.update(data)
        write_all(self._descriptor, data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""
