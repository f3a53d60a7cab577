"""What a restore is about to do, on disk before it does it: whoever comes next finishes or undoes it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from pgbackup.store import workfiles
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile

_SUFFIX = ".journal"


@dataclass(frozen=True)
class Entry:
    """started: the restore, in local time. scratch: the database being loaded. outgoing: what the live one is to be
    called, or is called since it was set aside, "" where it is not replaced. stopped: services to start again, in
    stopping order. safety: the backup that brings the live database back, where it was dropped to make room.
    swapping: the renaming has been asked for, so that a scratch database that is gone is in its place.
    """

    started: datetime
    file: str
    scratch: str
    outgoing: str
    stopped: list[str]
    safety: str = ""
    swapping: bool = False


def _name(owner: str) -> str:
    return f".pgbackup-{owner}{_SUFFIX}"


def write(folder: Folder, owner: str, entry: Entry) -> None:
    """Replace the journal in one step and sync it. Raise OSError."""
    statefile.write(folder, _name(owner), entry)


def read(folder: Folder, owner: str) -> Entry | None:
    """Return the unfinished restore's entry, or None. Raise Unreadable when it cannot be understood."""
    path = folder.path / _name(owner)
    remedy = (
        f"a restore was killed; see which databases are there (psql -l), drop what it was loading (…_restore_…),"
        f" and then: rm '{path}'"
    )
    return statefile.read(folder, _name(owner), Entry, remedy)


def close(folder: Folder, owner: str) -> None:
    """Say that nothing is unfinished any more; one that was killed while it was written goes, too."""
    for name in (workfiles.replacing(_name(owner)), _name(owner)):
        with suppress(FileNotFoundError):
            folder.remove(name)
            folder.sync()
