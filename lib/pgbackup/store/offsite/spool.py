"""The spool: the one object that is on its way to a place, encrypted once, so that each try sends the same bytes.

There is room in it for one object. Its hashes are on disk before it is sent; its bytes need not be: after a power cut
the hashes tell whether it has arrived. What a killed run left is sent on if it is whole, and removed if it is not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from pgbackup.errors import IoFailed, path_error
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile

_OBJECT, _RECORD = "object", "object.json"
_PIECE_BYTES = 1 << 20
_TIMES_ITS_SIZE = 2.5  # free: for itself, and for what tonight's backup asks for


@dataclass(frozen=True)
class Spooled:
    """An object that is whole in the spool. name: at the place. told: the hash that the place tells, by its kind.

    plain_bytes: of the file that it was made from.
    """

    name: str
    bytes: int
    sha256: str
    told: dict[str, str]
    plain_bytes: int

    @property
    def hashes(self) -> dict[str, str]:
        return {"sha256": self.sha256, **self.told}


def left(folder: Folder) -> tuple[Spooled, bool] | None:
    """The object that an earlier run was to send, and whether its bytes are all here; None where there is none."""
    try:
        held = statefile.read(folder, _RECORD, Spooled)
    except statefile.Unreadable:
        held = None
    if held is None:
        clear(folder)
        return None
    try:
        return held, folder.status(_OBJECT).st_size == held.bytes and _sha256(folder) == held.sha256
    except OSError:
        return held, False


def fill(folder: Folder, name: str, plain_bytes: int, write: Callable[[BinaryIO], None], kind: str = "") -> Spooled:
    """Make the object `name`: `write` puts its bytes into a file. Its hashes are on disk before this returns.

    kind: of the hash that the place tells, beside the SHA-256; "" for none.
    Raise IoFailed where there is no room for it beside the next backup, and whatever `write` raises.
    """
    clear(folder)
    require_room(folder, name, plain_bytes)
    try:
        descriptor = folder.create(_OBJECT)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123  a descriptor, not a path
            folder.adopt(descriptor)
            folder.close_to_others(descriptor)
            kinds = dict.fromkeys(["sha256", *([kind] if kind else [])])
            with ThreadPoolExecutor(len(kinds)) as pool:
                hashed = _Hashed(file, pool, kinds)
                write(cast("BinaryIO", hashed))  # it has all of a file that a writer needs
                told = hashed.digests()
        made = Spooled(name, hashed.bytes, told.pop("sha256"), told, plain_bytes)
        statefile.write(folder, _RECORD, made)
    except OSError as error:
        clear(folder)
        raise path_error(error, folder.path) from None
    except BaseException:
        clear(folder)
        raise
    return made


def require_room(folder: Folder, name: str, plain_bytes: int) -> None:
    """Raise IoFailed where there is no room for an object of about that size beside the next backup."""
    free = os.fstatvfs(folder.fd)
    if free.f_bavail * free.f_frsize < _TIMES_ITS_SIZE * plain_bytes:
        raise IoFailed(
            f"there is no room for '{name}' on its way, beside the next backup, in '{folder.path}'",
            f"df -h '{folder.path}'",
        )


def path(folder: Folder) -> Path:
    """Where the object lies."""
    return folder.path / _OBJECT


def _sha256(folder: Folder) -> str:
    made = hashlib.sha256()
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

    def __init__(self, file: Any, pool: ThreadPoolExecutor, kinds: Iterable[str]) -> None:
        self._file, self._pool = file, pool
        self._hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
        self._hashing: list[Future[None]] = []
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self.bytes = 0

    def write(self, data: bytes) -> int:
        self.bytes += len(data)
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes >= _PIECE_BYTES:
            self._hand_over()
        return len(data)

    def flush(self) -> None:
        """Nothing has to be on disk before digests()."""

    def digests(self) -> dict[str, str]:
        """Write what is left, and return the hashes of all, by their kind."""
        self._hand_over()
        self._wait()
        return {kind: made.hexdigest() for kind, made in self._hashes.items()}

    def _hand_over(self) -> None:
        piece = b"".join(self._gathered)
        self._gathered, self._gathered_bytes = [], 0
        self._wait()
        self._hashing = [self._pool.submit(made.update, piece) for made in self._hashes.values()]
        view = memoryview(piece)
        while view:
            view = view[self._file.write(view) :]

    def _wait(self) -> None:
        for one in self._hashing:
            one.result()
