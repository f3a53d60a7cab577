"""To which moments a cluster can be recovered, from which base backup, and what is not needed for it any more. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgbackup import wal
from pgbackup.formats.cluster import timelines
from pgbackup.formats.cluster.timelines import Switch
from pgbackup.wal import Segment


@dataclass(frozen=True)
class BaseBackup:
    """A base backup.

    began: the segment that recovery from it begins with. stop: the position (LSN) that recovery has to reach before the
    copy is whole. ended: an instant after that, by the server's clock. parent: the name of the base backup that an
    incremental one builds upon, or "".
    """

    name: str
    began: Segment
    stop: int
    ended: datetime
    parent: str = ""


@dataclass(frozen=True)
class Confirmed:
    """At that instant everything up to that position (LSN) was in the archive, and there was no more."""

    time: datetime
    lsn: int


@dataclass(frozen=True)
class Window:
    """A time without a gap. bases: oldest first. until, lsn: the last moment and position that can surely be recovered.

    last: the segment that it ends in. current: the receiver has confirmed `until`; else that is when the last segment
    was finished, and nothing later than that can be in it.
    """

    bases: tuple[BaseBackup, ...]
    until: datetime
    lsn: int
    last: Segment
    current: bool

    @property
    def since(self) -> datetime:
        """The first moment that can be recovered."""
        return self.bases[0].ended


def windows(
    bases: Sequence[BaseBackup],
    times: Mapping[Segment, datetime],
    histories: Mapping[int, Sequence[Switch]],
    confirmed: Confirmed | None,
    segment_bytes: int = wal.SEGMENT_BYTES,
    unfinished: Collection[Segment] = (),
) -> list[Window]:
    """Return the windows, oldest first. times: each segment that is there, and when it was written last; unfinished:
    which of them are not whole, so that nothing behind them belongs to the same window.

    A base whose WAL is not there to its stop, or whose parent is gone, opens none.
    """
    by_end: dict[Segment, list[BaseBackup]] = {}
    names = {base.name: base for base in bases}
    ends = _ends(bases, times, histories, segment_bytes, unfinished)
    for base in sorted(bases, key=lambda base: (base.ended, base.name)):
        last = ends[base.name]
        if last and base.stop <= (last.number + 1) * segment_bytes and _whole(base, names):
            by_end.setdefault(last, []).append(base)
    return [_window(last, of_it, times[last], confirmed, segment_bytes) for last, of_it in by_end.items()]


def _ends(
    bases: Sequence[BaseBackup],
    times: Mapping[Segment, datetime],
    histories: Mapping[int, Sequence[Switch]],
    segment_bytes: int,
    unfinished: Collection[Segment],
) -> dict[str, Segment | None]:
    """Where WAL ends that leads on from each base. The newest first: the way of an older one leads into its own."""
    ends: dict[str, Segment | None] = {}
    known: dict[int, dict[Segment, Segment]] = {}
    for base in sorted(bases, key=lambda base: base.began.number, reverse=True):
        timeline = timelines.newest_timeline(base.began, histories, segment_bytes)
        on_the_way = known.setdefault(timeline, {})
        switches = histories.get(timeline, ())
        last = timelines.reach(base.began, times, switches, timeline, segment_bytes, unfinished, on_the_way)
        ends[base.name] = last
        if last:
            on_the_way[base.began] = last
    return ends


def _whole(base: BaseBackup, names: Mapping[str, BaseBackup]) -> bool:
    """Whether all that it builds upon is there: the last one of its line builds upon nothing."""
    oldest = lineage(base, names)[-1]
    return not (base if oldest == base.name else names[oldest]).parent


def _window(
    last: Segment, bases: Sequence[BaseBackup], written: datetime, confirmed: Confirmed | None, segment_bytes: int
) -> Window:
    end = (last.number + 1) * segment_bytes
    # What was received since the last confirmation goes further, but nobody knows up to when.
    if confirmed and bases[0].stop <= confirmed.lsn <= end:
        return Window(tuple(bases), confirmed.time, confirmed.lsn, last, current=True)
    return Window(tuple(bases), written, end, last, current=False)


def base_at(found: Sequence[Window], when: datetime) -> tuple[Window, BaseBackup] | None:
    """Return the newest base from which `when` can be recovered, with its window; None outside of all windows."""
    fitting = [
        (window, base)
        for window in found
        for base in window.bases
        if base.ended <= when <= max(window.until, base.ended)
    ]
    return max(fitting, key=lambda pair: (pair[1].ended, pair[1].name), default=None)


def base_before(found: Sequence[Window], lsn: int) -> tuple[Window, BaseBackup] | None:
    """Return the newest base from which position `lsn` can be recovered, with its window; None outside of all."""
    fitting = [(window, base) for window in found for base in window.bases if base.stop <= lsn <= window.lsn]
    return max(fitting, key=lambda pair: (pair[1].stop, pair[1].name), default=None)


def expired(bases: Sequence[BaseBackup], days: int, now: datetime) -> list[BaseBackup]:
    """Return the bases that no moment of the last `days` needs, oldest first; never the newest one.

    The newest of those that are older stays, for it is where the oldest moments are recovered from; and what an
    incremental one builds upon stays with it. One dated later than now is not counted upon.
    """
    ordered = sorted(bases, key=lambda base: (base.ended, base.name))
    old = [base for base in ordered if base.ended <= now - timedelta(days=days)]
    # The newest old one, and everything younger.
    kept = [*old[-1:], *(base for base in ordered if base not in old)] or ordered[-1:]
    names = {base.name: base for base in ordered}
    needed = {name for base in kept for name in lineage(base, names)}
    return [base for base in ordered if base.name not in needed]


def lineage(base: BaseBackup, names: Mapping[str, BaseBackup]) -> list[str]:
    """The names of a base and of all that it builds upon, the newest first."""
    found = [base.name]
    while base.parent and base.parent in names and base.parent not in found:
        base = names[base.parent]
        found.append(base.name)
    return found


def unneeded(segments: Sequence[Segment], kept: Sequence[BaseBackup]) -> list[Segment]:
    """Return the segments that come before everything that the kept bases need; none without a base.

    Timelines are not looked at, as pg_archivecleanup does not (PostgreSQL manual, pg_archivecleanup).
    """
    if not kept:
        return []
    first = min(base.began.number for base in kept)
    return sorted(segment for segment in segments if segment.number < first)
