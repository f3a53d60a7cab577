"""What lies in a WAL archive, looked at once: to which moments it leads back, and whether it is as it should be."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pgbackup import wal
from pgbackup.errors import NoBackup
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal import base_backups, window
from pgbackup.store.wal.archive import Places, Receiver, State
from pgbackup.store.wal.base_backups import BaseBackupRecord
from pgbackup.store.wal.files import Files, OnDisk
from pgbackup.store.wal.window import BaseBackup, Confirmed, Window
from pgbackup.wal import Segment

# The receiver confirms every ten seconds how far the archive reaches.
_FRESH_SECONDS = 60


@dataclass(frozen=True)
class Archive:
    """files: gives what is in it. bases: by name, oldest first, with their records. wrong: names of others, and why
    they are none. segments: each that is there, and when it was written last. windows: oldest first.
    """

    files: Files
    state: State
    bases: dict[str, tuple[BaseBackup, BaseBackupRecord]]
    wrong: dict[str, str]
    segments: dict[Segment, datetime]
    windows: list[Window]
    receiver: Receiver | None

    @property
    def confirmed(self) -> Confirmed | None:
        return self.receiver.confirmed if self.receiver else None

    @property
    def names(self) -> dict[str, BaseBackup]:
        return {name: base for name, (base, _) in self.bases.items()}


@dataclass(frozen=True)
class OnThisDisk(Archive):
    """places: where it lies."""

    places: Places


def look(places: Places) -> OnThisDisk:
    """Read what there is. Raise NoBackup where nothing was set up, BackupBad for a damaged history file."""
    state = walarchive.read_state(places)
    if state is None:
        raise NoBackup(f"'{places.top.path}' is not a WAL archive", walarchive.SET_UP)
    bases, wrong = base_backups.listing(places.base, state.segment_bytes)
    receiver = walarchive.read_receiver(places)
    segments, unfinished = walarchive.segments(places, state.segment_bytes)
    windows = window.windows(
        [base for base, _ in bases.values()],
        segments,
        walarchive.histories(places),
        receiver.confirmed if receiver else None,
        state.segment_bytes,
        unfinished,
    )
    return OnThisDisk(OnDisk(places, state), state, bases, wrong, segments, windows, receiver, places)


def local(when: datetime) -> str:
    """An instant as people here read it, with the offset from UTC."""
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S%z}"


def counted(number: int, what: str) -> str:
    """A number of things, in words."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def described(windows: Sequence[Window]) -> list[str]:
    """The windows in words, oldest first, and the gaps between them."""
    lines: list[str] = []
    for number, each in enumerate(windows):
        if number:
            lines.append(f"  GAP           {local(windows[number - 1].until)} … {local(each.since)}")
        lines.append(
            f"  recoverable   {local(each.since)} … {local(each.until)}  ({counted(len(each.bases), 'base backup')})"
        )
    return lines or ["  nothing can be recovered: there is no base backup with its WAL"]


def values(windows: Sequence[Window]) -> list[dict[str, Any]]:
    """The windows as JSON values, oldest first. Pure."""
    return [
        {
            "since": each.since.isoformat(),
            "until": each.until.isoformat(),
            "lsn": wal.format_lsn(each.lsn),
            "confirmed": each.current,
            "bases": [base.name for base in each.bases],
        }
        for each in windows
    ]


def broken_off(archive: Archive) -> str:
    """Where WAL is missing after the newest base backup, so that nothing later can be recovered; or "". Pure."""
    if not archive.windows:
        return "there is no base backup with its WAL" if archive.bases else "there is no base backup"
    newest = archive.windows[-1]
    if problem := cut_off(archive):
        return f"{problem}: nothing after {local(newest.until)} can be recovered, until the next base backup"
    latest = list(archive.bases)[-1]
    if latest not in [base.name for base in newest.bases]:
        return f"the newest base backup '{latest}' lacks the WAL or the other base backup that it needs"
    return ""


def cut_off(archive: Archive) -> str:
    """Why the last window ends before what has been archived, or "". Pure."""
    size, newest = archive.state.segment_bytes, archive.windows[-1]
    end, last = wal.segment_name(newest.last, size), max(archive.segments)
    if newest.last.number < last.number:
        return f"WAL is missing after '{end}', but '{wal.segment_name(last, size)}' is there"
    if archive.confirmed and archive.confirmed.lsn > (newest.last.number + 1) * size:
        return f"WAL is missing after '{end}', but it was archived up to {wal.format_lsn(archive.confirmed.lsn)}"
    return ""


def complaints(archive: Archive, base_every_days: int, now: datetime) -> list[str]:
    """What is wrong with an archive: what of it is lost, why it does not reach to now, or only by a long way. Pure."""
    found = [*lost(archive), *behind(archive, now)]
    newest = newest_by(archive, now)
    if archive.state.active and newest and now - newest.ended > timedelta(days=base_every_days + 1):
        found.append(f"the newest base backup is from {local(newest.ended)}: does a schedule run backup-postgres.sh?")
    if archive.bases and newest is None:
        found.append("all base backups are dated later than now: is the clock right?")
    return found


def newest_by(archive: Archive, now: datetime) -> BaseBackup | None:
    """The newest base backup that is not dated a day or more later than now: of such a one no age is known. Pure."""
    past = [base for base in archive.names.values() if base.ended - now < timedelta(days=1)]
    return max(past, key=lambda base: base.ended, default=None)


def lost(archive: Archive) -> list[str]:
    """What nobody brings back: base backups that are damaged, and times of which WAL is missing. Pure."""
    found = unreadable(archive)
    for earlier, later in itertools.pairwise(archive.windows):
        between = f"between {local(earlier.until)} and {local(later.since)}"
        found.append(f"nothing {between} can be recovered: WAL is missing")
    return found


def unreadable(archive: Archive) -> list[str]:
    """What lies among the base backups and cannot be read as one: while it does, nothing expires. Pure."""
    return [f"'{name}' is not a base backup: {reason}" for name, reason in archive.wrong.items()]


def behind(archive: Archive, now: datetime) -> list[str]:
    """Why an archive that is being received does not lead from a base backup to now, or nothing. Pure."""
    problem = broken_off(archive)
    found = [problem] if problem else []
    receiver = archive.receiver
    if not archive.state.active:
        return found
    if receiver and receiver.base_trouble:
        found.append(f"no base backup could be made: {receiver.base_trouble}")
    if receiver is None or receiver.confirmed is None:
        trouble = f": {receiver.trouble}" if receiver and receiver.trouble else ""
        found.append(f"nothing was received yet{trouble}")
        return found
    # By the server's clock and by this host's, which may both be wrong.
    last = min(receiver.confirmed.time, receiver.checked or receiver.confirmed.time)
    if now - last > timedelta(seconds=_FRESH_SECONDS):
        why = receiver.trouble or "the receiver reports nothing; is it running?"
        found.append(f"nothing was received since {local(last)}: {why}")
    elif receiver.checked and receiver.checked - now > timedelta(seconds=_FRESH_SECONDS):
        found.append(f"the receiver's last report is dated {local(receiver.checked)}, later than now; is it running?")
    return found
