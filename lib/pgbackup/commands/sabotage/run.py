"""test-alarms.sh: one sabotage after the other, and whether each was told, and told again when it was mended."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pgbackup import interrupt
from pgbackup.commands.sabotage import sabotages, server, world
from pgbackup.commands.sabotage.sabotages import Sabotage
from pgbackup.commands.sabotage.world import World
from pgbackup.errors import ConfigurationError, Interrupted, SuiteError, Unavailable
from pgbackup.host import channels
from pgbackup.host.channels import Alerts
from pgbackup.report.alarms import notify
from pgbackup.report.log import say
from pgbackup.report.progress import reporting
from pgbackup.report.promises.promise import BROKEN
from pgbackup.report.result import Result, document, table
from pgbackup.settings.config import Settings
from pgbackup.store import lock
from pgbackup.store.state import alarms

SCRIPT = "test-alarms.sh"
_LOCK = "test-alarms"


@dataclass
class Seen:
    """What came of one sabotage. alarm, recovery: "" where all channels took it, else why not."""

    what: str
    alarm: str = "not tried"
    recovery: str = "not tried"

    @property
    def told(self) -> bool:
        return not self.alarm and not self.recovery


def run(settings: Settings, root: Path, *, quiet: bool) -> Result:
    """Break the throwaway set-up in each way. Status 69: something was not told, or not on each channel.

    Where all was, the date is kept: the promise that the alarms are tested. Raise ConfigurationError without a channel,
    LockHeld beside another one, SuiteError where there can be no throwaway set-up.
    """
    alerts = channels.read(settings.alerts_config, settings.alert_command)
    if not alerts.channels:
        raise ConfigurationError("there is no channel that an alarm could come out of", "sudo setup-alerts.sh")
    with (
        notify.memory(settings.alerts_state, settings.backup_dir) as memory,
        lock.held(memory, _LOCK),
        reporting(quiet) as reporter,
        tempfile.TemporaryDirectory(prefix="pgbackup-test-alarms-") as directory,
        server.running(settings) as throwaway,
    ):
        reporter.tell(f"{SCRIPT}: making a throwaway set-up; two messages for each sabotage come to each channel")
        place = world.made(Path(directory), root, settings, alerts, throwaway)
        if broken := _broken(place.told()[0]):
            raise SuiteError(f"the throwaway set-up is broken before anything was done to it: {', '.join(broken)}")
        seen = [_tried(place, one, reporter.tell) for one in sabotages.ALL]
        if all(one.told for one in seen):
            with lock.held(memory, alarms.LOCK):
                alarms.write(memory, _tested(alarms.read(memory), alerts))
    return told(seen, alerts)


def told(seen: Sequence[Seen], alerts: Alerts) -> Result:
    """The result; what was not told goes to stderr as well."""
    for one in seen:
        for kind, why in (("alarm", one.alarm), ("recovery", one.recovery)):
            if why:
                say(f"{SCRIPT}: {one.what}: the {kind} was not told: {why}")
    status = 0 if all(one.told for one in seen) else Unavailable.status
    rows = [[one.what, *("NOT TOLD" if why else "told" for why in (one.alarm, one.recovery))] for one in seen]
    entries = [{"sabotage": one.what, "alarm": one.alarm, "recovery": one.recovery} for one in seen]
    names = [one.name for one in alerts.channels]
    lines = table(["sabotage", "alarm", "recovery"], rows)
    return Result(status, lines, document("test-alarms", status, channels=names, sabotages=entries))


def _tested(held: alarms.Alarms, alerts: Alerts) -> alarms.Alarms:
    now = datetime.now(timezone.utc)
    for channel in alerts.channels:
        held = alarms.arrived(held, channel.key, now)
    return alarms.with_test(held, now)


def _tried(place: World, one: Sabotage, tell: Callable[[str], None]) -> Seen:
    seen = Seen(one.what)
    tell(f"{SCRIPT}: {one.what} …")
    try:
        one.spoil(place)
        seen.alarm = _told(place, one, broken=True)
        one.mend(place)
        seen.recovery = _told(place, one, broken=False)
    except Interrupted:
        raise
    except SuiteError as error:
        if seen.alarm == "not tried":
            seen.alarm = error.message
        else:
            seen.recovery = error.message
    interrupt.check()
    return seen


def _told(place: World, one: Sabotage, *, broken: bool) -> str:
    """Judge and tell; return "" where the promise is as it should be and every channel has taken the message."""
    status, held = place.told()
    if (one.key in _broken(status)) != broken:
        return f"the promise '{one.key}' is {'not broken' if broken else 'still broken'}"
    if (one.key in held.told) != broken:
        return f"no message was made of '{one.key}'"
    if held.outbox:
        return "; ".join(sorted({failure.why for key in held.failing if (failure := held.failure(key))}))
    return ""


def _broken(status: dict[str, object]) -> list[str]:
    promises = status["promises"]
    assert isinstance(promises, list)  # noqa: S101  looked at where it was read
    return [f"{one['kind']}:{one['subject']}" for one in promises if one["state"] == BROKEN]
