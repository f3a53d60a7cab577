"""setup-backup-cron.sh: three lines in a user's crontab, and the rotation of backup.log."""

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
    """Put the backup, the weekly verification and the weekly drill into the crontab, each once; what is there is kept.

    Only a schedule that is asked for changes the backup's line, and DRILL_WEEKLY=no takes the drill's away. At the end
    the account makes a dry run; the status is that one's. Raise SuiteError before anything is changed: no cron, no such
    account, a path that cannot be written.
    """
    script, verification, drill = _scripts(root)
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
        jobs = crontab.jobs_of(after, script)
        given = trial.assigned(crontab.command_of(jobs[0]))
        backup_dir = given.get("BACKUP_DIR", str(settings.backup_dir))
        after = crontab.added(after, verification, crontab.weekly_verification(backup_dir, verification), None)
        after = _with_drill(after, drill, settings, backup_dir)
        rotating = rotation.setting_up(root, settings.backup_dir, account)
        if not options.dry_run:
            accounts.make_directories(folders, account)
            if after != before:
                crontab.write(account.name, after)
            installed.apply(rotating)
    verb = "runs" if after != before else "already runs"
    jobs += [*crontab.jobs_of(after, verification), *crontab.jobs_of(after, drill)]
    done = [f"cron {verb} the backup as '{account.name}':", *(f"  {job}" for job in jobs)]
    done += [f"check it: crontab -u {account.name} -l | grep backup"]
    warnings = [*_warnings(before, script, account), *rotation.warnings(rotating)]
    failures = [] if options.dry_run else trial.of(root, account, settings, given)
    changes = [crontab.change(account.name, before, after), rotating]
    return frame.told(SCRIPT, options, changes, done, warnings, failures)


def _scripts(root: Path) -> tuple[Path, Path, Path]:
    """What makes the backup, what verifies, and what drills."""
    names = ("backup-postgres.sh", "verify-backups.sh", "drill-backups.sh")
    backup, verification, drill = (root / "scripts" / name for name in names)
    return backup, verification, drill


def _with_drill(text: str, drill: Path, settings: Settings, backup_dir: str) -> str:
    """The crontab with the weekly drill, or without it. backup_dir: that of the backup's line."""
    if not settings.drill_weekly:
        return crontab.removed(text, drill)
    return crontab.added(text, drill, crontab.weekly_drill(backup_dir, drill), None)


def take_down(root: Path, options: Options) -> Result:
    """Remove the jobs from the crontab, and the log's rotation unless others run backups. Nothing there: no error.

    Without --user: from the crontab of whoever has it.
    """
    script, *others = _scripts(root)
    user = options.user or accounts.DEFAULT
    with frame.alone():
        known = crontab.installed() and accounts.exists(user)
        crontabs = {user: crontab.read(user) if known else ""}
        if options.user is None and crontab.installed():
            for each in (script, *others):
                crontabs |= crontab.holders(each, "")
        without = {one: _without(text, script, *others) for one, text in crontabs.items()}
        changes = [crontab.change(one, text, without[one]) for one, text in crontabs.items()]
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


def _without(text: str, *scripts: Path) -> str:
    for script in scripts:
        text = crontab.removed(text, script)
    return text


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
