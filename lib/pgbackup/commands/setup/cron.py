"""setup-backup-cron.sh: one line in a user's crontab, and the rotation of backup.log."""

from __future__ import annotations

from pathlib import Path

from pgbackup.commands.setup import frame
from pgbackup.commands.setup.options import Options
from pgbackup.host import accounts
from pgbackup.host.accounts import Account
from pgbackup.host.scheduling import crontab, installed, rotation, systemctl, trial, units
from pgbackup.host.scheduling.schedule import NAMED
from pgbackup.report.result import Result
from pgbackup.settings.config import Settings

SCRIPT = "setup-backup-cron.sh"


def set_up(settings: Settings, root: Path, options: Options) -> Result:
    """Put the job into the crontab, once; one that is there is kept, but for a schedule that is asked for.

    At the end the account makes a dry run; the status is that one's. Raise SuiteError before anything is changed: no
    cron, no such account, a path that cannot be written.
    """
    script = root / "scripts" / "backup-postgres.sh"
    account = accounts.find(options.user or accounts.DEFAULT)
    folders = accounts.directories(settings)
    for path in (script, settings.backup_dir):
        units.check_path(path)
    accounts.check_directories(folders, account)
    with frame.alone():
        before = crontab.read(account.name)
        asked = options.schedule.cron if options.schedule else None
        line = crontab.job(asked or NAMED["daily"], settings.backup_dir, settings.retention_days, script)
        after = crontab.added(before, script, line, asked)
        rotating = rotation.setting_up(root, settings.backup_dir, account)
        if not options.dry_run:
            accounts.make_directories(folders, account)
            if after != before:
                crontab.write(account.name, after)
            installed.apply(rotating)
    jobs = crontab.jobs_of(after, script)
    verb = "runs" if after != before else "already runs"
    done = [f"cron {verb} the backup as '{account.name}':", *(f"  {job}" for job in jobs)]
    done += [f"check it: crontab -u {account.name} -l | grep backup"]
    warnings = [*_warnings(before, script, account), *rotation.warnings(rotating)]
    given = trial.assigned(crontab.command_of(jobs[0]))
    failures = [] if options.dry_run else trial.of(root, account, settings, given)
    changes = [crontab.change(account.name, before, after), rotating]
    return frame.told(SCRIPT, options, changes, done, warnings, failures)


def take_down(root: Path, options: Options) -> Result:
    """Remove the job from the crontab, and the log's rotation unless others run backups. Nothing there: no error.

    Without --user: from the crontab of whoever has it.
    """
    script = root / "scripts" / "backup-postgres.sh"
    user = options.user or accounts.DEFAULT
    with frame.alone():
        known = crontab.installed() and accounts.exists(user)
        crontabs = {user: crontab.read(user) if known else ""}
        if options.user is None and crontab.installed():
            crontabs |= crontab.holders(script, "")
        changes = [crontab.change(one, text, crontab.removed(text, script)) for one, text in crontabs.items()]
        had = [one for one, change in zip(crontabs, changes, strict=True) if change.before != change.after]
        left = [line for change in changes for line in crontab.strangers(change.after or "", script)]
        if not (units.DIRECTORY / units.TIMER).exists() and not left:
            changes.append(rotation.taking_down())
        if not options.dry_run:
            crontab.apply(changes)
            for change in changes[len(crontabs) :]:
                installed.apply(change)
    names = ", ".join(f"'{one}'" for one in had or [user])
    done = f"cron no longer runs the backup as {names}" if had else f"cron did not run the backup as {names}"
    return frame.told(SCRIPT, options, changes, [done], [])


def _warnings(before: str, script: Path, account: Account) -> list[str]:
    found = [
        f"another '{script.name}' stays in the crontab of '{account.name}': {line}"
        for line in crontab.strangers(before, script)
    ]
    found += [
        f"the crontab of '{other}' starts the backup as well; to end that: sudo {SCRIPT} --uninstall --user {other}"
        for other in crontab.holders(script, "")
        if other != account.name
    ]
    if systemctl.is_enabled(units.TIMER):
        found.append(
            f"'{units.TIMER}' is on as well, so there are two backups each time;"
            " to end that: sudo systemctl disable --now postgres-backup.timer"
        )
    if not _is_running():
        found.append("cron is not running on this host, so nothing will start the backup: sudo systemctl start cron")
    return found + accounts.docker_warnings(account)


def _is_running() -> bool:
    """Whether a process by the name of one of the usual crons runs."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() in ("cron", "crond"):
                return True
        except OSError:
            continue
    return False
