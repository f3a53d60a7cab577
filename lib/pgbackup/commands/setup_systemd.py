"""setup-backup-systemd.sh: the units in /etc/systemd/system, their timers, and the rotation of backup.log."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pgbackup import proc
from pgbackup.commands import setup
from pgbackup.commands.result import Result
from pgbackup.commands.setup import Options
from pgbackup.config import Settings
from pgbackup.errors import Unavailable
from pgbackup.host import accounts, crontab, installed, rotation, systemctl, units
from pgbackup.host.accounts import Account
from pgbackup.host.installed import Change

SCRIPT = "setup-backup-systemd.sh"


def set_up(settings: Settings, root: Path, options: Options) -> Result:
    """Install the units of this version and switch the timers on; what an operator wrote in them is kept.

    Raise SuiteError before anything is changed: no systemd, no such account, a path that cannot be written,
    a unit that is masked.
    """
    if not systemctl.running():
        raise Unavailable("systemd does not run on this host", "let cron do it: sudo setup-backup-cron.sh")
    environment = proc.environment(os.environ)
    with setup.alone():
        existing = {name: installed.read(units.DIRECTORY / name) for name in units.NAMES}
        account = accounts.find(options.user or units.user_of(existing[units.SERVICE]) or accounts.DEFAULT)
        folders = accounts.directories(settings)
        accounts.check_directories(folders, account)
        changes = _changes(existing, _host(settings, root, account), options)
        rotating = rotation.setting_up(root, settings.backup_dir, account)
        if not options.dry_run:
            accounts.make_directories(folders, account)
            _switch_on([*changes, rotating], environment)
    warnings = [*_warnings(existing, changes, root, account, environment), *rotation.warnings(rotating)]
    done = [
        f"systemd runs the backup as '{account.name}' and verifies all backups weekly:",
        *(f"  {change.path}" + ("" if change.diff() else " (unchanged)") for change in changes),
        f"check it: systemctl list-timers {units.TIMER}",
    ]
    return setup.told(SCRIPT, options, [*changes, rotating], done, warnings)


def take_down(root: Path, options: Options) -> Result:
    """Switch the timers off and remove the units; those with edits by hand are kept beside, under another name."""
    environment = proc.environment(os.environ)
    with setup.alone():
        existing = {name: installed.read(units.DIRECTORY / name) for name in units.NAMES}
        there = {name: text for name, text in existing.items() if text is not None}
        changes, warnings = _removals(there)
        if not _in_crontab(root, options.user or accounts.DEFAULT, environment):
            changes.append(rotation.taking_down())
        if not options.dry_run:
            _switch_off(there, changes, environment)
    had = "systemd no longer runs the backup" if there else "systemd did not run the backup"
    return setup.told(SCRIPT, options, changes, [had], warnings)


def _host(settings: Settings, root: Path, account: Account) -> units.Host:
    passfiles = [target.passfile for target in settings.targets if target.passfile]
    used = (root, settings.backup_dir, settings.backup_dir.resolve(), *passfiles)
    for path in used:
        units.check_path(path)
    return units.Host(
        root=root,
        backup_dir=settings.backup_dir,
        user=account.name,
        retention_days=settings.retention_days,
        over_network=any(target.client == "direct" for target in settings.targets),
        used=used,
    )


def _changes(existing: Mapping[str, str | None], host: units.Host, options: Options) -> list[Change]:
    changes = []
    for name, before in existing.items():
        template = (host.root / "systemd" / name).read_text(encoding="utf-8")
        calendar = options.schedule.calendar if options.schedule and name == units.TIMER else None
        after = units.merged(units.rendered(template, host), before, calendar, options.user)
        changes.append(Change(units.DIRECTORY / name, before, after))
    return changes


def _switch_on(changes: Sequence[Change], environment: Mapping[str, str]) -> None:
    for change in changes:
        if change.before != change.after:
            installed.apply(change)
    systemctl.call("daemon-reload", environment=environment)
    systemctl.call("enable", *units.TIMERS, environment=environment)
    # A timer that runs already would keep the moment that it has reckoned before.
    systemctl.call("restart", *units.TIMERS, environment=environment)


def _removals(there: Mapping[str, str]) -> tuple[list[Change], list[str]]:
    changes, warnings = [], []
    for name, text in there.items():
        path = units.DIRECTORY / name
        changes.append(Change(path, text, None))
        if installed.edited(text, units.is_free):
            aside = path.with_name(f"{name}.removed")
            changes.append(Change(aside, installed.read(aside), text))
            warnings.append(f"'{path}' was changed by hand; kept as '{aside}'")
        drop_ins = path.with_name(f"{name}.d")
        if drop_ins.exists():
            warnings.append(f"'{drop_ins}' is not the suite's and stays")
    return changes, warnings


def _switch_off(there: Mapping[str, str], changes: Sequence[Change], environment: Mapping[str, str]) -> None:
    if timers := [name for name in units.TIMERS if name in there] if systemctl.running() else []:
        systemctl.call("disable", "--now", *timers, environment=environment)
    for change in sorted(changes, key=lambda change: change.after is None):
        installed.apply(change)
    if there and systemctl.running():
        systemctl.call("daemon-reload", environment=environment)


def _in_crontab(root: Path, user: str, environment: Mapping[str, str]) -> bool:
    if not crontab.installed() or not accounts.exists(user):
        return False
    return bool(crontab.jobs_of(crontab.read(user, environment), root / "scripts" / "backup-postgres.sh"))


def _warnings(
    existing: Mapping[str, str | None],
    changes: Sequence[Change],
    root: Path,
    account: Account,
    environment: Mapping[str, str],
) -> list[str]:
    found = []
    for change in changes:
        before = existing[change.path.name]
        if before is not None and installed.edited(before, units.is_free):
            found.append(
                f"'{change.path}' was changed by hand and is kept; to see what is new:"
                f" diff '{change.path}' '{root / 'systemd' / change.path.name}'; to get it: move yours away, run this"
                f" again, and put your changes into: sudo systemctl edit {change.path.name}"
            )
    if _in_crontab(root, account.name, environment):
        found.append(
            f"the crontab of '{account.name}' starts the backup as well, so there are two each time;"
            " to end that: sudo setup-backup-cron.sh --uninstall"
        )
    return found + accounts.docker_warnings(account)
