"""verify-backups.sh: reads every backup of every database to its last byte. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from pgbackup.commands import archiving, lost_settings
from pgbackup.commands.verify import noting, wal
from pgbackup.commands.verify.wal import Found
from pgbackup.errors import BackupBad, NoBackup, PermissionDenied, overall_status
from pgbackup.formats import dumpfile, names
from pgbackup.formats.dumpfile import Contents
from pgbackup.report.log import advice, say
from pgbackup.report.progress import Reporter, reporting
from pgbackup.report.result import Result, age, document, instant, size, table
from pgbackup.settings.config import Settings, Target
from pgbackup.store import catalog, folder
from pgbackup.store.catalog import Backup
from pgbackup.store.folder import Folder
from pgbackup.store.state import drills, verified
from pgbackup.store.state.drills import Drills
from pgbackup.store.state.verified import Proven
from pgbackup.store.unclaimed import Unclaimed
from pgbackup.store.wal.recoverable import counted

_SCRIPT = "verify-backups.sh"
_SMALL_BYTES = 1024


@dataclass(frozen=True)
class Verdict:
    """What was found out about one file. problem: "" for a good one. contents, proven: None where it has a problem."""

    backup: Backup
    problem: str
    contents: Contents | None = None
    proven: Proven | None = None

    @property
    def state(self) -> str:
        if self.problem:
            return f"unknown: {self.problem}" if self.backup.denied else f"BAD: {self.problem}"
        notes = [] if self.backup.manifest else ["no manifest to compare with"]
        notes += ["under 1 kB"] if self.backup.bytes < _SMALL_BYTES else []
        return f"good ({', '.join(notes)})" if notes else "good"


@dataclass(frozen=True)
class Checked:
    """One database's files, newest first. complaint: why they are not enough, or ""; warning: about LATEST.

    unknown: why it is not known what was drilled, or "".
    """

    target: Target
    verdicts: list[Verdict]
    complaint: str
    warning: str
    drilled: Drills
    unknown: str

    @property
    def status(self) -> int:
        problems = [verdict.backup for verdict in self.verdicts if verdict.problem]
        if problems:
            return PermissionDenied.status if all(backup.denied for backup in problems) else BackupBad.status
        return NoBackup.status if self.complaint else 0


def run(settings: Settings, targets: Sequence[Target], *, max_age: timedelta, quiet: bool) -> Result:
    """Check all backups of the targets. Status 65: one is bad; 66: a database has no good one that is fresh.

    Status 77: this user may not read one of them, and all others are good. Raise PermissionDenied when not even
    their directory may be read, CannotCreate when BACKUP_DIR is not there.
    """
    now = datetime.now(timezone.utc)
    with ExitStack() as stack:
        top = stack.enter_context(folder.opened(settings.backup_dir, create=False, top=True))
        reporter = stack.enter_context(reporting(quiet))
        places = [_place(stack, settings, target) for target in targets]
        known = [
            catalog.listing(place, target.database, strangers=True) if place else []
            for target, place in zip(targets, places, strict=True)
        ]
        with _pool() as pool, reporter.bar("verifying", sum(b.bytes for backups in known for b in backups)) as advance:
            found = [
                pool.map(partial(_check, place, advance=advance), backups)
                for place, backups in zip(places, known, strict=True)
            ]
            checked = [
                _conclude(target, place, [verdict for verdict in verdicts if verdict], now, max_age)
                for target, place, verdicts in zip(targets, places, found, strict=True)
            ]
        unnoted = [_note(top, one, now) for one in checked]
        archives = _archives(settings, targets, top, reporter, now)
        others = lost_settings.found(settings, top)
    _tell(settings, checked)
    for sentence in filter(None, unnoted):
        say(f"{_SCRIPT}: warning: what was found is not noted: {sentence}")
    for sentence in lost_settings.told(top, others):
        say(f"{_SCRIPT}: warning: {sentence}: nobody verifies or expires them")
    _advise(checked, others)
    for line in (line for found in archives for line in wal.told(found)):
        say(f"{_SCRIPT}: {line}")
    found_out = [*(one.status for one in checked), *(one.status for one in archives)]
    statuses = [status for status in found_out if status]
    status = BackupBad.status if BackupBad.status in statuses else overall_status(statuses)
    databases = [_entry(one) for one in checked]
    told = document(
        "verify",
        status,
        started=instant(now),
        databases=databases,
        archives=[found.entry() for found in archives],
        unclaimed=lost_settings.entries(others),
    )
    return Result(status, [*_lines(checked, now), *(line for found in archives for line in found.lines())], told)


def _archives(
    settings: Settings, targets: Sequence[Target], top: Folder, reporter: Reporter, now: datetime
) -> list[Found]:
    """What was found out about WAL archives; databases that share a directory share one."""
    first: dict[str, Target] = {}
    for target in targets:
        first.setdefault(target.directory, target)
    jobs = [archiving.job_at(settings, target, top, reporter) for target in first.values()]
    return [found for job in jobs if (found := wal.check(job, job.target.directory, now))]


def _place(stack: ExitStack, settings: Settings, target: Target) -> Folder | None:
    path = settings.backup_dir / target.directory
    return stack.enter_context(folder.opened(path, create=False)) if path.exists() else None


def _pool() -> ThreadPoolExecutor:
    """One thread for each processor: decompression and hashing run outside Python's lock."""
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)))


def _check(place: Folder | None, backup: Backup, advance: Callable[[int], None]) -> Verdict | None:
    """Read one file through. None: it was removed in the meantime."""
    if backup.problem or place is None:
        return Verdict(backup, backup.problem)
    try:
        descriptor = catalog.open_file(place, backup.name)
    except FileNotFoundError:
        return None
    except (BackupBad, OSError) as error:
        return Verdict(backup, str(error))
    try:
        at, status = datetime.now(timezone.utc), os.fstat(descriptor)
        contents = dumpfile.check(descriptor, advance)
        sha256 = contents.manifest.sha256 if contents.manifest else ""
        return Verdict(backup, "", contents, verified.proven(at, sha256, status))
    except BackupBad as bad:
        return Verdict(backup, bad.message)
    except OSError as error:
        return Verdict(backup, f"it cannot be read: {error.strerror}")
    finally:
        os.close(descriptor)


def _conclude(
    target: Target, place: Folder | None, verdicts: list[Verdict], now: datetime, max_age: timedelta
) -> Checked:
    good = [verdict.backup for verdict in verdicts if not verdict.problem]
    past = [backup for backup in good if backup.taken <= now]
    if not good:
        complaint = f"there is no good backup of '{target.database}'"
    elif not past:
        complaint = (
            f"all good backups of '{target.database}' are dated later than now, and the clock says {now:%F %T} UTC"
        )
    elif now - past[0].taken > max_age:
        old = age((now - past[0].taken).total_seconds())
        limit = max_age / timedelta(hours=1)
        complaint = f"the newest good backup of '{target.database}' is {old} old, more than {limit:g} h"
    else:
        complaint = ""
    drilled, unknown = drills.look(place, target.database) if place else (Drills(), "")
    return Checked(target, verdicts, complaint, _latest_warning(target, place, good), drilled, unknown)


def _note(top: Folder, one: Checked, now: datetime) -> str:
    if not one.verdicts:
        return ""
    bad = {each.backup.name: each.problem for each in one.verdicts if each.problem and not each.backup.denied}
    denied = sum(each.backup.denied for each in one.verdicts)
    good = sum(not each.problem for each in one.verdicts)
    proven = {each.backup.name: each.proven for each in one.verdicts if each.proven}
    return noting.of(top, one.target, noting.Found(now, good, proven, bad, denied, one.status))


def _latest_warning(target: Target, place: Folder | None, good: list[Backup]) -> str:
    """What is wrong with the LATEST link, which an operator at 4 AM restores from, or ""."""
    latest = names.latest(target.database)
    if place is None or not good:
        return ""
    try:
        pointed = os.readlink(latest, dir_fd=place.fd)
    except OSError:
        return (
            f"'{place.path / latest}' is not a link to the newest good backup; the next backup makes it, where it can"
        )
    own = [backup.name for backup in good if not backup.manual] or [backup.name for backup in good]
    if pointed not in own[:1]:
        what = "an older one" if pointed in own else "not a good backup of the suite's"
        return f"'{place.path / latest}' leads to '{pointed}', which is {what}; newest good: '{own[0]}'"
    return ""


def _tell(settings: Settings, checked: Sequence[Checked]) -> None:
    for one in checked:
        where = settings.backup_dir / one.target.directory
        for verdict in one.verdicts:
            if verdict.problem:
                state = "unknown" if verdict.backup.denied else "bad"
                say(f"{_SCRIPT}: '{where / verdict.backup.name}' is {state}: {verdict.problem}")
        if one.complaint:
            say(f"{_SCRIPT}: {one.target.name}: {one.complaint} in '{where}'")
        for warning in filter(None, (one.warning, one.unknown)):
            say(f"{_SCRIPT}: {one.target.name}: warning: {warning}")


def _advise(checked: Sequence[Checked], others: Sequence[Unclaimed]) -> None:
    if any(one.status == PermissionDenied.status for one in checked):
        say(advice("run it as the owner of the backups, or as root: sudo verify-backups.sh"))
    elif others and any(one.complaint and not one.verdicts for one in checked):
        say(advice(lost_settings.hint(others)))
    elif any(one.status for one in checked):
        say(advice("make a new backup now: backup-postgres.sh; then look at the bad files and at backup.log"))


def _lines(checked: Sequence[Checked], now: datetime) -> list[str]:
    rows = []
    for one in checked:
        for verdict in one.verdicts:
            contents = verdict.contents
            rows.append(
                [
                    f"{one.target.directory}/{verdict.backup.name}",
                    age((now - verdict.backup.taken).total_seconds()),
                    size(verdict.backup.bytes),
                    f"{sum(contents.rows.values()):,}" if contents else "",
                    f"{contents.statements:,}" if contents else "",
                    one.drilled.state(verdict.backup.sha256),
                    verdict.state,
                ]
            )
    files = (
        table(["file", "age", "size", "rows", "statements", "drilled", "state"], rows, right=(1, 2, 3, 4))
        if rows
        else []
    )
    failed = [verdict.backup.denied for one in checked for verdict in one.verdicts if verdict.problem]
    unknown = f", {sum(failed)} unknown" if any(failed) else ""
    good, bad = len(rows) - len(failed), len(failed) - sum(failed)
    return [*files, f"{counted(len(rows), 'backup')}: {good} good, {bad} bad{unknown}"]


def _entry(one: Checked) -> dict[str, Any]:
    return {
        "target": one.target.name,
        "database": one.target.database,
        "status": one.status,
        "error": one.complaint,
        "warning": one.warning,
        "files": [
            {
                "file": verdict.backup.name,
                "taken": instant(verdict.backup.taken),
                "file_bytes": verdict.backup.bytes,
                "state": ("unknown" if verdict.backup.denied else "bad") if verdict.problem else "good",
                "problem": verdict.problem,
                "manifest": verdict.backup.manifest is not None,
                "sql_bytes": verdict.contents.sql_bytes if verdict.contents else None,
                "statements": verdict.contents.statements if verdict.contents else None,
                "rows": verdict.contents.rows if verdict.contents else None,
                **one.drilled.entry(verdict.backup.sha256),
            }
            for verdict in one.verdicts
        ],
    }
