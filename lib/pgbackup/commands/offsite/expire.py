"""copy-backups.sh --expire: old copies go, with a credential that may delete, which this host does not keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pgbackup.commands import confirm, places
from pgbackup.commands.job import in_backup_dir
from pgbackup.commands.offsite import deciding, judging, one_place
from pgbackup.commands.offsite.wal import expire as wal_expire
from pgbackup.commands.offsite.wal import there as wal
from pgbackup.errors import ConfigurationError, NoBackup, SuiteError, overall_status
from pgbackup.formats import copies as named
from pgbackup.remotes.remover import Remover
from pgbackup.report.events import ERROR, INFO, Event, Events
from pgbackup.report.log import EventLog, say, with_hint
from pgbackup.report.result import Result, document
from pgbackup.settings.config import Offsite, Settings, Target
from pgbackup.store import folder, lock
from pgbackup.store.folder import Folder
from pgbackup.store.offsite import progress
from pgbackup.store.retention import Decision, Policy

_SCRIPT = "copy-backups.sh"


@dataclass
class Expiry:
    """What came of one place. removed: names of objects.

    decisions: of copies of backups, the newest first; archived: of base backups, and of WAL that goes, in that order.
    """

    place: str
    decisions: list[Decision] = field(default_factory=list)
    archived: list[Decision] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    status: int = 0
    error: str = ""
    hint: str | None = None

    @property
    def old(self) -> list[str]:
        """What may go, the oldest first."""
        return [one.name for one in [*reversed(self.decisions), *self.archived] if not one.keep]

    @property
    def reasons(self) -> dict[str, str]:
        """Why each stays or goes, by the name of its object."""
        return {one.name: one.reason for one in [*self.decisions, *self.archived]}


def run(
    settings: Settings,
    targets: Sequence[Target],
    offsite: Offsite,
    credential: Path,
    *,
    dry_run: bool,
    yes: bool,
    quiet: bool,
) -> Result:
    """Remove the copies at a place that the retention rule lets go. credential: a configuration of rclone's.

    dry_run: make the same decision, and remove nothing. Raise UsageError where nobody says yes, ConfigurationError for
    a credential that this host keeps, and what the place raises.
    """
    _check_credential(settings, credential)
    place = Remover(offsite.remote, credential, offsite.bandwidth, settings.offsite_stall_seconds)
    found = Expiry(offsite.name)
    if dry_run:
        with folder.opened(settings.backup_dir, create=False, top=True) as top, place.kept_open() as there:
            _decide(found, settings, targets, offsite, there, top)
        return _result(found, dry_run=True)
    with (
        in_backup_dir(settings, create=False, quiet=quiet) as (top, reporter),
        one_place.own(top, offsite) as own,
        lock.held(own, "copy"),
        place.kept_open() as there,
    ):
        _decide(found, settings, targets, offsite, there, top)
        if found.old and not yes:
            for line in _lines(found, dry_run=True):
                say(line)
            confirm.ask(offsite.name, f"deleting {len(found.old)} copies at '{offsite.name}'", of="place")
        _remove(there, found, Events((EventLog(top).write, reporter.show)))
    return _result(found, dry_run=False)


def _check_credential(settings: Settings, credential: Path) -> None:
    try:
        same = credential.samefile(settings.rclone_config)
    except OSError:
        same = False  # whoever reads it says why it cannot be read
    if same:
        raise ConfigurationError(
            f"'{credential}' is this host's own credential, which is not to delete",
            "give one that the host does not keep: --credential /media/usb/rclone.conf",
        )


def _decide(
    found: Expiry, settings: Settings, targets: Sequence[Target], offsite: Offsite, place: Remover, top: Folder
) -> None:
    host, sent = places.host(settings), one_place.known(top, offsite).entries
    if not sent:
        raise NoBackup(
            f"this host has no index of copies at '{offsite.name}', so none of them expires",
            f"take it back: {_SCRIPT} --to {offsite.name} --verification-key KEY",
        )
    listed = place.list(named.all_dumps(host), hashes=True)
    seen, _ = judging.judge(host, targets, listed, sent)
    policy, now = Policy(settings.retention_days, settings.min_backups), datetime.now(timezone.utc)
    for target in targets:
        here = one_place.names_here(top, target, host, encrypted=offsite.encrypted)
        found.decisions += deciding.expiring(seen[target.name], sent, here, policy, now)
    archived = wal.sent(progress.path_of(top.path, offsite.name))
    for directory in dict.fromkeys(target.directory for target in targets):
        found.archived += wal_expire.decided(settings, directory, place, host, archived, now)


def _remove(place: Remover, found: Expiry, events: Events) -> None:
    """Delete the old ones, the oldest first; what fails stops it, and is told."""
    reasons = found.reasons
    for name in found.old:
        try:
            place.remove(name)
        except NoBackup:
            continue  # the place's own rule was quicker
        except SuiteError as error:
            found.status, found.error, found.hint = error.status, error.message, error.hint
            facts = {"place": found.place, "object": name, "reason": error.message}
            said = with_hint(f"{_SCRIPT}: {found.place}: {name}: {error.message}", error.hint)
            events.emit(Event(ERROR, "-", "copy.expire_failed", facts, said))
            return
        found.removed.append(name)
        facts = {"place": found.place, "object": name, "reason": reasons[name]}
        events.emit(Event(INFO, "-", "copy.expired", facts, f"{found.place}: deleted '{name}': {reasons[name]}"))


def _result(found: Expiry, *, dry_run: bool) -> Result:
    status = overall_status([found.status])
    entry: dict[str, Any] = {
        "place": found.place,
        "status": found.status,
        "error": found.error,
        "hint": found.hint,
        "decisions": [
            {"object": one.name, "keep": one.keep, "reason": one.reason} for one in [*found.decisions, *found.archived]
        ],
        "removed": found.removed,
    }
    command = "copy --expire --dry-run" if dry_run else "copy --expire"
    return Result(status, _lines(found, dry_run=dry_run), document(command, status, places=[entry]))


def _lines(found: Expiry, *, dry_run: bool) -> list[str]:
    verb = "would delete" if dry_run else "deleted"
    gone = found.old if dry_run else found.removed
    reasons = found.reasons
    kept = len(reasons) - len(gone)
    return [
        *(f"{verb}  {what}" for what in _together(gone, reasons)),
        f"{found.place}: {verb} {len(gone)}, {kept} stay",
    ]


def _together(names: Sequence[str], reasons: Mapping[str, str]) -> list[str]:
    """A line for each, and one for all WAL of an archive: there may be thousands of it."""
    lines: dict[str, list[str]] = {}
    for name in names:
        top, directory, series = [*name.split("/"), "", ""][1:4]
        is_wal = top in ("wal", "unfinished")
        lines.setdefault(f"{top}/{directory}/{series}/" if is_wal else name, []).append(name)
    return [
        f"{some[0] if len(some) == 1 else f'{what} {len(some)} objects, the first {some[0]}'}  ({reasons[some[0]]})"
        for what, some in lines.items()
    ]
