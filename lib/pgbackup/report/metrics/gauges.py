"""What a gauge is, and how those are made that have a value for each database, promise, place or archive.

A moment that never was is 0, so that its age is always too old. What was never measured is NaN, which fulfils no
comparison but `!=`: rules ask for `> 0`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from pgbackup.report.promises.about_databases import newest_good
from pgbackup.report.promises.facts import Archive, Backup, Copies, Database, Disk
from pgbackup.report.promises.promise import NOT_WANTED, Promise
from pgbackup.report.promises.status import Rescue, Status

Samples = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True)
class Metric:
    """One gauge. samples: the values of its labels, in their order, with its value."""

    name: str
    meaning: str
    labels: tuple[str, ...]
    samples: Callable[[Status], Samples]


def at(moment: datetime | None) -> float:
    """A moment in seconds since 1970, 0.0 for one that never was."""
    return moment.timestamp() if moment else 0.0


def measured(value: float | None) -> float:
    """A number that was measured, NaN where it was not."""
    return math.nan if value is None else float(value)


def host(name: str, meaning: str, value: Callable[[Status], float]) -> Metric:
    """A gauge of the host as a whole."""
    return Metric(name, meaning, (), lambda status: [((), value(status))])


def disk(name: str, meaning: str, value: Callable[[Disk], float]) -> Metric:
    """A gauge of the disk of BACKUP_DIR; none where it cannot be looked at."""
    return Metric(name, meaning, (), lambda status: [((), value(status.facts.disk))] if status.facts.disk else [])


def promise(name: str, meaning: str, value: Callable[[Status, Promise], float | None]) -> Metric:
    """A gauge of each promise that somebody wants; None: that one has no series."""

    def samples(status: Status) -> Samples:
        for promise in status.promises:
            found = value(status, promise)
            if promise.state != NOT_WANTED and found is not None:
                yield (promise.kind, promise.subject), found

    return Metric(name, meaning, ("promise", "subject"), samples)


def database(name: str, meaning: str, value: Callable[[Database], float]) -> Metric:
    """A gauge of each of DATABASES."""
    return Metric(name, meaning, ("database",), lambda status: (((d.name,), value(d)) for d in status.facts.databases))


def newest(name: str, meaning: str, value: Callable[[Backup], float], none: float = math.nan) -> Metric:
    """A gauge of the newest good backup of each of DATABASES; where there is none it is `none`."""

    def samples(status: Status) -> Samples:
        for database in status.facts.databases:
            backup = newest_good(database, status.now)
            yield (database.name,), value(backup) if backup else none

    return Metric(name, meaning, ("database",), samples)


def rescue(name: str, meaning: str, value: Callable[[Rescue], float]) -> Metric:
    """A gauge of what comes back of each of DATABASES if the host dies."""
    return Metric(name, meaning, ("database",), lambda status: (((r.name,), value(r)) for r in status.rescues))


def place(name: str, meaning: str, value: Callable[[Copies], float]) -> Metric:
    """A gauge of each of OFFSITE."""
    return Metric(name, meaning, ("place",), lambda status: (((c.place,), value(c)) for c in status.facts.copies))


def archive(name: str, meaning: str, value: Callable[[Status, Archive], float]) -> Metric:
    """A gauge of each WAL archive, by its directory."""

    def samples(status: Status) -> Samples:
        return (((archive.directory,), value(status, archive)) for archive in status.facts.archives)

    return Metric(name, meaning, ("archive",), samples)
