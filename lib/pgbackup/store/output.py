"""Files that others read: a page, metrics. Replaced whole or not at all, and never in the place of somebody else's."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from pgbackup.descriptor import write_all
from pgbackup.errors import CannotCreate, IoFailed, PermissionDenied, path_error
from pgbackup.store import workfiles
from pgbackup.store.folder import Folder

_OWNER = "output"


def replace(path: Path, content: str, *, mark: str, mode: int) -> None:
    """Write a file in one step: who reads it sees the old one or the new one, also after a power cut.

    mark: what every such file begins with; one that lies there without it is not ours and stays. mode: of the new
    file, whatever the umask. The file belongs to the directory's owner. Raise CannotCreate, PermissionDenied or
    IoFailed, naming the path; the old file is as it was then, and nothing else is left.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow a link that the file itself is
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _not_written(error, path) from None
    try:
        folder = Folder(path.parent, descriptor)
        _refuse_unsafe(folder)
        _refuse_strange(folder, path, mark)
        _replace(folder, path.name, content.encode("utf-8", "replace"), mode)
    except OSError as error:
        raise _not_written(error, path) from None
    finally:
        os.close(descriptor)


def _replace(folder: Folder, name: str, content: bytes, mode: int) -> None:
    workfiles.sweep(folder, _OWNER)
    # A name of this writer's own: of two writers the later one wins, and neither sees half of the other's.
    with workfiles.partial(folder, _OWNER, os.urandom(8).hex()) as (hidden, descriptor):
        write_all(descriptor, content)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
        folder.replace(hidden, name)
    folder.sync()


def _refuse_unsafe(folder: Folder) -> None:
    """Where everybody may rename everything, what is written is not what is read."""
    found = os.fstat(folder.fd).st_mode
    if found & stat.S_IWOTH and not found & stat.S_ISVTX:
        raise CannotCreate(
            f"'{folder.path}' may be written by everybody (mode {stat.S_IMODE(found):04o})",
            f"chmod o-w '{folder.path}', or name another directory",
        )


def _refuse_strange(folder: Folder, path: Path, mark: str) -> None:
    """Leave alone what is there and was not written by this suite."""
    try:
        there = folder.status(path.name)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(there.st_mode):
        what = "a directory" if stat.S_ISDIR(there.st_mode) else "no regular file"
        what = "a symbolic link" if stat.S_ISLNK(there.st_mode) else what
        raise CannotCreate(f"'{path}' is {what}: nothing was written", f"look at it: ls -ld '{path}'")
    if not there.st_size:
        return
    descriptor = folder.open(path.name)
    try:
        begins = os.pread(descriptor, len(mark.encode()), 0)
    finally:
        os.close(descriptor)
    if begins != mark.encode():
        raise CannotCreate(
            f"'{path}' is there and was not written by this script: it was left as it is",
            "name another file",
        )


def _not_written(error: OSError, path: Path) -> CannotCreate | PermissionDenied | IoFailed:
    if error.errno == errno.ENOENT:
        return CannotCreate(
            f"cannot write '{path}': '{path.parent}' is not there", f"make it: mkdir -p '{path.parent}'"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDenied(
            f"cannot write '{path}': {error.strerror}", f"who may write there: ls -ld '{path.parent}'"
        )
    return path_error(error, path.parent)
