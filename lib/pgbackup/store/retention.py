"""Which backups expire. Pure: no file is touched or looked at here, no modification time counts.

A backup expires when it is older than RETENTION_DAYS and at least MIN_BACKUPS newer good ones remain. What is
bad, or made by hand (`_manual_`), ages by the same rule and never counts as one of those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


class Aging(Protocol):
    """What the rule needs to know of a backup. taken: an instant in UTC."""

    @property
    def name(self) -> str: ...
    @property
    def taken(self) -> datetime: ...
    @property
    def manual(self) -> bool: ...


@dataclass(frozen=True)
class Policy:
    days: int
    minimum: int


@dataclass(frozen=True)
class Decision:
    """name: of the file. reason: half a sentence for the dry run and the log."""

    name: str
    keep: bool
    reason: str


def decide(
    backups: Sequence[Aging], policy: Policy, now: datetime, is_good: Callable[[str], bool], drilled: str = ""
) -> list[Decision]:
    """Given all backups of one database, newest first, return a decision for each, in the same order.

    is_good(name): whether that backup was proven good. It may be dear (it reads the file), so it is asked, newest
    first, only where something is old enough to expire, and only until MIN_BACKUPS good ones are known. drilled: the
    newest backup that was really loaded once, which stays until a newer one was.
    """
    if backups and now < backups[0].taken:
        reason = f"the clock is behind the newest backup, '{backups[0].name}': nothing expires"
        return [Decision(backup.name, keep=True, reason=reason) for backup in backups]
    limit = timedelta(days=policy.days)
    young = sum(now - backup.taken <= limit for backup in backups)
    decisions, good = [], 0
    for number, backup in enumerate(backups):
        age = f"{(now - backup.taken) / timedelta(days=1):.1f} days old"
        if now - backup.taken <= limit:
            decisions.append(Decision(backup.name, keep=True, reason=f"{age}, within RETENTION_DAYS={policy.days}"))
        elif backup.name == drilled:
            decisions.append(Decision(backup.name, keep=True, reason=f"{age}, but no newer one has passed a drill"))
        elif good >= policy.minimum:
            decisions.append(Decision(backup.name, keep=False, reason=f"{age}, and {good} newer good ones remain"))
        else:
            reason = f"{age}, but only {good} newer good ones, and {policy.minimum} are to remain"
            decisions.append(Decision(backup.name, keep=True, reason=reason))
        may_protect = young < len(backups) and number + 1 < len(backups)
        if may_protect and good < policy.minimum and not backup.manual and is_good(backup.name):
            good += 1
    return decisions
