"""Where a recovery stops: what the recovering server is told, and what must then have been reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from pgbackup import wal
from pgbackup.commands.recover.aim import Aim
from pgbackup.database.cluster.recovery import Reached, TargetNotReached
from pgbackup.errors import BackupBad
from pgbackup.formats.cluster import timelines, wal_records
from pgbackup.formats.cluster.wal_records import Cut, Last
from pgbackup.store.wal.recoverable import Archive, local
from pgbackup.store.wal.window import BaseBackup, Window
from pgbackup.wal import Segment


@dataclass(frozen=True)
class Stop:
    """settings: for the recovering server, none for all WAL. least: the position that must be reached. last: when the
    last transaction ended that is to be there; None where nobody knows it before. seen: the archive has it, so that not
    to reach it is damage.
    """

    settings: dict[str, str] = field(default_factory=dict)
    least: int = 0
    last: datetime | None = None
    seen: bool = False


def stops(archive: Archive, within: Window, base: BaseBackup, aim: Aim) -> Iterator[Stop]:
    """Yield where to stop, and where else should WAL end before that. Raise TargetNotReached, BackupBad."""
    # Before a gap nobody knows how far the last segment is filled.
    least = within.lsn if within.current else within.last.number * archive.state.segment_bytes
    if aim.moment:
        yield _behind(_cut(archive, within, base, aim.moment), within, base)
        return
    if aim.kind == "latest":
        yield Stop(least=least)
        return
    # Of an idle database: the receiver has confirmed that there is no more WAL. Or a window's end was asked for.
    at_the_end = aim.position is not None and (within.current or aim.position == within.lsn)
    if aim.position is not None and at_the_end:
        found = _last(archive, within, base, aim.position)
        if found.record is not None and found.record < aim.position <= found.end:
            yield Stop({"recovery_target_lsn": wal.format_lsn(found.record)}, found.record, seen=True)
            return
    yield Stop(
        {f"recovery_target_{aim.kind}": aim.text}, aim.position or 0
    )  # PostgreSQL manual, 20.5.6 Recovery Target
    if at_the_end:
        yield Stop(least=least)


def _behind(found: Cut, within: Window, base: BaseBackup) -> Stop:
    """Stop right behind the last end of a transaction, for what is in no transaction may come next. Pure."""
    if not found.passed and not within.current:
        raise TargetNotReached("the archived WAL ends before the recovery target")
    if not found.passed and found.end < within.lsn:
        raise BackupBad(
            f"WAL can be read up to {wal.format_lsn(found.end)}, but the archive reaches to"
            f" {wal.format_lsn(within.lsn)}: it is damaged"
        )
    if found.last is None or found.last.lsn < base.stop:
        return Stop({"recovery_target": "immediate"}, seen=True)
    settings = {"recovery_target_lsn": wal.format_lsn(found.last.lsn)}
    return Stop(settings, found.last.lsn, found.last.time, seen=True)


def _cut(archive: Archive, within: Window, base: BaseBackup, until: datetime) -> Cut:
    path = _path(archive, within, base)
    near = next((at for at, each in enumerate(path) if archive.segments[each] > until), len(path) - 1)
    return wal_records.cut(path, archive.state.segment_bytes, partial(_read, archive), until, near)


def _last(archive: Archive, within: Window, base: BaseBackup, position: int) -> Last:
    path, size = _path(archive, within, base), archive.state.segment_bytes
    near = position // size - base.began.number
    return wal_records.last(path, size, partial(_read, archive), position, near)


def _path(archive: Archive, within: Window, base: BaseBackup) -> list[Segment]:
    """The segments that are replayed from the base backup to the window's end."""
    size, histories = archive.state.segment_bytes, archive.files.histories()
    timeline = timelines.newest_timeline(base.began, histories, size)
    path = timelines.path(base.began, archive.segments, histories.get(timeline, ()), timeline, size)
    return list(path)[: within.last.number - base.began.number + 1]


def _read(archive: Archive, segment: Segment) -> bytes:
    name = wal.segment_name(segment, archive.state.segment_bytes)
    content = archive.files.hand_out(name)
    if content is None:
        raise BackupBad(f"the segment '{name}' has disappeared", "run it again")
    return content


def check(stop: Stop, aim: Aim, reached: Reached) -> None:
    """Raise BackupBad unless the server has ended where it was to. Pure."""
    if aim.moment and reached.time and reached.time > aim.moment:
        raise BackupBad(f"recovery went too far: to {local(reached.time)}, and {local(aim.moment)} was asked for")
    if reached.lsn < stop.least:
        where = f"recovery has ended at {wal.format_lsn(reached.lsn)}"
        if stop.settings:
            raise BackupBad(f"{where}, before {wal.format_lsn(stop.least)}")
        raise BackupBad(f"{where}, but the archive reaches to {wal.format_lsn(stop.least)}: WAL is damaged")
