"""The facts about schedules: which runs are to recur, who starts them, and when next."""

from __future__ import annotations

import getpass
import os
import pwd
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pgbackup.errors import SuiteError
from pgbackup.host.scheduling import crontab, systemctl, units, upcoming
from pgbackup.host.scheduling.upcoming import Upcoming
from pgbackup.report.promises.facts import Schedule
from pgbackup.settings.config import Settings

_TIMERS = {
    "backup": units.TIMER,
    "verify": "postgres-verify.timer",
    "drill": units.DRILL_TIMER,
    "offsite": units.OFFSITE_TIMER,
    "status": units.STATUS_TIMER,
}
_SCRIPTS = {
    "backup": "backup-postgres.sh",
    "verify": "verify-backups.sh",
    "drill": "drill-backups.sh",
    "offsite": "copy-backups.sh",
    "status": "backup-status.sh",
}


def facts(settings: Settings, root: Path, now: datetime, *, judged: bool) -> list[Schedule]:
    """Return the runs that are wanted, and when each is next. root: of the installation.

    judged: somebody is told of broken promises, so that they are to be looked at.
    """
    also = {"drill": settings.drill_weekly, "offsite": bool(settings.offsite), "status": judged}
    wanted = ["backup", "verify", *(what for what, is_wanted in also.items() if is_wanted)]
    found: dict[str, Schedule] = {}
    problem = ""
    if systemctl.running():
        try:
            known = upcoming.timers([_TIMERS[what] for what in wanted], now)
        except SuiteError as error:
            known, problem = {}, error.message
        for what in wanted:
            if seen := known.get(_TIMERS[what]):
                found[what] = _schedule(what, "systemd", seen)
    if any(what not in found or found[what].next is None for what in wanted):
        for what, seen in _by_cron(settings, root, wanted, now).items():
            if what not in found or found[what].next is None:
                found[what] = _schedule(what, "cron", seen)
    return [found.get(what) or Schedule(what, "", None, problem) for what in wanted]


def _schedule(what: str, how: str, seen: Upcoming) -> Schedule:
    return Schedule(what, how, seen.next, seen.problem, seen.interval)


def _by_cron(settings: Settings, root: Path, wanted: list[str], now: datetime) -> dict[str, Upcoming]:
    """What stands in the crontab of this account, and for root in that of the backups' owner."""
    found: dict[str, Upcoming] = {}
    if not crontab.installed():
        return found
    for user in _accounts(settings.backup_dir):
        with suppress(SuiteError):
            text = crontab.read(user)
            for what in wanted:
                if what not in found and (jobs := crontab.jobs_of(text, root / "scripts" / _SCRIPTS[what])):
                    found[what] = upcoming.cron(crontab.when_of(jobs[0]), now)
    return found


def _accounts(backup_dir: Path) -> list[str]:
    own = getpass.getuser()
    owner = ""
    with suppress(OSError, KeyError):
        owner = pwd.getpwuid(backup_dir.stat().st_uid).pw_name
    return list(dict.fromkeys(filter(None, [owner, own]))) if os.geteuid() == 0 else [own]
