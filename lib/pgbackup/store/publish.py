"""Gives a finished file its final name, points LATEST to it, and removes what has expired."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from datetime import datetime, timedelta

from pgbackup.errors import CannotCreate, IoFailed
from pgbackup.formats import names
from pgbackup.store.folder import Folder, lacks

_SECONDS_TO_TRY = 3600


def publish(folder: Folder, partial_name: str, database: str, started: datetime) -> str:
    """Give the finished, synced file its final name, never one that is taken, and return it.

    A name that is taken (a second run in one second, the hour that summer time repeats) is passed over for the
    next second's. Raise CannotCreate or OSError; the final name does not exist then.
    """
    for seconds in range(_SECONDS_TO_TRY):
        name = names.dated(database, started + timedelta(seconds=seconds))
        try:
            _link(folder, partial_name, name)
        except FileExistsError:
            continue
        _sync_or_withdraw(folder, name)
        return name
    raise CannotCreate(f"every name for a backup of '{database}' in this hour is taken in '{folder.path}'")


def _link(folder: Folder, partial_name: str, name: str) -> None:
    """Add the final name; the hidden one goes when its block is left. A rename could replace a file."""
    try:
        os.link(partial_name, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
    except OSError as error:
        if not lacks(error) and error.errno != errno.EMLINK:
            raise
        # A file system without hard links. The lock keeps our own runs apart, so looking first is enough.
        if _there(folder, name) is not None:
            raise FileExistsError(errno.EEXIST, "File exists", name) from None
        folder.replace(partial_name, name)


def _sync_or_withdraw(folder: Folder, name: str) -> None:
    """Sync the directory. A failed fsync is never tried again: what the disk holds is unknown then."""
    try:
        folder.sync()
    except OSError:
        with suppress(OSError):
            folder.remove(name)
        raise


def _there(folder: Folder, name: str) -> os.stat_result | None:
    try:
        return folder.status(name)
    except FileNotFoundError:
        return None


def point_latest(folder: Folder, database: str, name: str, hidden: str) -> bool:
    """Make `<database>_LATEST.sql.gz` a relative link to `name`, replaced in one step by `hidden`.

    Its time is a second before the file's: `ls -lt | head -2` is to show the backup. Return False on a file system
    without symbolic links. Raise CannotCreate when something that is no link lies there, OSError as the system does.
    """
    latest = names.latest(database)
    present = _there(folder, latest)
    if present is not None and not stat.S_ISLNK(present.st_mode):
        raise CannotCreate(
            f"'{folder.path / latest}' is not a link, so it was not replaced",
            f"move it away: mv '{folder.path / latest}' '{folder.path / latest}.old'",
        )
    try:
        os.symlink(name, hidden, dir_fd=folder.fd)
    except OSError as error:
        if present is not None or not lacks(error):
            raise
        return False
    try:
        _date(folder, name, hidden)
        if os.geteuid() == 0 and not folder.owns(folder.status(hidden)):
            owner = os.fstat(folder.fd)
            os.chown(hidden, owner.st_uid, owner.st_gid, dir_fd=folder.fd, follow_symlinks=False)
        folder.replace(hidden, latest)
    except BaseException:
        with suppress(OSError):
            folder.remove(hidden)
        raise
    folder.sync()
    return True


def _date(folder: Folder, name: str, hidden: str) -> None:
    moment = folder.status(name).st_mtime_ns - 1_000_000_000
    try:
        os.utime(hidden, ns=(moment, moment), dir_fd=folder.fd, follow_symlinks=False)
    except OSError as error:
        if not lacks(error):
            raise


def remove(folder: Folder, name: str) -> None:
    """Remove an expired backup. One that is gone already is no error. Raise IoFailed naming the file."""
    try:
        folder.remove(name)
    except FileNotFoundError:
        return
    except OSError as error:
        raise IoFailed(f"cannot remove the expired backup '{folder.path / name}': {error.strerror}") from None
