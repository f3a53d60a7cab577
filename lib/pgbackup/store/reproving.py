"""Which backups are read anew tonight, so that each is within REPROVE_DAYS, and no night has more to read than it must.

Pure: no file is touched or looked at here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import accumulate

_DAY = timedelta(days=1)
# Nights do not begin on the second: what has its age by noon is this night's, not the last one's.
_TONIGHT = timedelta(hours=12)


@dataclass(frozen=True)
class File:
    """A backup. taken: its own time. proven: when it was read last, None where that is not known."""

    name: str
    bytes: int
    taken: datetime
    proven: datetime | None


def tonight(files: Sequence[File], now: datetime, days: int, retention_days: int) -> list[str]:
    """Given all good backups of a database, return the names of those to read now, the longest unread first.

    days: REPROVE_DAYS. The portion is the smallest with which all can be in time, if each following night has the same:
    of what is due within n nights, the n-th part, and at least the largest file. Tonight has what the following nights
    cannot have. What was read anew in the last hours belongs to tonight already, and what expires before it is due is
    no part of it. Of what nothing is known, as after the loss of the state, all is due at once.
    """
    done = sum(file.bytes for file in files if _is_tonights(file, now))
    waiting = sorted(
        (_nights_left(file, now, days), file.proven or file.taken, file.name, file.bytes)
        for file in files
        if not _is_tonights(file, now)
        and not (file.proven and 0 < _nights_to_live(file, now, retention_days) <= _nights_left(file, now, days))
    )
    sums = list(accumulate((size for *_, size in waiting), initial=done))[1:]
    parts = [Fraction(due, left + 1) for due, (left, *_) in zip(sums, waiting, strict=True)]
    portion = max([*parts, *(Fraction(size) for *_, size in waiting)], default=Fraction(0))
    later = (due - left * portion for due, (left, *_) in zip(sums, waiting, strict=True))
    needed = max(later, default=Fraction(0)) - done
    chosen: list[str] = []
    for left, _, name, size in waiting:
        if needed <= 0 and left:
            break
        chosen.append(name)
        needed -= size
    return chosen


def _is_tonights(file: File, now: datetime) -> bool:
    """Whether it was read anew in this night already; what a new file was read for was its own backup."""
    return file.proven is not None and now - file.proven < _TONIGHT and file.proven - file.taken > _TONIGHT


def _nights_left(file: File, now: datetime, days: int) -> int:
    return max(0, (days * _DAY + _TONIGHT - (now - file.proven)) // _DAY) if file.proven else 0


def _nights_to_live(file: File, now: datetime, retention_days: int) -> int:
    """How many nights until it is too old; 0 and less where MIN_BACKUPS or a drill keeps it."""
    return (file.taken + retention_days * _DAY - now + _TONIGHT) // _DAY
