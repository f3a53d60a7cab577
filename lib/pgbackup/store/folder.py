"""A directory that backups may be written to: opened once, checked, and from then on used by descriptor."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pgbackup.errors import CannotCreate, IoFailed, PermissionDenied, path_error

# What file systems say of what they do not have: vfat, exFAT and SMB of links, modes and owners, FUSE of anything.
_LACKING = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS})


def lacks(error: OSError) -> bool:
    """Whether the system says that this file system cannot do it at all, in a directory that may be written to."""
    return error.errno in _LACKING


@dataclass(frozen=True)
class Folder:
    """An open directory. path is for messages and for Docker; files are reached through fd only."""

    path: Path
    fd: int

    def open(self, name: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        """Open a file of it, never through a link and without waiting for a FIFO's other end. Raise OSError."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=self.fd)

    def create(self, name: str) -> int:
        """Make a file that was not there, mode 0600, and return its descriptor. Raise OSError."""
        return self.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def replace(self, name: str, new: str) -> None:
        """Rename an entry of it, in the place of another one if there is one. Raise OSError."""
        os.rename(name, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def list(self) -> Sequence[str]:
        """The names of what lies in it, in no order. Raise OSError."""
        return os.listdir(self.fd)

    def remove(self, name: str) -> None:
        """Remove a file of it. Raise OSError."""
        os.unlink(name, dir_fd=self.fd)

    def status(self, name: str) -> os.stat_result:
        """What the system says of an entry of it, of a link itself. Raise OSError."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def adopt(self, descriptor: int) -> None:
        """Give a file made by root to the directory's owner, or the owner's next run could not use it."""
        if os.geteuid() == 0 and not self.owns(os.fstat(descriptor)):
            owner = os.fstat(self.fd)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)

    def owns(self, status: os.stat_result) -> bool:
        """Whether a file has the directory's owner, as all have on a file system without owners."""
        here = os.fstat(self.fd)
        return (status.st_uid, status.st_gid) == (here.st_uid, here.st_gid)

    def close_to_others(self, descriptor: int) -> None:
        """Give a file that holds rows mode 0600, whatever the umask.

        On a file system without modes the directory has to keep others out. Raise CannotCreate where it does not.
        """
        try:
            os.fchmod(descriptor, 0o600)
        except OSError as error:
            if not lacks(error):
                raise
        found = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if found & 0o077 and os.fstat(self.fd).st_mode & 0o077:
            raise CannotCreate(
                f"others could read the backups in '{self.path}': its file system gives each file mode {found:04o}",
                "mount it for the backup account alone: umask=0077 (vfat, exFAT), file_mode=0600,dir_mode=0700 (SMB)",
            )

    def sync(self) -> None:
        """Let what was done in this directory outlive a power cut, where its file system can do that. Raise OSError."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise

    def reachable(self) -> bool:
        """Whether this directory still lies at its path: false once it was unmounted or replaced."""
        try:
            there = self.path.stat()
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self.fd))


def check_mounted(mount: Path | None, fstab: str) -> None:
    """Raise CannotCreate when `mount` (a setting), or BACKUP_DIR as named in fstab, should be mounted and is not.

    fstab: the text of /etc/fstab reduced by the caller to nothing where it cannot be read.
    """
    if mount is not None and not os.path.ismount(mount):
        raise CannotCreate(
            f"'{mount}' is not mounted: nothing was written beneath it",
            f"mount {mount}   (BACKUP_MOUNT asks for it)",
        )
    for line in fstab.splitlines():
        fields = line.split()
        if len(fields) > 1 and not line.startswith("#") and fields[1] != "none" and not os.path.ismount(fields[1]):
            raise CannotCreate(
                f"'{fields[1]}' is in /etc/fstab but not mounted: nothing was written beneath it",
                f"mount {fields[1]}",
            )


def fstab_lines_above(path: Path, fstab: Path = Path("/etc/fstab")) -> str:
    """The lines of fstab whose mount point is `path` or lies above it, '/' left out."""
    try:
        text = fstab.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    above = {str(path), *(str(parent) for parent in path.parents)} - {"/"}
    return "\n".join(line for line in text.splitlines() if len(line.split()) > 1 and line.split()[1] in above)


@contextmanager
def opened(path: Path, *, create: bool, top: bool = False, writing: bool = False) -> Iterator[Folder]:
    """Open the directory `path`, made with mode 0700 if `create` and it is absent, and refuse an unsafe one.

    writing: refuse it also where it is another user's, as with `create`. top: it is BACKUP_DIR itself, which an
    operator may have placed behind a symbolic link; a directory inside it may not be one. Raise CannotCreate,
    PermissionDenied or IoFailed, naming the path.
    """
    if create:
        _make(path)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if top else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise path_error(error, path) from None
    try:
        _refuse_unsafe(path, os.fstat(descriptor), writing=create or writing)
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
        if os.geteuid() == 0:
            above, made = path.parent.stat(), path.stat()
            if (above.st_uid, above.st_gid) != (made.st_uid, made.st_gid):
                os.chown(path, above.st_uid, above.st_gid)
        _sync(path.parent)
    except FileExistsError:
        return
    except OSError as error:
        raise _not_created(error, path) from None


def check_creatable(path: Path) -> None:
    """Raise what opened(path, create=True) would of a directory that is not there yet; nothing is made."""
    try:
        if not stat.S_ISDIR(path.parent.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if os.statvfs(path.parent).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _not_created(error, path) from None


def _not_created(error: OSError, path: Path) -> CannotCreate | PermissionDenied | IoFailed:
    make = f"sudo install -d -m 0700 -o {os.geteuid()} '{path}'"
    if error.errno == errno.ENOENT:
        return CannotCreate(f"cannot create '{path}': '{path.parent}' does not exist", make)
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(f"cannot create '{path}': {error.strerror}", f"{make}, or another BACKUP_DIR in .env")
    return path_error(error, path)


def _sync(path: Path) -> None:
    """Let a new entry of this directory outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        Folder(path, descriptor).sync()
    finally:
        os.close(descriptor)


def _refuse_unsafe(path: Path, status: os.stat_result, *, writing: bool) -> None:
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CannotCreate(
            f"'{path}' may be written by others (mode {stat.S_IMODE(status.st_mode):04o})", f"chmod go-w '{path}'"
        )
    if writing and os.geteuid() not in (0, status.st_uid):
        raise CannotCreate(
            f"'{path}' belongs to another user (uid {status.st_uid})",
            f"run it as that user, or: sudo chown {os.geteuid()} '{path}'",
        )
