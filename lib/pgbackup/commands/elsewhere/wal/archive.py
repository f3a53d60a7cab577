"""The archive of a database at a place elsewhere: what could be recovered from there alone, and what it takes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pgbackup import wal
from pgbackup.commands.elsewhere import copies
from pgbackup.commands.elsewhere.copies import Copies
from pgbackup.commands.elsewhere.wal import ahead, growing, listing, opening
from pgbackup.commands.elsewhere.wal.files import Elsewhere
from pgbackup.commands.elsewhere.wal.growing import Grown
from pgbackup.commands.elsewhere.wal.listing import Base, Listed
from pgbackup.commands.job import Job
from pgbackup.errors import BackupBad, NoBackup
from pgbackup.formats import sealed, wal_copies
from pgbackup.formats.cluster import timelines
from pgbackup.formats.cluster.timelines import Switch
from pgbackup.formats.copies import ENCRYPTED, plain
from pgbackup.remotes.place import Object
from pgbackup.store import workfiles
from pgbackup.store.state import statefile
from pgbackup.store.wal import window
from pgbackup.store.wal.archive import Receiver, State
from pgbackup.store.wal.base_backups import BaseBackupRecord
from pgbackup.store.wal.recoverable import Archive
from pgbackup.store.wal.window import BaseBackup, Window
from pgbackup.wal import Segment

_LARGEST_SMALL = 1 << 20  # of records and histories
_MOST_ENDS = 8  # of windows, behind which an unfinished segment is looked for


@dataclass
class Seen:
    """What was seen at a place. bases: as a recovery counts them; records: where a key has opened them.

    unfinished: by segment. refused: objects that are not used, and why.
    """

    there: Copies
    known: Listed
    bases: dict[str, BaseBackup] = field(default_factory=dict)
    records: dict[str, BaseBackupRecord] = field(default_factory=dict)
    texts: dict[int, bytes] = field(default_factory=dict)
    unfinished: dict[Segment, Grown] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def locked(self, identities: Sequence[str]) -> bool:
        """Whether a key is needed, and there is none."""
        return not identities and any(base.record.name.endswith(ENCRYPTED) for base in self.known.bases.values())

    @property
    def histories(self) -> Mapping[int, Sequence[Switch]]:
        return {timeline: timelines.history_of(timeline, text) for timeline, text in self.texts.items()}

    def times(self, before: int | None = None) -> dict[Segment, datetime]:
        """When each segment arrived. before: leave out those from that position (LSN) on."""
        found = {segment: one.modified for segment, one in self.known.segments.items()}
        found |= {segment: grown.arrived for segment, grown in self.unfinished.items()}
        if before is None:
            return found
        return {one: when for one, when in found.items() if one.number * self.known.series.segment_bytes < before}

    def receiver(self) -> Receiver | None:
        """What the receiver had confirmed, as far as it is there; in the form in which it tells it here."""
        newest = max(self.unfinished, key=lambda one: (one.number, one.timeline), default=None)
        confirmed = self.unfinished[newest].confirmed if newest else None
        if confirmed is None:
            return None
        return Receiver(confirmed.time, confirmed.time, wal.format_lsn(confirmed.lsn))

    def windows(self, before: int | None = None) -> list[Window]:
        """What could be recovered from there alone, oldest first."""
        times, receiver = self.times(before), self.receiver()
        return window.windows(
            list(self.bases.values()),
            times,
            self.histories,
            receiver.confirmed if receiver else None,
            self.known.series.segment_bytes,
            self.unfinished.keys() & times.keys(),
        )


def look(
    there: Copies, series: str | None, identities: Sequence[str], directory: Path, *, hashes: bool = False
) -> Seen:
    """Look at what a place has of a database's archive. series: another one than the newest, by its name.

    Without keys, only names are looked at. directory: where what is fetched lies meanwhile; need not be there. hashes:
    have those of the objects. Raise NoBackup where there is nothing, sealed.WrongKey where the keys open nothing, what
    the place raises.
    """
    with there.place.kept_open() as place:
        seen = _looked(replace(there, place=place), series, identities, directory, hashes)
    seen.there = there
    return seen


def _looked(there: Copies, series: str | None, identities: Sequence[str], directory: Path, hashes: bool) -> Seen:
    host, place, own = there.host, there.place, there.target.directory
    known = listing.series_of(host, own, place.list(wal_copies.bases(host, own), hashes=hashes))
    if not known:
        copies.require_host(there)
    chosen = listing.chosen(known, series, there.called, there.target.name)
    segments = place.list(wal_copies.segments(host, own, chosen), hashes=hashes)
    seen = Seen(there, listing.listed(host, own, chosen, known[chosen], segments))
    seen.refused |= {f"{wal_copies.bases(host, own, chosen)}/{name}": why for name, why in seen.known.wrong.items()}
    try:
        _look_at_bases(seen, identities, directory)
        _look_at_ends(seen, identities, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return seen


def _fetched(seen: Seen, objects: Sequence[Object], directory: Path) -> dict[str, bytes]:
    """Small objects, by name. Raise NoBackup where one is gone."""
    if not objects:
        return {}
    names = [one.name for one in objects]
    seen.there.place.fetch_many(names, directory)
    return {name: (directory / name).read_bytes() for name in names}


def _look_at_bases(seen: Seen, identities: Sequence[str], directory: Path) -> None:
    """Read records and histories with a key; without one believe names, which whoever writes there can make up."""
    known = seen.known
    for name, base in known.bases.items():
        facts = base.facts
        seen.bases[name] = BaseBackup(name, facts.began, facts.stop, facts.ended, facts.parent)
    if seen.locked(identities):
        return
    small = [base.record for base in known.bases.values()] + list(known.histories.values())
    small = [one for one in small if one.bytes <= _LARGEST_SMALL]
    read = _fetched(seen, small, directory)
    _require_key(read, identities)
    for name, base in known.bases.items():
        try:
            seen.records[name] = _record(base, read, identities, known.series)
            seen.bases[name] = _trusted(name, base, seen.records[name])
        except (BackupBad, ValueError) as bad:
            del seen.bases[name]
            seen.refused[base.record.name] = str(bad)
    for timeline, one in known.histories.items():
        try:
            text = opening.unpacked(one.name, read.get(one.name, b""), identities, _LARGEST_SMALL)
            timelines.history_of(timeline, text)
            seen.texts[timeline] = text
        except (BackupBad, ValueError) as bad:
            seen.refused[one.name] = str(bad)


def _require_key(read: Mapping[str, bytes], identities: Sequence[str]) -> None:
    """Raise WrongKey where the keys open none of several objects: then it is not these that were changed."""
    wrong = None
    for name, data in read.items():
        if not name.endswith(ENCRYPTED):
            return
        try:
            for _ in sealed.opened([data], identities):
                pass
        except sealed.WrongKey as error:
            wrong = error
        except BackupBad:
            return
        else:
            return
    if wrong:
        mine = ", ".join(map(sealed.recipient_of, identities))
        raise sealed.WrongKey(
            f"the key opens nothing of what is there: it was encrypted for others than {mine}",
            "try the other key; which keys there are stands on their papers",
        )


def _record(
    base: Base, read: Mapping[str, bytes], identities: Sequence[str], series: wal_copies.Series
) -> BaseBackupRecord:
    name = base.record.name
    record = statefile.parsed(b"".join(opening.opened(name, [read.get(name, b"")], identities)), BaseBackupRecord)
    if record.system != series.system:
        raise BackupBad(f"it is of another cluster (system identifier {record.system}, not {series.system})")
    size = series.segment_bytes
    began = wal.segment_at(wal.parse_lsn(record.start), record.timeline, size)
    told = wal_copies.facts(began, size, wal.parse_lsn(record.stop), record.ended, record.parent)
    if told != plain(name.rpartition("/")[2]):
        raise BackupBad("it is another base backup's: its name says something else")
    return record


def _trusted(name: str, base: Base, record: BaseBackupRecord) -> BaseBackup:
    return BaseBackup(name, base.facts.began, base.facts.stop, record.ended, record.parent)


def _look_at_ends(seen: Seen, identities: Sequence[str], directory: Path) -> None:
    """Find the unfinished segment behind each window, and behind a base backup that has no WAL yet."""
    ends = {each.last for each in seen.windows()[-_MOST_ENDS:]}
    following = {wal.Segment(max([one.timeline, *seen.texts]), one.number + 1) for one in ends}
    following |= {wal.Segment(one.timeline, one.number + 1) for one in ends}
    following |= {base.began for base in list(seen.bases.values())[-_MOST_ENDS:]}
    host, own, series = seen.there.host, seen.there.target.directory, seen.known.series
    for segment in sorted(following - seen.known.segments.keys()):
        parts = listing.parts_of(seen.there.place, host, own, series, segment)
        if seen.locked(identities):
            grown = growing.by_names(parts)
        else:
            grown = growing.by_content(
                parts, segment, series, lambda some: _fetched(seen, some, directory), identities, seen.refused
            )
        if grown:
            seen.unfinished[segment] = grown


@contextmanager
def for_recovery(
    job: Job, there: Copies, series: str | None, identities: Sequence[str], before: int | None
) -> Iterator[Archive]:
    """Do what opened() does; what is fetched lies in a hidden directory of the job's, as it lies at the place."""
    if job.only_looks:
        with (
            tempfile.TemporaryDirectory(prefix="pgbackup-") as temporary,
            opened(there, series, identities, Path(temporary) / "fetched", before) as archive,
        ):
            yield archive
        return
    with (
        workfiles.fetched(job.place, job.run.owner) as directory,
        opened(there, series, identities, directory / "fetched", before) as archive,
    ):
        yield archive


@contextmanager
def opened(
    there: Copies, series: str | None, identities: Sequence[str], directory: Path, before: int | None
) -> Iterator[Archive]:
    """Give what a recovery needs. before: the position (LSN) that is asked for, None for any.

    One at the beginning of a segment needs nothing from there on: so what lies before a bad segment can be had. Raise
    as look() does.
    """
    seen = look(there, series, identities, directory)
    size = seen.known.series.segment_bytes
    limit = before if before is not None and before % size == 0 else None
    times = seen.times(limit)
    newest = max(seen.records, default="")
    if not newest:
        raise NoBackup(f"there is no base backup of '{there.target.name}' at '{there.called}' that can be used")
    record = seen.records[newest]
    state = State(there.target.name, record.system, record.image, record.major, size, keep_was_set=False, active=False)
    receiver = seen.receiver()
    if limit is not None and receiver and receiver.confirmed and receiver.confirmed.lsn > limit:
        receiver = None
    in_order = sorted(times.keys() & seen.known.segments.keys(), key=lambda one: (one.number, one.timeline))
    order = [seen.known.segments[one] for one in in_order]
    with ahead.fetching(there.place, directory, order) as fetching:
        contents = {one: grown.content for one, grown in seen.unfinished.items() if grown.content is not None}
        files = Elsewhere(there, identities, seen.known, frozenset(times), contents, seen.texts, fetching)
        bases = {name: (base, seen.records[name]) for name, base in seen.bases.items() if name in seen.records}
        try:
            yield Archive(files, state, bases, seen.known.wrong, times, seen.windows(limit), receiver)
        finally:
            with suppress(OSError):
                shutil.rmtree(directory)
