"""The part of copy-backups.sh --expire that is about base backups, and the WAL that only they need."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pgbackup import wal
from pgbackup.commands.elsewhere.wal import listing
from pgbackup.commands.elsewhere.wal.listing import Listed
from pgbackup.commands.offsite import judging
from pgbackup.formats import wal_copies
from pgbackup.formats.wal_copies import Series
from pgbackup.remotes.place import CLOCKS_DIFFER, Object, Place
from pgbackup.settings.config import Settings
from pgbackup.store.offsite.index import Entry
from pgbackup.store.retention import Decision
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal import window
from pgbackup.store.wal.window import BaseBackup
from pgbackup.wal import Segment


@dataclass
class Held:
    """One series at a place. objects: all files of its base backups; parts: of unfinished segments."""

    listed: Listed
    objects: Sequence[Object]
    parts: list[tuple[Segment, Object]] = field(default_factory=list)


@dataclass(frozen=True)
class Copied:
    """A base backup there. base: under the name of its series and its own, and as old as its name and its arrival both
    let it be. proven: this host has sent all of it, and the place says nothing else.
    """

    base: BaseBackup
    name: str
    files: Sequence[Object]
    proven: bool


def decided(
    settings: Settings, directory: str, place: Place, host: str, sent: Mapping[str, Entry], now: datetime
) -> list[Decision]:
    """Look at an archive there, and decide. sent: what the place has confirmed. Raise what the place raises."""
    bases = place.list(wal_copies.bases(host, directory), hashes=True)
    segments = place.list(wal_copies.segments(host, directory))
    parts = place.list(wal_copies.unfinished(host, directory))
    here: set[str] = set()
    if walarchive.path_of(settings.backup_dir, directory).is_dir():
        with walarchive.opened(settings.backup_dir, directory, create=False) as places:
            here = {*places.base.list(), *(wal_copies.unpacked(name) or name for name in places.wal.list())}
    return expiring(sorted_out(host, directory, bases, segments, parts), sent, here, settings.retention_days, now)


def sorted_out(
    host: str, directory: str, bases: Sequence[Object], segments: Sequence[Object], parts: Sequence[Object]
) -> list[Held]:
    """What a place lists of an archive, by series, the newest last. Pure."""
    by_series = listing.series_of(host, directory, bases)
    above = f"{wal_copies.segments(host, directory)}/"
    for one in segments:  # of one all of whose base backups are gone
        series = wal_copies.parse_series(one.name.removeprefix(above).partition("/")[0])
        if series and series not in by_series:
            by_series = {series: [], **by_series}
    found = {}
    for series, objects in by_series.items():
        mine = [one for one in segments if one.name.startswith(f"{wal_copies.segments(host, directory, series)}/")]
        found[series] = Held(listing.listed(host, directory, series, objects, mine), objects)
    above = f"{wal_copies.unfinished(host, directory)}/"
    for one in parts:
        named, _, rest = one.name.removeprefix(above).partition("/")
        held = found.get(series) if (series := wal_copies.parse_series(named)) else None
        segment = wal.parse_segment(rest.partition("/")[0], series.segment_bytes) if series else None
        if held and segment and wal_copies.parse_piece(rest.rpartition("/")[2]):
            held.parts.append((segment, one))
    return list(found.values())


def expiring(
    held: Sequence[Held], sent: Mapping[str, Entry], here: Container[str], days: int, now: datetime
) -> list[Decision]:
    """Return a decision for the record of each base backup that stays, and for all that goes, in the order to delete.

    The rule is that of base backups on this host: no moment of the last `days` needs them, nor does an incremental one
    that stays, and the newest one never goes. WAL goes that comes before all that the base backups need that stay,
    whoever sent these. here: names of base backups and segments on this host, whose copies stay. Pure.
    """
    copied = {one.base.name: one for each in held for one in _copied(each, sent)}
    proven = [one.base for one in copied.values() if one.proven]
    if reason := _stopped(proven, days, now):
        return [Decision(one.files[0].name, keep=True, reason=reason) for one in copied.values()]
    names = {name: one.base for name, one in copied.items()}
    old = {base.name for base in window.expired(proven, days, now) if copied[base.name].name not in here}
    needed = {name for kept in names.keys() - old for name in window.lineage(names[kept], names)}
    decisions = []
    for name, one in copied.items():
        age = f"{(now - one.base.ended) / timedelta(days=1):.1f} days old"
        if name in needed:
            why = "it is needed, or its time has not come" if one.proven else "left as it is: not what was sent"
            decisions.append(Decision(one.files[0].name, keep=True, reason=f"{age}; {why}"))
        else:
            gone = f"{age}, and newer ones lead back further than RETENTION_DAYS={days}"
            decisions += [Decision(file.name, keep=False, reason=gone) for file in one.files]
    before = now - timedelta(days=days)
    for number, each in enumerate(held):
        later = held[number + 1 :]
        decisions += _left(each, sent, here, before)
        decisions += _unneeded(each, later, copied, needed, sent, here, before)
    return decisions


def _copied(held: Held, sent: Mapping[str, Entry]) -> list[Copied]:
    found, series = [], held.listed.series
    for name, one in held.listed.bases.items():
        files = [one.record, *one.files.values()]
        plausible = one.facts.ended - one.record.modified <= CLOCKS_DIFFER
        proven = plausible and all(_is_ours(file, sent) for file in files)
        ended = max(one.facts.ended, *(file.modified for file in files))
        parent = f"{series}/{one.facts.parent}" if one.facts.parent else ""
        base = BaseBackup(f"{series}/{name}", one.facts.began, one.facts.stop, ended, parent)
        found.append(Copied(base, name, files, proven))
    return found


def _is_ours(one: Object, sent: Mapping[str, Entry]) -> bool:
    return one.name in sent and not judging.difference(sent[one.name], one)


def _stopped(proven: Sequence[BaseBackup], days: int, now: datetime) -> str:
    """Why nothing at all expires, or ""."""
    newest = max((base.ended for base in proven), default=None)
    if newest is None:
        return "no base backup there is proven to be what this host has sent: nothing expires"
    if newest > now + CLOCKS_DIFFER:
        return "the clock is behind the newest base backup: nothing expires"
    if now - newest > timedelta(days=days):
        return f"no base backup has come for RETENTION_DAYS={days}: nothing expires"
    return ""


def _left(held: Held, sent: Mapping[str, Entry], here: Container[str], before: datetime) -> list[Decision]:
    """Files of base backups without a record: a deletion, or a copy, that was cut off."""
    found = []
    for one in held.objects:
        name = one.name.split(f"/{held.listed.series}/", 1)[-1].partition("/")[0]
        is_left = name in held.listed.wrong and name not in here
        if is_left and _is_ours(one, sent) and one.modified <= before:
            found.append(Decision(one.name, keep=False, reason="it is left of a base backup that is not whole there"))
    return found


def _unneeded(
    held: Held,
    later: Sequence[Held],
    copied: Mapping[str, Copied],
    needed: Container[str],
    sent: Mapping[str, Entry],
    here: Container[str],
    before: datetime,
) -> list[Decision]:
    """WAL of one series that no base backup needs which stays."""
    first = _first_needed(held.listed.series, copied, needed)
    if first is None and not any(
        one.proven and name in needed
        for each in later
        for name, one in copied.items()
        if name.startswith(f"{each.listed.series}/")
    ):
        return []  # it may be one that has just begun
    size, reason = held.listed.series.segment_bytes, "no base backup that stays needs it"
    found = [
        Decision(one.name, keep=False, reason=reason)
        for segment, one in sorted(held.listed.segments.items(), key=lambda pair: pair[0].number)
        if (first is None or segment.number < first)
        and one.modified <= before
        and _is_ours(one, sent)
        and wal.segment_name(segment, size) not in here
    ]
    return found + [
        Decision(one.name, keep=False, reason=reason)
        for segment, one in held.parts
        if (first is None or segment.number < first) and one.modified <= before
    ]


def _first_needed(series: Series, copied: Mapping[str, Copied], needed: Container[str]) -> int | None:
    """The number of the first segment of a series that a base backup needs which stays; None where none does."""
    kept = (one.base for name, one in copied.items() if name in needed and name.startswith(f"{series}/"))
    return min((base.began.number for base in kept), default=None)
