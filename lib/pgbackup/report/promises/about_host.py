"""The promises about the host: state, copies, WAL, keys, alarms, room, schedules, coverage. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from pgbackup.report.promises.aged import Aged
from pgbackup.report.promises.facts import Archive, Copies, Coverage, Database, Facts, Finding, Schedule
from pgbackup.report.promises.limits import DAY, Limits
from pgbackup.report.promises.promise import (
    ALARM,
    BASE,
    BROKEN,
    COPY,
    COVERAGE,
    KEPT,
    KEY,
    NOT_WANTED,
    ROOM,
    SCHEDULE,
    STATE,
    WAL,
    Promise,
)
from pgbackup.report.result import size

_SET_UP = {"offsite": "sudo setup-offsite.sh", "status": "sudo setup-alerts.sh"}
_SET_UP_OTHERS = "sudo setup-backup-systemd.sh; without systemd: sudo setup-backup-cron.sh"
_MOST_NAMED = 3
_UNREADABLE = ("unreadable", "large objects")
_KEY_LETTERS = 12


def promises(facts: Facts, now: datetime, limits: Limits) -> list[Promise]:
    """Return the promises about the host. Pure."""
    found = [_state(facts), _room(facts), _alarm(facts, now, limits), _coverage(facts.coverage, now, limits)]
    found += [_copy(one, facts.databases, now, limits) for one in facts.copies]
    if not facts.copies:
        found.append(_plain(COPY, "", NOT_WANTED, "OFFSITE names no place: if this host dies, nothing comes back"))
    for archive in facts.archives:
        found += [_wal(archive, now, limits), _base(archive, now, limits)]
    for key in facts.keys:
        prove = "sudo setup-encryption.sh --prove"
        what = f"the last proof that '{key.recipient[:_KEY_LETTERS]}…' can be decrypted"
        found.append(Aged(KEY, key.recipient, limits.key, what, prove).judged(key.proven, now))
    return found + [_schedule(one, now, limits) for one in facts.schedules]


def _plain(
    kind: str, subject: str, state: str, reason: str, remedy: str = "", since: datetime | None = None
) -> Promise:
    return Promise(kind, subject, state, None, None, since, 0.0, reason, remedy)


def _state(facts: Facts) -> Promise:
    unknown: dict[str, tuple[str, str]] = dict(facts.unknown)
    for some in (
        *(each.unknown for each in facts.databases),
        *(each.unknown for each in facts.copies),
        *(each.unknown for each in facts.archives),
    ):
        unknown |= some
    if not unknown:
        return _plain(STATE, "", KEPT, "all that the commands have noted can be read")
    why, remedy = next(iter(unknown.values()))
    more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    return _plain(STATE, "", BROKEN, f"{why}{more}", remedy)


def _room(facts: Facts) -> Promise:
    disk = facts.disk
    if disk is None:
        return _plain(ROOM, "", BROKEN, f"'{facts.backup_dir}' cannot be looked at", f"df -h '{facts.backup_dir}'")
    told = f"{size(disk.free)} free of {size(disk.total)}; the next three backups want {size(disk.wanted)}"
    if disk.free >= disk.wanted:
        return _plain(ROOM, "", KEPT, told)
    return _plain(ROOM, "", BROKEN, told, f"make room, or move BACKUP_DIR: df -h '{facts.backup_dir}'")


def _alarm(facts: Facts, now: datetime, limits: Limits) -> Promise:
    alarms = facts.alarms
    promise = Aged(ALARM, "", limits.alarm, "the last test of the alarms", "test-alarms.sh")
    if not alarms.channels:
        return promise.not_wanted("there is no channel: nobody is told")
    if alarms.undelivered:
        reason = f"{_messages(alarms.undelivered)} could not be delivered: {alarms.problem}"
        found = promise.broken(reason, alarms.tested, alarms.oldest, remedy="setup-alerts.sh --test; docs/alerts.md")
    else:
        found = promise.judged(alarms.tested, now)
    return replace(found, reason=f"{found.reason}; {_messages(alarms.lost)} given up so far") if alarms.lost else found


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number} messages"


def _coverage(coverage: Coverage | None, now: datetime, limits: Limits) -> Promise:
    promise = Aged(COVERAGE, "", limits.coverage, "the last look for databases", "backup-status.sh --probe")
    if coverage is None or coverage.problem:
        reason = coverage.problem if coverage else "nobody has looked yet which databases there are"
        return promise.broken(reason, coverage.probed if coverage else None, None)
    judged = promise.judged(coverage.probed, now)
    open_ones = [one for one in coverage.findings if not one.ignored and not one.harmless]
    if judged.state == BROKEN or not open_ones:
        return judged
    named = "; ".join(_named(one) for one in open_ones[:_MOST_NAMED])
    more = f"; and {len(open_ones) - _MOST_NAMED} more" if len(open_ones) > _MOST_NAMED else ""
    return promise.broken(f"{named}{more}", coverage.probed, None, remedy=_cover(open_ones[0]))


def _cover(finding: Finding) -> str:
    """What to do about a finding."""
    what = "let its role read them (GRANT pg_read_all_data, or SELECT)" if finding.kind in _UNREADABLE else ""
    return f"{what or 'name it in DATABASES'}, or say why not in IGNORE: docs/status.md; then: backup-status.sh --probe"


def _named(finding: Finding) -> str:
    return f"{finding.container}/{finding.database}: {finding.what}" if finding.database else finding.what


def _copy(copies: Copies, databases: tuple[Database, ...], now: datetime, limits: Limits) -> Promise:
    """The copies of a place are as old as those of the database whose newest copy is the oldest, and its WAL."""
    remedy = f"copy-backups.sh --to {copies.place} --now"
    judged = []
    for each in databases:
        if each.backups:
            what = f"the newest copy of '{each.name}' at '{copies.place}'"
            promise = Aged(COPY, copies.place, limits.copy, what, remedy)
            judged.append(promise.judged(copies.newest.get(each.name), now, each.begun))
    for directory, until in copies.wal.items():
        what = f"the WAL of '{directory}' at '{copies.place}'"
        judged.append(Aged(COPY, copies.place, limits.wal_copy, what, remedy).judged(until, now))
    if not judged:
        return _plain(COPY, copies.place, NOT_WANTED, "there is no backup yet that could be copied")
    worst = min(judged, key=lambda one: (one.state == KEPT, one.last is not None, one.last))
    if worst.state == KEPT or not copies.error:
        return worst
    last = f"; the last of {copies.failures} runs that failed said: {copies.error}"
    return replace(worst, reason=worst.reason + last)


def _wal(archive: Archive, now: datetime, limits: Limits) -> Promise:
    name = archive.names[0] if archive.names else archive.directory
    what = f"what is confirmed of the WAL of '{archive.directory}'"
    promise = Aged(WAL, archive.directory, limits.wal, what, f"verify-backups.sh {name}; docs/point-in-time.md")
    judged = promise.judged(archive.confirmed, now)
    if judged.state == BROKEN and archive.trouble:
        return replace(judged, reason=f"{judged.reason}: {archive.trouble}")
    if judged.state == KEPT and archive.gap:
        return promise.broken(archive.gap, archive.confirmed, archive.until, remedy=f"backup-postgres.sh {name}")
    return judged


def _base(archive: Archive, now: datetime, limits: Limits) -> Promise:
    name = archive.names[0] if archive.names else archive.directory
    limit = archive.base_every_days * DAY + limits.base
    what = f"the newest base backup of '{archive.directory}'"
    return Aged(BASE, archive.directory, limit, what, f"backup-postgres.sh {name}").judged(archive.base, now)


def _schedule(schedule: Schedule, now: datetime, limits: Limits) -> Promise:
    remedy = _SET_UP.get(schedule.what, _SET_UP_OTHERS)
    if not schedule.how or schedule.next is None:
        reason = schedule.problem or f"nothing starts a run of '{schedule.what}'"
        return _plain(SCHEDULE, schedule.what, BROKEN, reason, remedy)
    due = schedule.next + timedelta(seconds=limits.overdue)
    if now > due:
        reason = f"its run of {schedule.next:%Y-%m-%d %H:%M} UTC has not begun"
        return _plain(SCHEDULE, schedule.what, BROKEN, reason, remedy, due)
    return _plain(SCHEDULE, schedule.what, KEPT, f"{schedule.how}, next {schedule.next:%Y-%m-%d %H:%M} UTC")
