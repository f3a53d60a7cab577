"""Gathers the facts that promises are judged by, from what the commands have left. Nobody is asked anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from pgbackup.commands.status import archives, databases, elsewhere, schedules
from pgbackup.commands.status.databases import Unknown, noted
from pgbackup.errors import LockHeld, PermissionDenied, SuiteError, path_error
from pgbackup.host import channels
from pgbackup.report.alarms import remembered
from pgbackup.report.promises.facts import Alarms, Archive, Copies, Coverage, Database, Disk, Facts, Finding
from pgbackup.report.promises.limits import DAY, HOUR, Limits
from pgbackup.settings.config import Settings
from pgbackup.store import folder, lock
from pgbackup.store.folder import Folder
from pgbackup.store.state import watch
from pgbackup.store.state.watch import Awake, Probe

_BACKUPS_TO_COME = 3


def limits(settings: Settings) -> Limits:
    """The limits that the settings give. Pure."""
    drilled = settings.drill_weekly or settings.drill_after_backup
    return Limits(
        backup=settings.backup_max_age_hours * HOUR,
        verify=settings.verify_max_age_days * DAY,
        drill=settings.drill_max_age_days * DAY if drilled else None,
        copy=settings.offsite_max_age_hours * HOUR,
        wal=settings.wal_max_age_minutes * 60.0,
        key=settings.key_max_age_days * DAY,
        alarm=settings.alarm_max_age_days * DAY,
    )


def gather(settings: Settings, root: Path, now: datetime) -> Facts:
    """Return what is known of this host. root: of the installation. now: in UTC.

    What cannot be read is told in the facts. Raise PermissionDenied where this account may not look.
    """
    unknown: Unknown = {}
    backup_dir, targets = settings.backup_dir, settings.targets
    found, copies, walled = [], [], []
    disk, coverage, awake = None, None, None
    with _told(unknown, backup_dir):
        folder.check_mounted(settings.backup_mount, folder.fstab_lines_above(backup_dir))
    with _told(unknown, backup_dir), folder.opened(backup_dir, create=False, top=True) as top:
        for target in targets:
            with _told(unknown, backup_dir / target.directory):
                found.append(databases.facts(settings, target))
        for offsite in settings.offsite:
            with _told(unknown, backup_dir / "offsite"):
                copies.append(elsewhere.copies(backup_dir, offsite))
        with _told(unknown, backup_dir / "pitr"):
            walled = archives.facts(backup_dir, targets, now)
        disk = _disk(top, found, walled)
        with _told(unknown, backup_dir / "status"), watch.opened(backup_dir, create=False) as place:
            if place:
                awake = noted(lambda: watch.read_awake(place), unknown)
                coverage = _coverage(noted(lambda: watch.read_probe(place), unknown), settings)
    seen = {each.name for each in found}
    missing = [Database(each.name, each.database, each.container, each.directory) for each in targets]
    every = {each.name: each for each in [*(one for one in missing if one.name not in seen), *found]}
    lacking = [Copies(each.name, each.required, each.encrypted, {}) for each in settings.offsite[len(copies) :]]
    alarms = _alarms(settings, unknown, now)
    return Facts(
        host=os.uname().nodename,
        backup_dir=str(backup_dir),
        databases=tuple(every[target.name] for target in targets),
        copies=tuple(_still_archived(each, walled) for each in (*copies, *lacking)),
        archives=tuple(walled),
        keys=tuple(elsewhere.proofs(settings, unknown)),
        schedules=tuple(schedules.facts(settings, root, now, judged=alarms.channels > 0)),
        disk=disk,
        coverage=coverage,
        alarms=alarms,
        awake_since=awake.since if awake else None,
        away_since=awake.away if awake else None,
        unknown=unknown,
    )


@contextmanager
def _told(unknown: Unknown, path: Path) -> Iterator[None]:
    """What cannot be read becomes a fact. Raise PermissionDenied: another account can read it."""
    try:
        yield
    except PermissionDenied:
        raise
    except (SuiteError, OSError) as raised:
        error = raised if isinstance(raised, SuiteError) else path_error(raised, path)
        if isinstance(error, PermissionDenied):
            raise error from None
        unknown[error.message] = error.message, error.hint or ""


def _still_archived(copies: Copies, walled: list[Archive]) -> Copies:
    """The same without the WAL of clusters that is archived no more: that stays there, and grows old."""
    active = {each.directory for each in walled}
    return replace(copies, wal={name: until for name, until in copies.wal.items() if name in active})


def _disk(top: Folder, found: list[Database], walled: list[Archive]) -> Disk:
    """The room on the disk, and what the next backups want of it: each is about as large as the one before."""
    room = os.fstatvfs(top.fd)
    dumps = sum(next((backup.bytes for backup in each.backups if not backup.problem), 0) for each in found)
    bases = sum(each.base_bytes for each in walled)
    return Disk(room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize, _BACKUPS_TO_COME * (dumps + bases))


def _coverage(probe: Probe | None, settings: Settings) -> Coverage | None:
    """What the last probe has found, with the reasons that IGNORE gives."""
    if probe is None:
        return None
    known = {(target.container, target.database) for target in settings.targets}  # some may be new since then
    findings = tuple(
        Finding(each.kind, each.container, each.database, each.what, _ignored(each, settings), each.harmless)
        for each in probe.findings
        if each.kind != "database" or (each.container, each.database) not in known
    )
    return Coverage(probe.probed, probe.servers, probe.databases, findings, probe.problem)


def _ignored(found: watch.Found, settings: Settings) -> str:
    """The reason why a finding is as it should be; "" for none."""
    called = f"{found.container}/{found.database}" + ("" if found.kind == "database" else f"/{found.kind}")
    return next((reason for pattern, reason in settings.ignore if fnmatchcase(called, pattern)), "")


def _alarms(settings: Settings, unknown: Unknown, now: datetime) -> Alarms:
    with _told(unknown, settings.alerts_config):
        alerts = channels.read(settings.alerts_config, settings.alert_command)
        return remembered.facts_of(remembered.look(settings.alerts_state, settings.backup_dir), alerts, now)
    return Alarms()


def note_awake(settings: Settings, now: datetime) -> None:
    """Remember that this host is awake; where another look does so just now, that one's word will do.

    Raise SuiteError or OSError.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with watch.opened(settings.backup_dir, create=True) as place:
        assert place is not None  # noqa: S101  it was made
        with suppress(LockHeld), lock.held(place, "awake"):
            before: Awake | None = noted(lambda: watch.read_awake(place), {})
            watch.write_awake(place, watch.still_awake(before, now, boot))
