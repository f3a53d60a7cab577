"""How old what is promised may become."""

from __future__ import annotations

from dataclasses import dataclass

HOUR, DAY = 3600.0, 86400.0

# A clock that was set back by less than this is none that anybody set back.
CLOCK_SLACK_SECONDS = 300.0
# A host that was down or asleep makes up for its runs now: what broke meanwhile is told after this.
AWAKE_SECONDS = 2 * HOUR
# A run that is under way mends what broke since it began, unless it takes longer than this.
RUNNING_SECONDS = 6 * HOUR


@dataclass(frozen=True)
class Limits:
    """In seconds, by kind of promise; they are settings where an operator may have reasons of their own.

    drill: None where no drill is wanted. base: beyond BASE_EVERY_DAYS of the cluster. overdue: how late a schedule's
    next run may be.
    """

    backup: float = 26 * HOUR
    verify: float = 8 * DAY
    drill: float | None = 8 * DAY
    copy: float = 30 * HOUR
    wal: float = 900.0
    wal_copy: float = HOUR
    base: float = 26 * HOUR
    key: float = 200 * DAY
    alarm: float = 100 * DAY
    coverage: float = 26 * HOUR
    overdue: float = HOUR
