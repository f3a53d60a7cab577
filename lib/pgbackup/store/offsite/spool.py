"""The spool: the one object that is on its way to a place, encrypted once, so that each try sends the same bytes.

There is room in it for one object. What a killed run left is sent on if it is whole, and removed if it is not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from pgbackup.errors import IoFailed, path_error
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile

_OBJECT, _RECORD = "object", "object.json"
_KINDS = ("sha256", "md5")
_PIECE_BYTES = 1 << 20
_TIMES_ITS_SIZE = 2.5  # free: for itself, and for what tonight's backup asks for


@dataclass(frozen=True)
class Spooled:
    """An object that is whole in the spool. name: at the place. md5: what most places tell.

    plain_bytes: of the file that it was made from.
    """

    name: str
    bytes: int
    sha256: str
    md5: str
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
            with ThreadPoolExecutor(len(_KINDS)) as pool:
                hashed = _Hashed(file, pool)
                write(cast("BinaryIO", hashed))  # it has all of a file that a writer needs
                digests = hashed.digests()
            os.fsync(descriptor)
        made = Spooled(name, hashed.bytes, *digests, plain_bytes=plain_bytes)
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
    """A file that counts and hashes what is written into it: each hash in a thread of its own, beside the writing."""

    def __init__(self, file: Any, pool: ThreadPoolExecutor) -> None:
        self._file, self._pool = file, pool
        self._hashes = [hashlib.new(kind, usedforsecurity=False) for kind in _KINDS]
        self._hashing: list[Future[None]] = []
        self._gathered = bytearray()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        self.bytes += len(data)
        self._gathered += data
        if len(self._gathered) >= _PIECE_BYTES:
            self._hand_over()
        return len(data)

    def flush(self) -> None:
        """Nothing has to be on disk before digests()."""

    def digests(self) -> tuple[str, str]:
        """Write what is left, and return SHA-256 and MD5 of all."""
        self._hand_over()
        self._wait()
        sha256, md5 = (made.hexdigest() for made in self._hashes)
        return sha256, md5

    def _hand_over(self) -> None:
        piece, self._gathered = bytes(self._gathered), bytearray()
        self._wait()
        self._hashing = [self._pool.submit(made.update, piece) for made in self._hashes]
        view = memoryview(piece)
        while view:
            view = view[self._file.write(view) :]

    def _wait(self) -> None:
        for one in self._hashing:
            one.result()
