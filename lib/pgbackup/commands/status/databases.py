"""The facts about one database: from its ledger, and the names of what lies beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from pgbackup.formats import names
from pgbackup.report import redaction
from pgbackup.report.promises.facts import Backup, Database
from pgbackup.settings.config import Settings, Target
from pgbackup.store import catalog, folder, lock
from pgbackup.store.folder import Folder
from pgbackup.store.state import drills, ledger, statefile, verified
from pgbackup.store.state.drills import Drills
from pgbackup.store.state.ledger import Ledger, Made
from pgbackup.store.state.statefile import Unreadable
from pgbackup.store.state.verified import Verified

_MOST_OPENED = 20  # of files that the ledger does not know
_Held = TypeVar("_Held")
Unknown = dict[str, tuple[str, str]]


def facts(settings: Settings, target: Target) -> Database:
    """Return what is known of a database. Raise PermissionDenied where this account may not look, and what
    folder.opened() raises of an unsafe directory.
    """
    empty = Database(target.name, target.database, target.container, target.directory)
    path = settings.backup_dir / target.directory
    if not os.path.lexists(path):
        return empty
    with folder.opened(path, create=False) as place:
        return _of(place, empty)


def _of(place: Folder, empty: Database) -> Database:
    unknown: Unknown = {}
    database = empty.database
    known = noted(lambda: ledger.read(place, database), unknown) or Ledger()
    drilled = noted(lambda: drills.read(place, database), unknown) or Drills()
    read = noted(lambda: verified.read(place, database), unknown)
    there = _sizes(place, database)
    backups = _backups(place, database, known, there)
    described = [_backup(each, there[each.file][1], drilled, read) for each, _ in backups]
    described = [
        replace(each, problem=each.problem or said) for each, (_, said) in zip(described, backups, strict=True)
    ]
    passed = [*drilled.passed.values(), *([drilled.moment] if drilled.moment else [])]
    oldest = min((each.taken for each in described), default=None)
    return replace(
        empty,
        backups=tuple(described),
        files=len(there),
        bytes=sum(size for _, size in there.values()),
        attempts=tuple(known.runs),
        exercises=tuple(known.exercises),
        begun=known.begun or oldest,
        verified=read.at if read else None,
        drilled=max(passed, default=None),
        running=lock.since(place, names.stem(database)),
        unknown=unknown,
    )


def noted(read: Callable[[], _Held], unknown: Unknown) -> _Held | None:
    """What a state file holds; where it cannot be read, that is added to `unknown`. Raise PermissionDenied."""
    try:
        return read()
    except Unreadable as error:
        unknown[error.message] = (error.message, error.hint or "")
        return None


def _sizes(place: Folder, database: str) -> dict[str, tuple[datetime, int]]:
    """The files that bear the name of a backup of this database: when they say they were taken, and their sizes."""
    found = {}
    for name in place.list():
        if said := names.parse(database, name):
            try:
                found[name] = said.taken, place.status(name).st_size
            except FileNotFoundError:
                continue  # it has expired just now
    return found


def _backups(
    place: Folder, database: str, known: Ledger, there: dict[str, tuple[datetime, int]]
) -> list[tuple[Made, str]]:
    """The newest backups that are there, newest first, each with what can be seen to be wrong with it, or "".

    Those that the ledger does not know are opened, the newest of them: made by hand, or its writing was cut off.
    """
    made = {each.file: each for each in known.backups if each.file in there}
    since = min((each.taken for each in made.values()), default=None)
    others = [
        name
        for name, (taken, _) in there.items()
        if name not in made and (since is None or statefile.to_the_second(taken) >= since)
    ]
    found = [
        (each, "" if there[name][1] == each.bytes else "it is not as long as it was when it was made")
        for name, each in made.items()
    ]
    for name in sorted(others, key=lambda name: there[name][0], reverse=True)[:_MOST_OPENED]:
        if seen := catalog.one(place, database, name):
            found.append((ledger.made_of(seen), seen.problem))
    return sorted(found, key=lambda each: (each[0].taken, each[0].file), reverse=True)[: ledger.MOST_BACKUPS]


def _read_at(read: Verified, file: str) -> tuple[datetime | None, datetime | None]:
    """When all was read, and when this file was."""
    proof = read.proof(file)
    return read.at, proof.at if proof else None


def _backup(made: Made, size: int, drilled: Drills, read: Verified | None) -> Backup:
    """A backup as the facts have it. What was published had been read back."""
    when = max(filter(None, _read_at(read, made.file)), default=None) if read else None
    found = read.bad.get(made.file, "") if read else ""
    since, _, problem = found.partition(" ")
    failed, _, why = drilled.failed.get(made.sha256, "").partition(" ")
    last = when if when and when >= made.taken else made.taken if made.sha256 else None
    return Backup(
        file=made.file,
        taken=made.taken,
        bytes=size,
        sql_bytes=made.sql_bytes,
        rows=made.rows,
        seconds=made.seconds,
        verified=statefile.instant(since) if problem else last,
        problem=problem,
        drilled=statefile.instant(failed) if failed else drilled.when(made.sha256),
        drill_failed=redaction.without_values(why),
    )
