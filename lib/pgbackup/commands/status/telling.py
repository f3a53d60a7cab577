"""backup-status.sh --scheduled, its last step: whoever is to be told is told what has changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from pgbackup.errors import SuiteError
from pgbackup.host import channels
from pgbackup.report.alarms import notify
from pgbackup.report.alarms.notify import Outcome
from pgbackup.report.events import INFO, WARNING, Event
from pgbackup.report.log import EventLog, say
from pgbackup.report.promises.status import Status
from pgbackup.settings.config import Settings
from pgbackup.store import folder

_SCRIPT = "backup-status.sh"


def tell(settings: Settings, look: Callable[[], Status]) -> Status:
    """Look, tell what has changed since the last time, and return the status. Without a channel it only looks.

    Raise SuiteError where it cannot be known whom to tell, or what was told.
    """
    alerts = channels.read(settings.alerts_config, settings.alert_command)
    if not alerts.channels:
        return look()
    with notify.memory(settings.alerts_state, settings.backup_dir) as memory:
        status, outcome = notify.notify(memory, alerts, look, prefix=settings.alert_prefix)
    for warning in outcome.warnings:
        say(f"{_SCRIPT}: warning: {warning}")
    for channel, why in outcome.failing.items():
        say(f"{_SCRIPT}: warning: {channel} has not taken an alarm, and is tried again: {why}")
    _log(settings, outcome)
    return status


def _log(settings: Settings, outcome: Outcome) -> None:
    """Write down what was told, unless the directory of the backups is what is broken."""
    if outcome.made is None and not outcome.failing:
        return
    with suppress(SuiteError, OSError), folder.opened(settings.backup_dir, create=False, top=True) as top:
        log = EventLog(top)
        if made := outcome.made:
            facts = {"level": made.level, "subject": made.subject, "waiting": outcome.waiting}
            log.write(Event(INFO, "-", "alarm.made", facts))
        for channel, why in outcome.failing.items():
            log.write(Event(WARNING, "-", "alarm.undelivered", {"channel": channel, "reason": why}))
