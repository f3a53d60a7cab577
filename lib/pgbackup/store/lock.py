"""One run per database: an flock on a hidden file beside its backups, gone with the process that holds it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from pgbackup import interrupt
from pgbackup.errors import CannotCreate, LockHeld, SuiteError, path_error
from pgbackup.store import folder

_PAUSE_SECONDS = 0.02


@contextmanager
def held(place: folder.Folder, name: str) -> Iterator[None]:
    """Hold the lock `.<name>.lock` in `place` for the length of the block.

    A lock file without its process (kill -9, power cut) is free: the kernel drops the flock, no pid is read.
    Raise LockHeld when another run has it, CannotCreate when something else lies under that name.
    """
    file_name = f".{name}.lock"
    descriptor = _open(place, file_name)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):  # SMB says the second of one that is held
                raise CannotCreate(
                    f"cannot lock in '{place.path}': {error.strerror}",
                    "its file system has no locks, and two runs at once would spoil each other's work:"
                    " mount it with locks (NFS: local_lock=flock), or set BACKUP_DIR to another one",
                ) from None
            raise LockHeld(
                f"another run is working on '{place.path / name}'",
                f"wait for it, or see which: fuser -v '{place.path / file_name}'",
            ) from None
        with suppress(OSError):
            os.utime(descriptor)  # since when, for who only looks
        yield
    finally:
        os.close(descriptor)


@contextmanager
def awaited(place: folder.Folder, name: str, seconds: float) -> Iterator[None]:
    """Do held(), and wait for another run that has the lock. Raise LockHeld after so many seconds, Interrupted."""
    deadline = time.monotonic() + seconds
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held(place, name))
                break
            except LockHeld:
                if time.monotonic() >= deadline:
                    raise
            interrupt.check()
            time.sleep(_PAUSE_SECONDS)
        yield


def _open(place: folder.Folder, file_name: str) -> int:
    try:
        descriptor = place.open(file_name, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise path_error(error, place.path / file_name) from None  # the disk's fault, not the file's
        raise CannotCreate(
            f"cannot open the lock file '{place.path / file_name}': {error.strerror}",
            f"look at it: ls -l '{place.path / file_name}'",
        ) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        raise CannotCreate(
            f"'{place.path / file_name}' is not a plain file of its own", f"remove it: rm '{place.path / file_name}'"
        )
    place.adopt(descriptor)
    return descriptor


def is_held(place: folder.Folder, name: str) -> bool:
    """Whether a run on this host holds that lock now; it is not touched (proc(5), /proc/locks). False if not known."""
    try:
        status = os.stat(f".{name}.lock", dir_fd=place.fd, follow_symlinks=False)
        inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        with open("/proc/locks", encoding="ascii") as locks:  # noqa: PTH123
            return any("FLOCK" in line and inode in line.split() and "->" not in line for line in locks)
    except OSError:
        return False


def is_held_in(directory: Path, name: str) -> bool:
    """Do is_held() in a directory that need not be there; False too where it may not be looked into."""
    try:
        with folder.opened(directory, create=False) as place:
            return is_held(place, name)
    except SuiteError:
        return False


def since(place: folder.Folder, name: str) -> datetime | None:
    """Since when a run on this host holds that lock; None where none does, or where that is not known."""
    if not is_held(place, name):
        return None
    try:
        return datetime.fromtimestamp(place.status(f".{name}.lock").st_mtime, timezone.utc)
    except OSError:
        return None
