"""One turn of a lane at a place: what is here and not there is copied, and how far it has come is noted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from pgbackup import wal
from pgbackup.commands.offsite import one_place
from pgbackup.commands.offsite.one_place import Elsewhere
from pgbackup.commands.offsite.wal import archives, bases, deciding, segments
from pgbackup.commands.offsite.wal.archives import Source
from pgbackup.commands.offsite.wal.deciding import Growing
from pgbackup.commands.offsite.wal.lane import WAL, Lane
from pgbackup.errors import BackupBad, Interrupted, SuiteError
from pgbackup.formats import wal_copies
from pgbackup.settings.config import Settings, Target
from pgbackup.store import folder, lock
from pgbackup.store.offsite import index, lag
from pgbackup.store.offsite.index import Entry
from pgbackup.store.offsite.lag import Lag
from pgbackup.store.state import statefile
from pgbackup.store.wal import archive
from pgbackup.wal import Segment

_SELDOM = timedelta(seconds=10)
_LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)


@dataclass
class Attendance:
    """A lane that is attended to. known: how far it has come; written: as it was on disk last, but for times, at `at`.

    last: when parts of unfinished segments were copied last, by the archive's directory.
    """

    settings: Settings
    targets: Sequence[Target]
    lane: Lane
    known: Lag
    last: dict[str, datetime] = field(default_factory=dict)
    written: Lag | None = None
    at: datetime = _LONG_AGO


@contextmanager
def attended(
    settings: Settings,
    where: Elsewhere,
    targets: Sequence[Target],
    name: str,
    tell: Callable[[Entry], None],
) -> Iterator[Attendance]:
    """Claim a lane (WAL or BASE) to a place for the length of the block. Raise LockHeld where another run has it."""
    with (
        one_place.own(where.top, where.offsite) as own,
        lock.held(own, name),
        folder.opened(own.path / f"spool-{name}", create=True) as spooling,
    ):
        known = Lag()
        with suppress(statefile.Unreadable):  # it tells how it went, and nothing that is needed
            known = lag.read(own, name)
        yield Attendance(settings, targets, Lane(name, where, own, spooling, index.read(own, name), tell), known)


def take(attendance: Attendance, every: timedelta) -> None:
    """Copy what there is. every: how often what has come into an unfinished segment is to go.

    Raise SuiteError where the place fails; it is noted, and by lag.is_paused() to be told when to try again. What stops
    only itself is in the lane's problems.
    """
    lane = attendance.lane
    lane.problems.clear()
    lane.where = replace(lane.where, recipients=one_place.recipients(attendance.settings, lane.where.offsite))
    before = attendance.known
    try:
        left = lane.send_left(_is_passing(lane.where))
        with archives.opened(attendance.settings, attendance.targets, lane.own, lane.problems) as sources:
            for source in sources:
                _resume(attendance, source, left)
                (_wal if lane.name == WAL else _bases)(attendance, source, every)
    except Interrupted:
        raise
    except SuiteError as error:
        _note(attendance, before, error.status, error.message, failures=before.failures + 1)
        raise
    problem = next(iter(lane.problems.values()), "")
    _note(attendance, before, BackupBad.status if problem else 0, problem, failures=0)


def _is_passing(where: Elsewhere) -> Callable[[str], bool]:
    return lambda name: name.startswith(f"{where.host}/unfinished/")


def _bases(attendance: Attendance, source: Source, _every: timedelta) -> None:
    lane = attendance.lane
    here = bases.look(source, lane.where.host)
    for name in here.order():
        if lane.has(here.record(name).name):
            continue
        for _ in lane.send(item for item in here.files(name) if not lane.has(item.name)):
            pass
        if all(lane.called(item.name) in lane.known.entries for item in here.files(name)):
            for _ in lane.send([here.record(name)]):
                pass
    known = attendance.known
    attendance.known = replace(known, newest=known.newest | {source.directory: here.newest(lane.has)})


def _wal(attendance: Attendance, source: Source, every: timedelta) -> None:
    lane, host = attendance.lane, attendance.lane.where.host
    for _ in lane.send(segments.finished(source, segments.look(source), host, lane.has)):
        pass
    here = segments.look(source)
    now, last = datetime.now(timezone.utc), attendance.last.get(source.directory)
    if here.unfinished and (last is None or not last <= now < last + every):
        attendance.last[source.directory] = now
        _grow(attendance, source, here.unfinished)
    _reckon(attendance, source, here)


def _grow(attendance: Attendance, source: Source, segment: Segment) -> None:
    """Copy what has come into an unfinished segment since the last time."""
    lane, size = attendance.lane, source.state.segment_bytes
    growing = _growing(attendance, source)
    begin = deciding.next_begin(growing, segment)
    try:
        found = segments.coming(source, segment, begin, lane.where.host)
    except FileNotFoundError:
        return  # it is finished now, and goes whole
    except (BackupBad, OSError) as error:
        lane.problems[wal.segment_name(segment, size)] = str(error)
        return
    if found is None:
        return
    item, piece = found
    for _ in lane.send([item]):
        _is_grown(attendance, source, deciding.grown(growing, segment, piece.begin, piece.end))


def _is_grown(attendance: Attendance, source: Source, grown: Growing) -> None:
    """Note at once up to where it is there: the same part is not to go again under the same name."""
    name = wal.segment_name(grown.segment, source.state.segment_bytes)
    told = f"{source.series} {name} {grown.copied} {grown.parts}"
    known = attendance.known
    attendance.known = replace(known, growing=known.growing | {source.directory: told})
    _write(attendance)


def _resume(attendance: Attendance, source: Source, names: Collection[str]) -> None:
    """Take into account parts that a killed run had sent, or had left to be sent."""
    size, host = source.state.segment_bytes, attendance.lane.where.host
    for name in names:
        above, _, last = name.rpartition("/")
        segment, piece = wal.parse_segment(above.rpartition("/")[2], size), wal_copies.parse_piece(last)
        if (
            not segment
            or not piece
            or above != wal_copies.unfinished_of(host, source.directory, source.series, segment)
        ):
            continue
        before = _growing(attendance, source)
        if before is None or before.segment != segment or piece.end > before.copied:
            _is_grown(attendance, source, deciding.grown(before, segment, piece.begin, piece.end))


def _growing(attendance: Attendance, source: Source) -> Growing | None:
    """What is known of the unfinished segment at the place."""
    try:
        series, name, copied, parts = attendance.known.growing.get(source.directory, "").split(" ")
        segment = wal.parse_segment(name, source.state.segment_bytes)
        return Growing(segment, int(copied), int(parts)) if segment and series == str(source.series) else None
    except ValueError:
        return None


def _reckon(attendance: Attendance, source: Source, here: segments.Here) -> None:
    """Note up to where, and to which moment, everything is there."""
    lane, size, known = attendance.lane, source.state.segment_bytes, attendance.known
    below = wal_copies.segments(lane.where.host, source.directory, source.series)
    there = {
        segment: name
        for name, segment in here.finished.items()
        if segment and lane.called(f"{below}/{wal_copies.packed(name)}") in lane.known.entries
    }
    newest = max(there, key=lambda one: (one.number, one.timeline), default=None)
    growing = _growing(attendance, source)
    end = (newest.number + 1) * size if newest else 0
    missing = {one for one in here.finished.values() if one} - set(there)
    if growing and not missing and growing.segment.number * size >= end:
        end = growing.segment.number * size + growing.copied
    confirmed = archive.read_confirmed(source.places)
    changes: dict[str, Any] = {"lsn": wal.format_lsn(end), "newest": there.get(newest, "") if newest else ""}
    if confirmed and not missing and confirmed.lsn <= end:
        changes["until"] = statefile.to_the_second(confirmed.time)
    attendance.known = replace(
        known, **{kind: getattr(known, kind) | {source.directory: value} for kind, value in changes.items()}
    )


def _note(attendance: Attendance, before: Lag, status: int, error: str, *, failures: int) -> None:
    """Write down how the turn went; where nothing but the time has changed, now and then."""
    now, known = datetime.now(timezone.utc), attendance.known
    tried = statefile.to_the_second(now)
    succeeded = before.succeeded if status else tried
    attendance.known = replace(known, tried=tried, succeeded=succeeded, failures=failures, status=status, error=error)
    if _matter(attendance.known) != attendance.written or not timedelta(0) <= now - attendance.at < _SELDOM:
        _write(attendance)


def _write(attendance: Attendance) -> None:
    attendance.written, attendance.at = _matter(attendance.known), datetime.now(timezone.utc)
    with suppress(OSError):  # the trouble may be a full disk, and this file is on it
        lag.write(attendance.lane.own, attendance.lane.name, attendance.known)


def _matter(known: Lag) -> Lag:
    return replace(known, tried=None, succeeded=None, until={})
