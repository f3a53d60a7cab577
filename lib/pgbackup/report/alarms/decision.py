"""What is told: a promise that breaks, once; what is still broken, daily; one that is kept again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgbackup.report.promises.promise import BROKEN, TITLES, Promise
from pgbackup.report.promises.status import Status

REMINDER = timedelta(days=1)
Told = Mapping[str, tuple[datetime, datetime]]


@dataclass(frozen=True)
class Again:
    """A promise that was broken and no longer is. since: when it broke; promise: None where nobody wants it now."""

    key: str
    since: datetime
    promise: Promise | None


@dataclass(frozen=True)
class Notice:
    """One message's content. broken: for the first time; still: all that is still broken, once a day; kept: again."""

    broken: tuple[Promise, ...] = ()
    still: tuple[Promise, ...] = ()
    kept: tuple[Again, ...] = ()

    @property
    def level(self) -> str:
        """Which of the levels of a message it has."""
        return "broken" if self.broken else "reminder" if self.still else "kept"


def name_of(key: str) -> str:
    """Given a promise's key, return what people call it: `backup made (auth)`."""
    kind, _, subject = key.partition(":")
    return TITLES.get(kind, kind) + (f" ({subject})" if subject else "")


def decide(told: Told, status: Status) -> tuple[dict[str, tuple[datetime, datetime]], Notice | None]:
    """Given what was told before (since when it is broken, when that was last told), return what then is told, and the
    one message for it, None for nothing.

    A moment of the future, of a clock that was ahead, counts as now: a reminder must not wait for it.
    """
    now = status.now
    before = {key: (min(since, now), min(last, now)) for key, (since, last) in told.items()}
    there = {promise.key: promise for promise in status.promises}
    fresh = [one for one in status.promises if one.key not in before and one.is_to_be_told(now)]
    known = [one for one in status.promises if one.key in before and one.state == BROKEN]
    kept = [
        Again(key, since, there.get(key))
        for key, (since, _) in before.items()
        if key not in there or there[key].state != BROKEN
    ]
    due = any(now - before[one.key][1] >= REMINDER for one in known)
    after = {one.key: (before[one.key][0], now if due else before[one.key][1]) for one in known}
    after |= {one.key: (min(one.since or now, now), now) for one in fresh}
    still = tuple(known) if due else ()
    if not (fresh or still or kept):
        return after, None
    return after, Notice(tuple(fresh), still, tuple(kept))
