"""setup-backup-systemd.sh: the units in /etc/systemd/system, their timers, and the rotation of backup.log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pgbackup.commands.setup import frame
from pgbackup.commands.setup.options import Options
from pgbackup.errors import Unavailable
from pgbackup.host import accounts
from pgbackup.host.accounts import Account
from pgbackup.host.scheduling import crontab, installed, rotation, systemctl, trial, units
from pgbackup.host.scheduling.installed import Change
from pgbackup.report.result import Result
from pgbackup.settings.config import Settings

SCRIPT = "setup-backup-systemd.sh"


def set_up(settings: Settings, root: Path, options: Options) -> Result:
    """Install the units of this version and switch the timers on; what an operator wrote in them is kept.

    At the end the account makes a dry run; the status is that one's. Raise SuiteError before anything is changed: no
    systemd, no such account, a path that cannot be written, a unit that is masked.
    """
    if not systemctl.running():
        raise Unavailable("systemd does not run on this host", "let cron do it: sudo setup-backup-cron.sh")
    with frame.alone():
        before = installed.read(units.DIRECTORY / units.SERVICE)
        account = accounts.find(options.user or units.user_of(before) or accounts.DEFAULT)
        folders = accounts.directories(settings)
        accounts.check_directories(folders, account)
        host = units.host_of(settings, root, account.name)
        calendars = {units.TIMER: options.schedule.calendar} if options.schedule else {}
        changes = [units.change_of(name, host, calendars.get(name), options.user) for name in units.NAMES]
        rotating = rotation.setting_up(root, settings.backup_dir, account)
        if not options.dry_run:
            accounts.make_directories(folders, account)
            installed.apply(rotating)
            _switch_on(changes, [] if settings.drill_weekly else [units.DRILL_TIMER])
    warnings = [*units.taken_over(changes, root), *_warnings(changes, root, account)]
    warnings += rotation.warnings(rotating)
    drilled = " and drills one of each database" if settings.drill_weekly else ""
    done = [
        f"systemd runs the backup as '{account.name}', verifies all backups weekly{drilled}:",
        *(f"  {change.path}" + ("" if change.diff() else " (unchanged)") for change in changes),
        f"check it: systemctl list-timers {units.TIMER}",
    ]
    failures = [] if options.dry_run else trial.of(root, account, settings, units.environment_of(changes[0].after))
    return frame.told(SCRIPT, options, [*changes, rotating], done, warnings, failures)


def take_down(root: Path, options: Options) -> Result:
    """Switch the timers off and remove the units; those with edits by hand are kept beside, under another name."""
    with frame.alone():
        changes, warnings = units.removals(units.NAMES, root)
        had = "systemd no longer runs the backup" if changes else "systemd did not run the backup"
        if not options.dry_run:
            _switch_off(changes)
        if not _log_is_written(root, options.user or accounts.DEFAULT, changes):
            changes.append(rotation.taking_down())
            if not options.dry_run:
                installed.apply(changes[-1])
    return frame.told(SCRIPT, options, changes, [had], warnings)


def _switch_on(changes: Sequence[Change], off: Sequence[str]) -> None:
    """off: timers that the settings want off."""
    units.apply(changes)
    on = [name for name in units.TIMERS if name not in off]
    systemctl.call("enable", *on)
    # A timer that runs already would keep the moment that it has reckoned before.
    systemctl.call("restart", *on)
    if off:
        systemctl.call("disable", "--now", *off)


def _switch_off(changes: Sequence[Change]) -> None:
    there = {change.path.name for change in changes}
    if timers := [name for name in units.TIMERS if name in there] if systemctl.running() else []:
        systemctl.call("disable", "--now", *timers)
    units.apply(changes)


def _log_is_written(root: Path, user: str, changes: Sequence[Change]) -> bool:
    """Whether somebody still makes backups after the changes: cron, or another installation."""
    removed = {change.path for change in changes if change.after is None}
    if any(path.exists() and path not in removed for path in (units.DIRECTORY / name for name in units.NAMES)):
        return True
    text, script = _crontab(user), root / "scripts" / "backup-postgres.sh"
    return bool(crontab.jobs_of(text, script) or crontab.strangers(text, script))


def _crontab(user: str) -> str:
    return crontab.read(user) if crontab.installed() and accounts.exists(user) else ""


def _warnings(changes: Sequence[Change], root: Path, account: Account) -> list[str]:
    found = units.kept_warnings(changes, root)
    if crontab.jobs_of(_crontab(account.name), root / "scripts" / "backup-postgres.sh"):
        found.append(
            f"the crontab of '{account.name}' starts the backup as well, so there are two each time;"
            " to end that: sudo setup-backup-cron.sh --uninstall"
        )
    return found + accounts.docker_warnings(account)
