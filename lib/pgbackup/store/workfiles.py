"""A run's own hidden files beside the backups, and the sweeping of those that a killed run left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pgbackup.descriptor import write_all
from pgbackup.store.folder import Folder

LOOKING = "look"  # what the owners begin with that hold no database's lock
_PREFIX = ".pgbackup-"
_PARTIAL = ".partial"
_PIPES = ".pipes"
_LINK = ".link"
_FETCHED = ".fetched"


def link_name(owner: str, token: str) -> str:
    """The name under which a link is made before it replaces another one."""
    return f"{_PREFIX}{owner}-{token}{_LINK}"


@contextmanager
def partial(folder: Folder, owner: str, token: str) -> Iterator[tuple[str, int]]:
    """Make the file that a dump is written to; give its name and descriptor; it is gone when the block is left.

    owner: the same for every run of one database here; token: this run's own. Mode 0600, whatever the umask.
    Raise OSError as the system does.
    """
    name = f"{_PREFIX}{owner}-{token}{_PARTIAL}"
    descriptor = _held(folder, name)
    try:
        folder.close_to_others(descriptor)
        folder.adopt(descriptor)
        yield name, descriptor
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            folder.remove(name)


def _held(folder: Folder, name: str) -> int:
    """Make a file and lock it, which tells a sweep that this run is alive; again where one came in between."""
    while True:
        descriptor = folder.create(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BaseException:
            os.close(descriptor)
            folder.remove(name)
            raise
        os.close(descriptor)


def forget(descriptor: int) -> None:
    """Wish that what is read next comes from the disk and not from memory; some file systems know no wishes."""
    with suppress(OSError):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def made(folder: Folder, name: str) -> Iterator[int]:
    """Make a file that was not there, mode 0600, and give its descriptor for the length of the block."""
    descriptor = folder.create(name)
    try:
        folder.adopt(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def replacement(folder: Folder, hidden: str) -> Iterator[int]:
    """Make a file that is to replace another one, and give its descriptor; it is gone when the block is left.

    hidden: its name until then, always the same, so that what a killed run left there makes way. Mode 0600.
    """
    with suppress(FileNotFoundError):
        folder.remove(hidden)
    try:
        with made(folder, hidden) as descriptor:
            yield descriptor
    finally:
        with suppress(FileNotFoundError):
            folder.remove(hidden)


def replacing(name: str) -> str:
    """The name of what is to become the file `name` by write()."""
    return f"{'' if name.startswith('.') else '.'}{name}.new"


def write(folder: Folder, name: str, data: bytes, *, mode: int = 0o600, lasting: bool = True) -> None:
    """Replace a file in one step and sync it; its only writer holds a lock. mode: whatever the umask. Raise OSError.

    lasting: its new name outlives a power cut, too; else there may be the old file again, whole.
    """
    hidden = replacing(name)
    with replacement(folder, hidden) as descriptor:
        write_all(descriptor, data)
        if mode != 0o600:
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
        folder.replace(hidden, name)
    if lasting:
        folder.sync()


@contextmanager
def pipes(folder: Folder, owner: str) -> Iterator[Path]:
    """Make a directory for the sidecar's FIFOs and give its path; it is gone when the block is left.

    It lies here because this place is the same for us and for the Docker daemon; a service's /tmp is not.
    """
    name = f"{_PREFIX}{owner}-{os.urandom(8).hex()}{_PIPES}"
    os.mkdir(name, 0o700, dir_fd=folder.fd)
    try:
        yield folder.path / name
    finally:
        _remove_directory(folder, name)


@contextmanager
def fetched(folder: Folder, owner: str) -> Iterator[Path]:
    """Make a directory for what is fetched from elsewhere, and give its path; it is gone when the block is left."""
    name = f"{_PREFIX}{owner}-{os.urandom(8).hex()}{_FETCHED}"
    os.mkdir(name, 0o700, dir_fd=folder.fd)
    try:
        yield folder.path / name
    finally:
        shutil.rmtree(folder.path / name, ignore_errors=True)


def sweep(folder: Folder, owner: str) -> list[str]:
    """Remove what killed runs of this database left in the directory; return the names.

    A partial file that its writer still holds is no leftover: that run is alive, and its lock file was deleted, or it
    only looks.
    """
    removed = []
    for name in sorted(folder.list()):
        if name.startswith(f"{_PREFIX}{LOOKING}"):
            if not name.endswith(_PARTIAL):
                continue
        elif not name.startswith(f"{_PREFIX}{owner}-"):
            continue
        if name.endswith(_FETCHED):
            shutil.rmtree(folder.path / name, ignore_errors=True)
        elif name.endswith(_PIPES):
            _remove_directory(folder, name)
        elif name.endswith(_LINK):
            folder.remove(name)
        elif not (name.endswith(_PARTIAL) and _removed_if_abandoned(folder, name)):
            continue
        removed.append(name)
    return removed


def _removed_if_abandoned(folder: Folder, name: str) -> bool:
    """Remove a partial file that nobody holds, and say whether; it is held meanwhile, so that nobody takes it."""
    try:
        descriptor = folder.open(name)
    except FileNotFoundError:
        return False
    except OSError:
        folder.remove(name)  # a link or the like: nothing that a living run has made
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.remove(name)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True


def _remove_directory(folder: Folder, name: str) -> None:
    with suppress(OSError):
        descriptor = folder.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for entry in os.listdir(descriptor):
                os.unlink(entry, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        os.rmdir(name, dir_fd=folder.fd)
