"""Which backups are to be copied to a place, what there is not as it should be, and which copies expire. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgbackup.commands.offsite.judging import Seen
from pgbackup.remotes.place import CLOCKS_DIFFER, Object
from pgbackup.settings.config import Target
from pgbackup.store import retention
from pgbackup.store.catalog import Backup
from pgbackup.store.offsite.index import Entry
from pgbackup.store.retention import Policy


@dataclass(frozen=True)
class Source:
    """A backup that is published and proven. name: of the object that it becomes."""

    target: Target
    backup: Backup
    name: str


@dataclass(frozen=True)
class Decision:
    """to_copy: in the order in which they go. there: that are copies already. gone: of to_copy, those that were there.

    problems: of what lies there under the name of a backup of ours and is not what was sent, by name.
    """

    to_copy: list[Source]
    there: list[Source]
    gone: list[Source]
    problems: dict[str, str]


def is_proven(backup: Backup) -> bool:
    """Whether this suite has made the file and read it back: one made by hand has no manifest to say so."""
    return backup.manifest is not None and not backup.problem


def decide(sources: Sequence[Source], entries: Mapping[str, Entry], there: Mapping[str, Object]) -> Decision:
    """Given proven backups, what was confirmed, and what the place lists by name, say what is to be done.

    The newest go first: they are what a loss of this host is answered with.
    """
    decision = Decision([], [], [], {})
    for source in sorted(sources, key=lambda one: one.backup.taken, reverse=True):
        sent, found = entries.get(source.name), there.get(source.name)
        if found is None:
            decision.to_copy.append(source)
            decision.gone.extend([source] * (sent is not None))
        elif sent is None:
            decision.problems[source.name] = "something lies there under its name that this host has not sent"
        elif sent.bytes != found.bytes:
            decision.problems[source.name] = f"it has {found.bytes:,} bytes there, and {sent.bytes:,} were sent"
        else:
            decision.there.append(source)
    return decision


def expiring(
    seen: Sequence[Seen], sent: Container[str], here: Container[str], policy: Policy, now: datetime
) -> list[retention.Decision]:
    """Given the copies of one database, newest name first, return a decision for each, in the same order.

    sent: what the index has; here: the copies of backups that are still on this host. A copy counts, and may go, only
    when this host has sent it and the place says nothing else of it. Its age is that of its name or of its arrival by
    the place's clock, whichever is less: a date in a name alone proves nothing (restic#22057).
    """
    good = [one for one in seen if not one.problem and one.found.name in sent]
    newest = max((_younger(one) for one in good), default=None)
    stopped = ""
    if newest and newest > now + CLOCKS_DIFFER:
        stopped = "the clock is behind the newest copy: nothing expires"
    elif newest and now - newest > timedelta(days=policy.days):
        stopped = f"no copy has come for RETENTION_DAYS={policy.days}: nothing expires"
    decisions, newer = [], 0
    for one in seen:
        name, age = one.found.name, now - _younger(one)
        told = f"{age / timedelta(days=1):.1f} days old"
        if one.problem or name not in sent:
            keep, reason = True, f"left as it is: {one.problem or 'this host has not sent it'}"
        elif stopped:
            keep, reason = True, stopped
        elif name in here:
            keep, reason = True, "its backup is still on this host"
        elif age <= timedelta(days=policy.days):
            keep, reason = True, f"{told}, within RETENTION_DAYS={policy.days}"
        elif newer < policy.minimum:
            keep, reason = True, f"{told}, but only {newer} newer good ones, and {policy.minimum} are to remain"
        else:
            keep, reason = False, f"{told}, and {newer} newer good ones remain"
        decisions.append(retention.Decision(name, keep, reason))
        newer += not one.problem and name in sent and not one.manual
    return decisions


def _younger(one: Seen) -> datetime:
    """The later of the two times that a copy has."""
    return max(one.taken, one.found.modified)
