"""What is drilled: what was named, the newest backup, or what is next in turn."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pgbackup.commands import key
from pgbackup.commands.elsewhere import copies, fetching
from pgbackup.commands.elsewhere.wal import archive
from pgbackup.commands.job import Job
from pgbackup.commands.loading.record import Record
from pgbackup.commands.recover import recover
from pgbackup.commands.recover.aim import Aim
from pgbackup.errors import NoBackup, SuiteError
from pgbackup.formats import names
from pgbackup.store import catalog, source
from pgbackup.store.source import Source
from pgbackup.store.state import drills
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal import recoverable

NEWEST, OLDER, MOMENT = "newest", "older", "moment"


@dataclass(frozen=True)
class Wanted:
    """file: as it was typed, "" for none. aim: a moment, None for none. rotate: what is next in turn.

    place: where the file, or the archive of the moment, is fetched from, "" for this host; key: what opens it, as
    key.given() takes it.
    """

    file: str = ""
    aim: Aim | None = None
    rotate: bool = False
    place: str = ""
    key: str | None = None


def opening(job: Job, wanted: Wanted, record: Record) -> tuple[AbstractContextManager[Source], bool]:
    """Return what opens the source, and whether it is a moment. Raise NoBackup, SuiteError, OSError."""
    if wanted.aim and not wanted.place:
        return recover.source_at(job, recover.on_disk(job.settings, job.target.directory), wanted.aim, record), True
    if wanted.place:
        copies.require_key(job.settings, wanted.place, wanted.key)
        identities = key.given(wanted.key) if wanted.key else []
        there = copies.at(job.settings, job.target, wanted.place)
        if wanted.aim:
            archived = archive.for_recovery(job, there, None, identities, None)
            return recover.source_at(job, archived, wanted.aim, record), True
        file = wanted.file or names.latest(job.target.database)
        return fetching.from_place(job, there, file, identities, record), False
    if wanted.file:
        return source.found(wanted.file, job.place.path, job.target.database), False
    files = [
        backup.name
        for backup in catalog.listing(job.place, job.target.database)
        if backup.manifest and not backup.problem and not backup.manual
    ]
    if not files:
        raise none(job.target.database, job.place.path)
    if wanted.rotate:
        known = drills.read(job.place, job.target.database)
        drills.write(job.place, job.target.database, replace(known, turn=known.turn + 1))
        middle = _middle(job)
        kind = in_turn(known.turn, has_older=len(files) > 1, has_moments=middle is not None)
        if kind == MOMENT and middle:
            return recover.source_at(job, recover.on_disk(job.settings, job.target.directory), middle, record), True
        if kind == OLDER:
            return source.found(files[1 + known.turn % (len(files) - 1)], job.place.path, job.target.database), False
    return source.found(files[0], job.place.path, job.target.database), False


def none(database: str, path: Path) -> NoBackup:
    """There is nothing to drill."""
    return NoBackup(f"there is no good backup of '{database}' in '{path}'", "make one: backup-postgres.sh")


def in_turn(turn: int, *, has_older: bool, has_moments: bool) -> str:
    """What the schedule drills at its turn, counted from 0. Pure."""
    kinds = [NEWEST, *([OLDER] if has_older else []), *([MOMENT] if has_moments else [])]
    return kinds[turn % len(kinds)]


def _middle(job: Job) -> Aim | None:
    """A moment in the middle of what can be recovered, None where nothing can be."""
    try:
        with walarchive.opened(job.settings.backup_dir, job.target.directory, create=False) as places:
            windows = recoverable.look(places).windows
    except (SuiteError, OSError):
        return None
    if not windows:
        return None
    moment: datetime = windows[-1].since + (windows[-1].until - windows[-1].since) / 2
    return Aim("time", moment.isoformat(), moment=moment)
