"""The spool: the one object that is on its way to a place, encrypted once, so that each try sends the same bytes.

There is room in it for one object. What a killed run left is sent on if it is whole, and removed if it is not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from pgbackup.errors import IoFailed, path_error
from pgbackup.store import statefile
from pgbackup.store.folder import Folder

_OBJECT, _RECORD = "object", "object.json"
_PIECE_BYTES = 1 << 20
_TIMES_ITS_SIZE = 2.5  # free: for itself, and for what tonight's backup asks for


@dataclass(frozen=True)
class Spooled:
    """An object that is whole in the spool. name: at the place. plain_bytes: of the file that it was made from."""

    name: str
    bytes: int
    sha256: str
    plain_bytes: int


def left(folder: Folder) -> Spooled | None:
    """The object that an earlier run left whole, None where there is none; all else in the spool is removed."""
    try:
        held = statefile.read(folder, _RECORD, Spooled)
        if held and folder.status(_OBJECT).st_size == held.bytes and digest(folder, "sha256") == held.sha256:
            return held
    except (statefile.Unreadable, OSError):
        pass
    clear(folder)
    return None


def fill(folder: Folder, name: str, plain_bytes: int, write: Callable[[BinaryIO], None]) -> Spooled:
    """Make the object `name`: `write` puts its bytes into a file. Its hash is on disk before this returns.

    Raise IoFailed where there is no room for it beside the next backup, and whatever `write` raises.
    """
    clear(folder)
    free = os.fstatvfs(folder.fd)
    if free.f_bavail * free.f_frsize < _TIMES_ITS_SIZE * plain_bytes:
        raise IoFailed(
            f"there is no room for '{name}' on its way, beside the next backup, in '{folder.path}'",
            f"df -h '{folder.path}'",
        )
    try:
        descriptor = folder.create(_OBJECT)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123  a descriptor, not a path
            folder.adopt(descriptor)
            folder.close_to_others(descriptor)
            hashed = _Hashed(file)
            write(cast("BinaryIO", hashed))  # it has all of a file that a writer needs
            os.fsync(descriptor)
        made = Spooled(name, hashed.bytes, hashed.sha256.hexdigest(), plain_bytes)
        statefile.write(folder, _RECORD, made)
    except OSError as error:
        clear(folder)
        raise path_error(error, folder.path) from None
    except BaseException:
        clear(folder)
        raise
    return made


def path(folder: Folder) -> Path:
    """Where the object lies."""
    return folder.path / _OBJECT


def digest(folder: Folder, kind: str) -> str:
    """The hash of the object in the spool, in hexadecimal. Raise OSError."""
    made = hashlib.new(kind, usedforsecurity=False)
    with open(folder.open(_OBJECT), "rb", buffering=0) as file:  # noqa: PTH123  a descriptor, not a path
        while piece := file.read(_PIECE_BYTES):
            made.update(piece)
    return made.hexdigest()


def clear(folder: Folder) -> None:
    """Remove what is in the spool; its directory is private, and nothing else is kept there."""
    for name in folder.list():
        with suppress(FileNotFoundError):
            folder.remove(name)


class _Hashed:
    """A file that counts and hashes what is written into it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        self.sha256.update(view)
        self.bytes += len(view)
        while view:
            view = view[self._file.write(view) :]
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""
