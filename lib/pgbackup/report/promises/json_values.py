"""The status as JSON values: docs/json.md, backup-status.sh. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pgbackup.report.promises.facts import Archive, Backup, Copies, Database, Facts
from pgbackup.report.promises.promise import BROKEN, KEPT, Promise
from pgbackup.report.promises.status import Rescue, Status
from pgbackup.report.result import instant
from pgbackup.store.state.ledger import Exercise, Run

_MOST_BACKUPS, _MOST_ATTEMPTS, _MOST_EXERCISES = 30, 10, 10


def contents(status: Status) -> dict[str, Any]:
    """Return what the document has besides what every document has."""
    facts = status.facts
    return {
        "now": instant(status.now),
        "host": status.host,
        "backup_dir": facts.backup_dir,
        "kept": sum(promise.state == KEPT for promise in status.promises),
        "broken": sum(promise.state == BROKEN for promise in status.promises),
        "promises": [_promise(one) for one in status.promises],
        "rescues": [_rescue(one) for one in status.rescues],
        "databases": [_database(one) for one in facts.databases],
        "copies": [_copies(one) for one in facts.copies],
        "archives": [_archive(one) for one in facts.archives],
        "keys": [{"recipient": one.recipient, "proven": _at(one.proven)} for one in facts.keys],
        "schedules": [
            {
                "what": one.what,
                "how": one.how,
                "next": _at(one.next),
                "interval_seconds": one.interval,
                "problem": one.problem,
            }
            for one in facts.schedules
        ],
        **_host(facts),
    }


def _at(moment: datetime | None) -> str | None:
    return instant(moment) if moment else None


def _promise(one: Promise) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "subject": one.subject,
        "state": one.state,
        "last": _at(one.last),
        "limit_seconds": one.limit,
        "since": _at(one.since),
        "by_seconds": round(one.by, 1),
        "reason": one.reason,
        "remedy": one.remedy,
        "tell_from": _at(one.tell_from),
    }


def _rescue(one: Rescue) -> dict[str, Any]:
    return {
        "name": one.name,
        "moment": _at(one.moment),
        "why": one.why,
        "place": one.place,
        "file": one.file,
        "encrypted": one.encrypted,
        "recipients": list(one.recipients),
        "proven": _at(one.proven),
        "restore_seconds": one.seconds,
        "measured": one.measured,
        "fetched": one.fetched,
        "drilled": _at(one.drilled),
        "by_wal": one.by_wal,
    }


def _database(one: Database) -> dict[str, Any]:
    return {
        "name": one.name,
        "database": one.database,
        "container": one.container,
        "directory": one.directory,
        "files": one.files,
        "file_bytes": one.bytes,
        "verified": _at(one.verified),
        "drilled": _at(one.drilled),
        "running": _at(one.running),
        "backups": [_backup(each) for each in one.backups[:_MOST_BACKUPS]],
        "attempts": [_attempt(each) for each in one.attempts[:_MOST_ATTEMPTS]],
        "exercises": [_exercise(each) for each in one.exercises[:_MOST_EXERCISES]],
    }


def _backup(one: Backup) -> dict[str, Any]:
    return {
        "file": one.file,
        "taken": instant(one.taken),
        "file_bytes": one.bytes,
        "sql_bytes": one.sql_bytes,
        "rows": one.rows,
        "seconds": one.seconds,
        "verified": _at(one.verified),
        "problem": one.problem,
        "drilled": _at(one.drilled),
        "drill_failed": one.drill_failed,
    }


def _attempt(one: Run) -> dict[str, Any]:
    return {
        "ended": instant(one.ended),
        "status": one.status,
        "seconds": one.seconds,
        "file": one.file,
        "error": one.error,
    }


def _exercise(one: Exercise) -> dict[str, Any]:
    return {
        "started": instant(one.started),
        "action": one.action,
        "status": one.status,
        "file": one.file,
        "place": one.place,
        "who": one.who,
        "phases": dict(one.phases),
        "restore_seconds": one.restore_seconds,
        "rows": one.rows,
        "outcome": one.outcome,
    }


def _copies(one: Copies) -> dict[str, Any]:
    return {
        "place": one.place,
        "required": one.required,
        "encrypted": one.encrypted,
        "newest": {name: instant(when) for name, when in one.newest.items()},
        "wal": {directory: instant(when) for directory, when in one.wal.items()},
        "succeeded": _at(one.succeeded),
        "tried": _at(one.tried),
        "failures": one.failures,
        "error": one.error,
        "objects": one.objects,
        "object_bytes": one.bytes,
    }


def _archive(one: Archive) -> dict[str, Any]:
    return {
        "directory": one.directory,
        "names": list(one.names),
        "since": _at(one.since),
        "until": _at(one.until),
        "confirmed": _at(one.confirmed),
        "base": _at(one.base),
        "base_bytes": one.base_bytes,
        "bases": one.bases,
        "trouble": one.trouble,
        "gap": one.gap,
    }


def _host(facts: Facts) -> dict[str, Any]:
    disk, coverage, alarms = facts.disk, facts.coverage, facts.alarms
    return {
        "disk_free_bytes": disk.free if disk else None,
        "disk_total_bytes": disk.total if disk else None,
        "disk_wanted_bytes": disk.wanted if disk else None,
        "probed": _at(coverage.probed) if coverage else None,
        "servers": coverage.servers if coverage else None,
        "found": coverage.databases if coverage else None,
        "findings": [
            {
                "kind": one.kind,
                "container": one.container,
                "database": one.database,
                "what": one.what,
                "ignored": one.ignored,
                "harmless": one.harmless,
            }
            for one in (coverage.findings if coverage else ())
        ],
        "alarm_channels": alarms.channels,
        "alarms_tested": _at(alarms.tested),
        "alarms_undelivered": alarms.undelivered,
        "alarms_lost": alarms.lost,
    }
