"""setup-offsite.sh: a place is tried out, what is here is copied there, and the schedule goes on with it."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pgbackup import proc
from pgbackup.commands import places
from pgbackup.commands.setup import frame
from pgbackup.commands.setup.options import Options
from pgbackup.errors import ConfigurationError, SuiteError
from pgbackup.host import accounts
from pgbackup.host.accounts import Account
from pgbackup.host.scheduling import crontab, installed, systemctl, units
from pgbackup.host.scheduling.installed import Change
from pgbackup.remotes import probe
from pgbackup.remotes.probe import Finding, Probe
from pgbackup.report.log import say
from pgbackup.report.result import Result
from pgbackup.settings.config import Offsite, Settings
from pgbackup.store import folder
from pgbackup.store.offsite import progress, signing
from pgbackup.store.state import keys
from pgbackup.store.wal import archive

SCRIPT = "setup-offsite.sh"
_EVERY_FIVE_MINUTES = "*/5 * * * *"
_FIRST_COPY_SECONDS = 7 * 86400
_FOLLOW = "--follow"
_STARTED = (units.OFFSITE_TIMER, units.OFFSITE_FOLLOWER)


@dataclass(frozen=True)
class Wanted:
    """What the set-up was asked for, beside its Options. unencrypted: said in full on the command line.

    verification_key: that the index of earlier copies there was signed for, from paper.
    """

    offsite: Offsite
    unencrypted: bool
    verification_key: str | None = None


def set_up(settings: Settings, root: Path, options: Options, wanted: Wanted) -> Result:
    """Try the place out, copy as the backup account, and let systemd (else cron) go on every five minutes; where WAL is
    archived, also as it comes.

    The status is that of the first copy. Raise SuiteError before anything is changed: a place that cannot be used,
    nobody to encrypt for, no such account.
    """
    offsite = wanted.offsite
    _check_encryption(settings, wanted)
    account = _account(options)
    with frame.alone():
        findings = _findings(settings, offsite, options.dry_run)
        changes = _changes(settings, root, options, account)
        if not options.dry_run:
            _apply(changes)
    for finding in findings:
        if not finding.holds:
            say(f"{SCRIPT}: {offsite.name}: {finding.question}: {finding.answer}. To change: {finding.advice}")
    failures = [] if options.dry_run else _first_copy(root, account, wanted)
    done = [
        *(f"{finding.question}: {finding.answer}" for finding in findings),
        *(probe.policy(offsite.remote) if any(finding.question == probe.LOCKS for finding in findings) else []),
        f"copies go to '{offsite.name}' every five minutes, as '{account.name}'{_and_wal(settings)}:",
        *(f"  {change.path}" for change in changes),
        *([] if options.dry_run else _verification_key(settings, offsite)),
        f"see what is there: verify-backups.sh --at {offsite.name}",
    ]
    return frame.told(SCRIPT, options, changes, done, [], failures, what="a copy")


def take_down(root: Path, options: Options) -> Result:
    """End the schedule; what was copied stays, here and there."""
    script = root / "scripts" / "copy-backups.sh"
    with frame.alone():
        changes, warnings = units.removals((*units.OFFSITE, units.OFFSITE_FOLLOWER), root)
        user = options.user or accounts.DEFAULT
        if crontab.installed() and accounts.exists(user):
            before = crontab.read(user)
            changes.append(crontab.change(user, before, crontab.removed(before, script)))
        if not options.dry_run:
            there = [change.path.name for change in changes]
            if on := [name for name in _STARTED if name in there and systemctl.running()]:
                systemctl.call("disable", "--now", *on)
            crontab.apply(changes)
            units.apply([change for change in changes if change.path.parent == units.DIRECTORY])
    had = any(change.before != change.after for change in changes)
    done = "the schedule of the copies is gone; the copies stay" if had else "nothing copied backups elsewhere"
    return frame.told(SCRIPT, options, changes, [done], warnings)


def _check_encryption(settings: Settings, wanted: Wanted) -> None:
    offsite = wanted.offsite
    key = f"{offsite.name.upper()}_ENCRYPTED"
    if not offsite.encrypted and not wanted.unencrypted:
        raise ConfigurationError(
            f"{key}=no: whoever can read '{offsite.name}' would read every row",
            f"encrypt: sudo setup-encryption.sh, and take {key} out; or say so in full: --unencrypted",
        )
    if offsite.encrypted and wanted.unencrypted:
        raise ConfigurationError(f"--unencrypted needs {key}=no in .env, too", "or leave it out, and encrypt")
    if offsite.encrypted and not keys.recipients(settings.encryption_recipients).current:
        raise ConfigurationError(
            f"there is nobody to encrypt the copies at '{offsite.name}' for", "make a key: sudo setup-encryption.sh"
        )


def _account(options: Options) -> Account:
    before = installed.read(units.DIRECTORY / units.OFFSITE[0]) or installed.read(units.DIRECTORY / units.SERVICE)
    return accounts.find(options.user or units.user_of(before) or accounts.DEFAULT)


def _findings(settings: Settings, offsite: Offsite, dry_run: bool) -> Sequence[Finding]:
    """What the place refuses; a dry run only looks whether it is there."""
    place, host = (
        Probe(offsite.remote, settings.rclone_config, offsite.bandwidth, settings.offsite_stall_seconds),
        places.host(settings),
    )
    if dry_run:
        place.list(f"{host}/probe")
        return []
    return list(probe.of(place, host, offsite.lock_days))


def _changes(settings: Settings, root: Path, options: Options, account: Account) -> list[Change]:
    follows = _is_archived(settings)
    if systemctl.running():
        host = units.host_of(settings, root, account.name)
        names = [*units.OFFSITE, *([units.OFFSITE_FOLLOWER] if follows else [])]
        return [units.change_of(name, host, None, options.user) for name in names]
    script = root / "scripts" / "copy-backups.sh"
    for path in (script, settings.backup_dir):
        units.check_path(path)
    before = crontab.read(account.name)
    line = crontab.job(_EVERY_FIVE_MINUTES, settings.backup_dir, settings.retention_days, script)
    after = crontab.added(before, script, f"{line} -q", None)
    if follows:
        following = crontab.watchdog(settings.backup_dir, script, _FOLLOW)
        after = crontab.redirected(
            crontab.added(after, script, following, None, _FOLLOW), script, settings.backup_dir, _FOLLOW
        )
    return [crontab.change(account.name, before, after)]


def _is_archived(settings: Settings) -> bool:
    """Whether there is WAL that is to go along as it comes."""
    return any(archive.path_of(settings.backup_dir, target.directory).is_dir() for target in settings.targets)


def _and_wal(settings: Settings) -> str:
    return (
        f", and WAL as it comes, at the latest after {settings.offsite_wal_seconds} s" if _is_archived(settings) else ""
    )


def _apply(changes: Sequence[Change]) -> None:
    if systemctl.running():
        units.apply(changes)
        systemctl.call("enable", "--now", units.OFFSITE_TIMER)
        if any(change.path.name == units.OFFSITE_FOLLOWER for change in changes):
            systemctl.call("enable", units.OFFSITE_FOLLOWER)
            systemctl.call("restart", units.OFFSITE_FOLLOWER)  # with the settings of now
    else:
        crontab.apply(changes)


def _verification_key(settings: Settings, offsite: Offsite) -> list[str]:
    """What is to be printed of the key that signs the index there; nothing where there is none yet."""
    path = progress.path_of(settings.backup_dir, offsite.name)
    try:
        with folder.opened(path, create=False) as own:
            key = signing.public(own)
    except SuiteError:
        return []
    if key is None:
        return []
    return [
        f"this key verifies the index of what was copied to '{offsite.name}'; print it, for a rebuilt host needs it:",
        f"  {key}",
    ]


def _first_copy(root: Path, account: Account, wanted: Wanted) -> list[SuiteError]:
    """Copy what is here, as the account and with what its schedule gives it; return why it failed, if it did."""
    argv = [str(root / "scripts" / "copy-backups.sh"), "--to", wanted.offsite.name, "--now", "--json"]
    argv += ["--verification-key", wanted.verification_key] if wanted.verification_key else []
    if account.uid != os.geteuid():
        argv = ["runuser", "-u", account.name, "--", *argv]
    variables = proc.environment({"HOME": pwd.getpwnam(account.name).pw_dir})
    ended = proc.run(argv, seconds=_FIRST_COPY_SECONDS, variables=variables)
    if ended.status == 0:
        return []
    try:
        said = json.loads(ended.stdout)
        part = (said.get("places") or [said])[0]
        problems = [one["problem"] for one in part.get("problems", [])]
        error = SuiteError(part["error"] or "; ".join(problems), part.get("hint"))
    except (ValueError, KeyError, TypeError, AttributeError):
        error = SuiteError((ended.stderr.strip().splitlines() or [f"it ended with {ended.status}"])[0])
    error.status = ended.status
    return [error]
