"""If this host died now: which moment of each database comes back, from where, with which key, and how fast. Pure."""

from __future__ import annotations

from datetime import datetime

from pgbackup.report.promises.facts import Copies, Database, Facts
from pgbackup.report.promises.status import Rescue
from pgbackup.store.state.ledger import Exercise

_RESTORES = ("restore", "drill")
_FEW = 5  # the newest, of which the median is taken


def rescues(facts: Facts) -> list[Rescue]:
    """Return for each database what would come back. Pure."""
    return [_rescue(each, facts) for each in facts.databases]


def _rescue(database: Database, facts: Facts) -> Rescue:
    there = [one for one in facts.copies if _moment(one, database)]
    seconds, measured, fetched = _measured(database, "")
    if not there:
        why = "no place of OFFSITE has a copy of it" if facts.copies else "OFFSITE names no place"
        return Rescue(database.name, None, why, seconds=seconds, measured=measured, drilled=database.drilled)
    best = max(there, key=lambda one: _latest(one, database))
    moment, dumped = _latest(best, database), best.newest.get(database.name)
    seconds, measured, fetched = _measured(database, best.place)
    recipients = tuple(key.recipient for key in facts.keys) if best.encrypted else ()
    return Rescue(
        name=database.name,
        moment=moment,
        place=best.place,
        file=_file(best, database) if dumped else "",
        encrypted=best.encrypted,
        recipients=recipients,
        proven=_proven(facts) if best.encrypted else None,
        seconds=seconds,
        measured=measured,
        fetched=fetched,
        drilled=database.drilled,
        by_wal=moment != dumped,
    )


def _moment(copies: Copies, database: Database) -> datetime | None:
    """The last moment of a database that a place can give: that of a dump, or of WAL behind a base backup."""
    known = (copies.newest.get(database.name), copies.wal.get(database.directory))
    return max((each for each in known if each), default=None)


def _latest(copies: Copies, database: Database) -> datetime:
    """The same, of a place that has one."""
    moment = _moment(copies, database)
    assert moment is not None  # noqa: S101  asked of such places only
    return moment


def _file(copies: Copies, database: Database) -> str:
    taken = copies.newest[database.name]
    here = next((each.file for each in database.backups if each.taken == taken), "")
    return copies.newest_file.get(database.name, here)


def _proven(facts: Facts) -> datetime | None:
    return max((key.proven for key in facts.keys if key.proven), default=None)


def _measured(database: Database, place: str) -> tuple[float | None, int, bool]:
    """How long a restore takes by the newest that were done: those from the place itself tell most."""
    good = [
        each for each in database.exercises if each.status == 0 and each.action in _RESTORES and each.restore_seconds
    ]
    from_there = [each for each in good if place and each.place == place]
    chosen: list[Exercise] = (from_there or good)[:_FEW]
    if not chosen:
        return None, 0, False
    # Not by `statistics`, which takes longer to load than a whole status to judge.
    times = sorted(each.restore_seconds for each in chosen)
    median = (times[(len(times) - 1) // 2] + times[len(times) // 2]) / 2
    return round(median, 1), len(chosen), bool(from_there)
