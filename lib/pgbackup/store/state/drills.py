"""Which backups were drilled, beside them: a file that is replaced or changed is another one, and not drilled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from pgbackup.errors import SuiteError
from pgbackup.formats import names
from pgbackup.store.catalog import Backup
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile

_MOST = 1000  # backups that are remembered
_Told = TypeVar("_Told", str, datetime)


@dataclass(frozen=True)
class Drills:
    """passed: SHA-256 of a dump, as its manifest has it, to when it has passed its last drill. failed: to when, a blank
    and why. schema: the fingerprint of what passed last. moment: when a moment out of the WAL archive has passed last.
    turn: how often the schedule has chosen.
    """

    passed: dict[str, datetime] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    schema: str = ""
    moment: datetime | None = None
    turn: int = 0

    def __post_init__(self) -> None:
        for told in self.failed.values():
            statefile.instant(told.partition(" ")[0])

    def when(self, sha256: str) -> datetime | None:
        """When that dump has passed its last drill; None where it has failed since, or was never drilled."""
        return self.passed.get(sha256)

    def state(self, sha256: str) -> str:
        """What is known of that dump, for people: a day, FAILED, or "" for nothing."""
        when = self.when(sha256)
        return "FAILED" if sha256 in self.failed else f"{when.astimezone():%Y-%m-%d}" if when else ""

    def entry(self, sha256: str) -> dict[str, str | None]:
        """The same as JSON values."""
        when = self.when(sha256)
        return {"drilled": when.isoformat() if when else None, "drill_failed": self.failed.get(sha256)}

    def with_one(self, sha256: str, problem: str, schema: str, now: datetime) -> Drills:
        """The same with one more drill. problem: "" for a passed one. Pure."""
        told = statefile.to_the_second(now)
        passed = {key: value for key, value in self.passed.items() if key != sha256}
        failed = {key: value for key, value in self.failed.items() if key != sha256}
        if problem:
            failed[sha256] = f"{told.isoformat()} {problem}"
            return replace(self, passed=passed, failed=_newest(failed))
        passed[sha256] = told
        return replace(self, passed=_newest(passed), failed=failed, schema=schema)


def _newest(drilled: dict[str, _Told]) -> dict[str, _Told]:
    return dict(sorted(drilled.items(), key=lambda each: each[1])[-_MOST:])


def _name(database: str) -> str:
    return f".{names.stem(database)}.drills.json"


def read(place: Folder, database: str) -> Drills:
    """Return what is known of a database's drills. Raise Unreadable, Newer or PermissionDenied."""
    remedy = f"remove it, then nothing counts as drilled until the next drill: rm '{place.path / _name(database)}'"
    return statefile.read(place, _name(database), Drills, remedy) or Drills()


def look(place: Folder, database: str) -> tuple[Drills, str]:
    """Do read() for who goes on without: return also why nothing is known, "" where all is."""
    try:
        return read(place, database), ""
    except SuiteError as error:
        return Drills(), f"it is not known which backups were drilled: {error.message} ({error.hint})"


def newest_passed(known: Drills, backups: Iterable[Backup]) -> str:
    """The name of the newest of the backups, newest first, that has passed its last drill; "" for none. Pure."""
    return next((each.name for each in backups if each.manifest and each.manifest.sha256 in known.passed), "")


def write(place: Folder, database: str, drills: Drills) -> None:
    """Replace what is known. Raise OSError."""
    statefile.write(place, _name(database), drills)
