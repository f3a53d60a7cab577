"""The one evaluator of promises: facts, an instant and limits in; promises out. Pure: it reads no clock and no disk."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from pgbackup.report.promises import about_databases, about_host
from pgbackup.report.promises.facts import Facts
from pgbackup.report.promises.limits import AWAKE_SECONDS, RUNNING_SECONDS, Limits
from pgbackup.report.promises.promise import (
    ALARM,
    BACKUP,
    BROKEN,
    COPY,
    COVERAGE,
    KEPT,
    KEY,
    KINDS,
    ROOM,
    STATE,
    Promise,
)
from pgbackup.report.promises.rescue import rescues
from pgbackup.report.promises.status import Status

_ORDER = {BROKEN: 0, KEPT: 1}
# What a run that is due again does not mend.
_NOT_BY_A_RUN = (STATE, KEY, ALARM, ROOM, COVERAGE)


def status(facts: Facts, now: datetime, limits: Limits) -> Status:
    """Return the whole status. now: an instant in UTC. Pure."""
    return Status(now, facts, tuple(evaluate(facts, now, limits)), tuple(rescues(facts)))


def evaluate(facts: Facts, now: datetime, limits: Limits) -> list[Promise]:
    """Return every promise, broken ones first, then kept ones, then those that nobody wants. Pure."""
    promises = [
        *about_host.promises(facts, now, limits),
        *(
            promise
            for each in facts.databases
            for promise in about_databases.promises(each, now, limits, facts.backup_dir)
        ),
    ]
    found = [_with_grace(promise, facts, now) for promise in promises]
    return sorted(found, key=lambda one: (_ORDER.get(one.state, 2), KINDS.index(one.kind)))


def _with_grace(promise: Promise, facts: Facts, now: datetime) -> Promise:
    """The same, with the instant from which it is told: what broke while the host was down, or while a run that mends
    it is under way, may be mended in a moment.
    """
    if promise.state != BROKEN or promise.since is None or promise.kind in _NOT_BY_A_RUN:
        return promise
    until = []
    while_away = facts.away_since is None or promise.since > facts.away_since
    if facts.awake_since and while_away and not _was_found(promise, facts.awake_since, now):
        until.append(facts.awake_since + timedelta(seconds=AWAKE_SECONDS))
    if promise.kind in (BACKUP, COPY):
        running = [
            each.running
            for each in facts.databases
            if each.running and (promise.kind == COPY or each.name == promise.subject)
        ]
        until += [begun + timedelta(seconds=RUNNING_SECONDS) for begun in running if promise.since > begun]
    return replace(promise, tell_from=max(until)) if until else promise


def _was_found(promise: Promise, awake_since: datetime, now: datetime) -> bool:
    """Whether it broke by what was found since the host is up, as a run that failed, and not because a run was missed:
    what has only grown too old is as long past its limit as it is broken.
    """
    assert promise.since is not None  # noqa: S101  asked only of one whose moment is known
    return promise.since > awake_since and abs((now - promise.since).total_seconds() - promise.by) > 1
