"""What all promises with an age limit have in common."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pgbackup.report.promises.limits import CLOCK_SLACK_SECONDS
from pgbackup.report.promises.promise import BROKEN, KEPT, NOT_WANTED, Promise
from pgbackup.report.result import age


@dataclass(frozen=True)
class Aged:
    """A promise that something was done not long ago. limit: seconds. what: was done, as "the newest good backup"."""

    kind: str
    subject: str
    limit: float
    what: str
    remedy: str

    def judged(self, last: datetime | None, now: datetime, begun: datetime | None = None) -> Promise:
        """The promise, by when it was last fulfilled. begun: since when it could have been, None: always. Pure."""
        if last is None:
            return self._never(now, begun)
        old = (now - last).total_seconds()
        if old < -CLOCK_SLACK_SECONDS:
            reason = f"{self.what} is dated {age(-old)} later than now: the clock was set back, or was ahead then"
            return self.broken(reason, last, None, remedy="set the clock, and see whether it keeps time: timedatectl")
        if old <= self.limit:
            return self.kept(f"{self.what} is {age(max(0.0, old))} old", last)
        since = last + timedelta(seconds=self.limit)
        return self.broken(
            f"{self.what} is {age(old)} old, more than {span(self.limit)}", last, since, old - self.limit
        )

    def _never(self, now: datetime, begun: datetime | None) -> Promise:
        due = begun + timedelta(seconds=self.limit) if begun else None
        if due and now <= due:
            return self.kept(f"{self.what}: none yet, and none is due before {due:%Y-%m-%d %H:%M} UTC", None)
        past = (now - due).total_seconds() if due else 0.0
        return self.broken(f"{self.what}: there is none", None, due, past)

    def kept(self, reason: str, last: datetime | None) -> Promise:
        return Promise(self.kind, self.subject, KEPT, last, self.limit, None, 0.0, reason, "")

    def broken(
        self, reason: str, last: datetime | None, since: datetime | None, by: float = 0.0, remedy: str = ""
    ) -> Promise:
        return Promise(self.kind, self.subject, BROKEN, last, self.limit, since, by, reason, remedy or self.remedy)

    def not_wanted(self, reason: str) -> Promise:
        return Promise(self.kind, self.subject, NOT_WANTED, None, None, None, 0.0, reason, "")


def span(seconds: float) -> str:
    """A limit for people: 26 h, 8 d, 15 min. Pure."""
    if seconds < 5400:
        return f"{seconds / 60:g} min"
    return f"{seconds / 86400:g} d" if seconds >= 172_800 and seconds % 86400 == 0 else f"{seconds / 3600:g} h"
