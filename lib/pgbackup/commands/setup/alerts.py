"""setup-alerts.sh: the channels are written down, tried out, and a schedule tells through them what has changed."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path

from pgbackup import proc
from pgbackup.commands import confirm
from pgbackup.commands.setup import frame
from pgbackup.commands.setup.options import Options
from pgbackup.errors import ConfigurationError, SuiteError, Unavailable, UsageError
from pgbackup.host import accounts, channels
from pgbackup.host.accounts import Account
from pgbackup.host.channels import Alerts
from pgbackup.host.scheduling import crontab, installed, systemctl, unit_owner, units
from pgbackup.host.scheduling.installed import Change
from pgbackup.report.alarms import notify
from pgbackup.report.log import say, with_hint
from pgbackup.report.result import Result, document, table
from pgbackup.settings.config import Settings

SCRIPT = "setup-alerts.sh"
_EVERY_FOUR_MINUTES = "*/4 * * * *"  # so that what is broken is told within five
_TEST_SECONDS = 300
_LARGEST_BYTES = 64 << 10
_HEAD = (
    "# Whom the backup suite tells, and where it pings. The URLs are secrets: nobody else may read this file.\n"
    "# One a line: a URL of Apprise, or: ping RUN URL. RUN: backup, backup/NAME, verify, drill, copy, status.\n"
)
_HELP = (
    "A channel is a URL of Apprise (https://github.com/caronc/apprise/wiki), for example:",
    "  mailtos://user:password@example.com?to=oncall@example.com",
    "  ntfys://ntfy.example.com/backups",
    "  jsons://hooks.example.com/a/secret/path",
    "A dead man's ping of Healthchecks, which tells when this host is dead, for example:",
    "  ping backup https://hc-ping.com/UUID    (or verify, drill, copy, status, backup/NAME)",
    "One a line; an empty line ends.",
)
# What to enter at the dead man's switch, for the schedules as they are set up without --schedule.
_PERIODS = {
    "backup": ("1 day", "2 hours"),
    "verify": ("7 days", "1 day"),
    "drill": ("7 days", "1 day"),
    "copy": ("5 minutes", "1 hour"),
    "status": ("4 minutes", "15 minutes"),
}


def set_up(settings: Settings, root: Path, options: Options, file: str | None) -> Result:
    """Write the channels down, let systemd (else cron) judge the promises every four minutes, and send a test.

    file: where the channels are read, "-" for stdin, None: what is there stays, and is added to on a terminal. The
    status is that of the test. Raise SuiteError before anything is changed: no channel, a wrong line, no account.
    """
    path = settings.alerts_config
    account = _account(options)
    before = channels.text_of(path)
    text = _wanted(before, path, file, ask=not options.dry_run, otherwise=bool(settings.metrics_file))
    alerts = channels.with_command(channels.parsed(text, str(path) if file is None else file), settings.alert_command)
    if not (alerts.channels or settings.metrics_file):
        hint = f"name one: sudo {SCRIPT}, or ALERT_COMMAND in .env; or METRICS_FILE, for Prometheus"
        raise ConfigurationError("there is no channel, so nobody would be told", hint)
    accounts.check_directories([settings.alerts_state], account)
    with frame.alone():
        changes = _changes(settings, root, options, account, alerts)
        opened = []
        if not options.dry_run:
            opened = _open_collector(settings, account)
            channels.write(path, text, account)
            accounts.make_directories([settings.alerts_state], account)
            _apply(changes)
    arrived, failures = ([], []) if options.dry_run or not alerts.channels else _try_out(root, account)
    told = f"'{path}' has the channels, for '{account.name}' alone; a promise that breaks is told within five minutes:"
    done = [
        *opened,
        *(f"{name}: a test was taken; look whether it is there" for name in arrived),
        told
        if alerts.channels
        else f"there is no channel; '{settings.metrics_file}' tells Prometheus every four minutes:",
        *(f"  {change.path}" for change in changes if change.after is not None),
        *_periods(alerts),
        *(["see that each kind of alarm arrives: test-alarms.sh"] if alerts.channels else []),
    ]
    warnings = units.kept_warnings([one for one in changes if one.path.parent == units.DIRECTORY], root)
    return frame.told(SCRIPT, options, changes, done, warnings, failures, what="an alarm")


def _open_collector(settings: Settings, account: Account) -> list[str]:
    """Let the account write METRICS_FILE, and say so where something was done for it."""
    done = accounts.open_collector(settings.metrics_file.parent, account) if settings.metrics_file else ""
    return [done] if done else []


def take_down(root: Path, options: Options) -> Result:
    """End the schedule; the channels and what was told stay."""
    script = root / "scripts" / "backup-status.sh"
    with frame.alone():
        changes, warnings = units.removals(units.STATUS, root)
        user = options.user or accounts.DEFAULT
        if crontab.installed() and accounts.exists(user):
            crontabs = {user: crontab.read(user), **crontab.holders(script, "")}
            changes += [crontab.change(one, text, crontab.removed(text, script)) for one, text in crontabs.items()]
        if not options.dry_run:
            if systemctl.running() and any(change.path.name == units.STATUS_TIMER for change in changes):
                systemctl.call("disable", "--now", units.STATUS_TIMER)
            crontab.apply(changes)
            units.apply([change for change in changes if change.path.parent == units.DIRECTORY])
    had = any(change.before != change.after for change in changes)
    done = "nobody is told any more; the channels stay written down" if had else "nothing told of broken promises"
    return frame.told(SCRIPT, options, changes, [done], warnings)


def test(settings: Settings) -> Result:
    """Send a test to every channel now, and say where it arrived. Status 69: to one it did not.

    Raise ConfigurationError where there is none, SuiteError.
    """
    alerts = channels.read(settings.alerts_config, settings.alert_command)
    if not alerts.channels:
        raise ConfigurationError("there is no channel", f"sudo {SCRIPT}")
    host = os.uname().nodename
    body = f"This is a test by {SCRIPT} on {host}. Where you read it, alarms of the backups arrive."
    with notify.memory(settings.alerts_state, settings.backup_dir) as top:
        outcome = notify.test(top, alerts, f"{settings.alert_prefix} {host}: a test of the alarms".strip(), body)
    status = Unavailable.status if outcome.failing else 0
    for warning in outcome.warnings:
        say(f"{SCRIPT}: warning: {warning}")
    for channel, why in outcome.failing.items():
        say(f"{SCRIPT}: {channel} has not taken the test: {why}")
    rows = [[one.name, "NOT TAKEN" if one.name in outcome.failing else "arrived"] for one in alerts.channels]
    told = [
        {"channel": one.name, "arrived": one.name not in outcome.failing, "error": outcome.failing.get(one.name, "")}
        for one in alerts.channels
    ]
    return Result(status, table(["channel", "test"], rows), document("setup-alerts --test", status, channels=told))


def _account(options: Options) -> Account:
    before = installed.read(units.DIRECTORY / units.STATUS[0]) or installed.read(units.DIRECTORY / units.SERVICE)
    return accounts.find(options.user or units.user_of(before) or accounts.DEFAULT)


def _wanted(before: str | None, path: Path, file: str | None, *, ask: bool, otherwise: bool) -> str:
    """The text of the file as it is to be. otherwise: somebody is told without a channel."""
    if file is not None:
        return _read(file)
    if ask and sys.stdin and sys.stdin.isatty():
        return _asked(before, path)
    if before is None and not otherwise:
        raise UsageError("there is no terminal to ask for the channels on", f"sudo {SCRIPT} --file FILE; - is stdin")
    return _HEAD if before is None else before


def _read(file: str) -> str:
    try:
        with open(0 if file == "-" else file, "rb", closefd=file != "-") as given:
            text = given.read(_LARGEST_BYTES + 1).decode("utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        message = f"--file: the channels cannot be read: {why}"
        raise ConfigurationError(message, "one URL a line: docs/alerts.md") from None
    return text if text.endswith("\n") else f"{text}\n"


def _asked(before: str | None, path: Path) -> str:
    """Ask for lines until an empty one; what is there stays in front of them."""
    there = channels.parsed(before or "", str(path))
    for line in _HELP:
        say(line)
    if there.channels or there.pings:
        named = ", ".join([*(one.name for one in there.channels), *(f"ping {run}" for run in there.pings)])
        say(f"There already: {named}. To change or remove one: sudoedit '{path}'")
    text = before or _HEAD
    while True:
        sys.stderr.write("channel or ping: ")
        sys.stderr.flush()
        if not (line := confirm.typed().strip()):
            return text
        try:
            channels.parsed(f"{text}{line}\n", str(path))
        except ConfigurationError as error:
            say(with_hint(f"not taken: {error.message}", error.hint))
        else:
            text += f"{line}\n"


def _changes(settings: Settings, root: Path, options: Options, account: Account, alerts: Alerts) -> list[Change]:
    """The units, or the line of cron; and the network of those runs that ping from now on, or no longer."""
    if _by_systemd(root, account):
        host = units.host_of(settings, root, account.name, alerts)
        there = [name for name in units.NAMES if (units.DIRECTORY / name).exists()]
        ours = [name for name in there if unit_owner.is_of(name, root, units.DIRECTORY)]
        changes = [units.change_of(name, host, None, None) for name in ours]
        return [*changes, *(units.change_of(name, host, None, options.user) for name in units.STATUS)]
    script = root / "scripts" / "backup-status.sh"
    for path in (script, settings.backup_dir):
        units.check_path(path)
    before = crontab.read(account.name)
    line = crontab.job(_EVERY_FOUR_MINUTES, settings.backup_dir, settings.retention_days, script)
    return [crontab.change(account.name, before, crontab.added(before, script, f"{line} --scheduled -q", None))]


def _by_systemd(root: Path, account: Account) -> bool:
    """Whether systemd does it: where it runs, unless cron makes the backups, whose table its sandbox could not read."""
    if not systemctl.running():
        return False
    if (units.DIRECTORY / units.TIMER).exists() or not crontab.installed():
        return True
    return not crontab.jobs_of(crontab.read(account.name), root / "scripts" / "backup-postgres.sh")


def _apply(changes: Sequence[Change]) -> None:
    crontab.apply(changes)
    if of_systemd := [change for change in changes if change.path.parent == units.DIRECTORY]:
        units.apply(of_systemd)
        systemctl.call("enable", "--now", units.STATUS_TIMER)


def _try_out(root: Path, account: Account) -> tuple[list[str], list[SuiteError]]:
    """Send a test as the account, with what its schedule gives it; return the channels that took it, and why others
    did not.
    """
    argv = [str(root / "scripts" / SCRIPT), "--test", "--json"]
    if account.uid != os.geteuid():
        argv = ["runuser", "-u", account.name, "--", *argv]
    variables = proc.environment({"HOME": pwd.getpwnam(account.name).pw_dir})
    ended = proc.run(argv, seconds=_TEST_SECONDS, variables=variables)
    try:
        said = json.loads(ended.stdout)
        parts = said.get("channels", [])
        arrived = [str(part["channel"]) for part in parts if part["arrived"]]
        failed = [f"{part['channel']}: {part['error']}" for part in parts if not part["arrived"]]
        failed += [said["error"]] if "error" in said else []
    except (ValueError, KeyError, TypeError, AttributeError):
        arrived, failed = [], [(ended.stderr.strip().splitlines() or [f"it ended with {ended.status}"])[0]]
    errors = [SuiteError(message, f"mend it in the file of channels, then: {SCRIPT} --test") for message in failed]
    for error in errors:
        error.status = ended.status
    return arrived, errors


def _periods(alerts: Alerts) -> list[str]:
    """What to enter at the dead man's switch for each ping."""
    if not alerts.pings:
        return []
    rows = [[run, *_PERIODS[run.partition("/")[0]]] for run in alerts.pings]
    head = "enter there, unless your schedule is another one (then: its longest pause, and the time that a run takes):"
    return [head, *(f"  {line}" for line in table(["ping", "period", "grace"], rows))]
