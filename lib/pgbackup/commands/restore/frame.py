"""The frame around a restore, a rollback or a drop: log, history, result, and every failure told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pgbackup.commands import lost_settings, noting
from pgbackup.commands.job import Job, identity, in_backup_dir, looking
from pgbackup.commands.loading.record import Record
from pgbackup.errors import NoBackup, SuiteError, Unavailable, path_error
from pgbackup.report import history
from pgbackup.report.events import ERROR, INFO, Event, Events
from pgbackup.report.log import EventLog, say, with_hint
from pgbackup.report.result import Result, document
from pgbackup.settings.config import Settings, Target
from pgbackup.store import folder
from pgbackup.store.wal.recoverable import counted

_SCRIPT = "restore-postgres.sh"


def run(
    settings: Settings, target: Target, action: str, work: Callable[[Job, Record], object], *, quiet: bool, dry: bool
) -> Result:
    """Do `work` on one database and return what came of it; unless `dry`, append it to restore-history.jsonl.

    action: the word for it in the history: restore, rollback, drop-old. Raise SuiteError only before it begins.
    """
    record = Record(target.name, target.database, action)
    with in_backup_dir(settings, create=True, quiet=quiet) as (top, reporter):
        events = Events((EventLog(top).write, reporter.show, history.writer(top, record.warnings)))
        try:
            with folder.opened(top.path / target.directory, create=True) as place:
                called = looking() if dry else identity(target, place)
                work(Job(target, settings, place, called, events, reporter), record)
            record.outcome = "dry run" if dry else "done"
        except (SuiteError, OSError) as raised:
            error = raised if isinstance(raised, SuiteError) else path_error(raised, top.path / target.directory)
            record.status, record.outcome, record.hint = error.status, error.message, error.hint
            # Without .env the defaults are asked for: a container that is not there, a file that is not there.
            lost = isinstance(error, NoBackup | Unavailable) and not record.began
            if lost and (others := lost_settings.instead_of(settings, target, top)):
                record.outcome = "; ".join([error.message, *lost_settings.told(top, others)])
                record.hint = lost_settings.hint(others)
            if record.swapped and not record.unwell:
                record.outcome += f"; '{record.into or record.database}' is already the restored one"
        if record.began:
            _note(record, top.path / target.directory)
        if record.began or record.status:
            events.emit(_end(record))
    for warning in record.warnings + ([] if record.swapped else record.unwell):
        say(f"{_SCRIPT}: warning: {warning}")
    if record.status:
        say(with_hint(f"{_SCRIPT}: {target.name}: {record.outcome}", record.hint))
    return Result(record.status, _lines(record, dry), document(action, **record.document()))


def _note(record: Record, path: Path) -> None:
    """Note in the database's ledger how long it took."""
    try:
        with folder.opened(path, create=False, writing=True) as place:
            warning = noting.exercise(place, record, round(sum(record.seconds.values()), 1))
    except (SuiteError, OSError) as error:
        warning = f"it could not be noted: {error}"
    record.warnings += [warning] if warning else []


def _end(record: Record) -> Event:
    """The event that the record ends with; only what has changed something belongs into the history. Pure."""
    facts: dict[str, object] = {"status": record.status, "reason": record.outcome}
    if not record.began:
        return Event(ERROR, record.target, f"{record.action}.refused", facts)
    facts = {"status": record.status, "file": record.file, "rows": record.rows, "reason": record.outcome}
    level, how = (ERROR, "failed") if record.status else (INFO, "done")
    return Event(level, record.target, f"{record.action}.{how}", facts, record=record.line())


def _lines(record: Record, dry: bool) -> list[str]:
    if dry or not (record.swapped or (record.action == "drop-old" and not record.status)):
        return []
    total = sum(record.seconds.values())
    if record.action == "drop-old":
        return [f"dropped {record.file}"]
    done = "rolled back to" if record.action == "rollback" else "restored from"
    lines = [f"'{record.into or record.database}' {done} '{record.file}' in {total:.1f} s"]
    if record.unreplayed:
        lines += [f"  not as it was: {one}" for one in record.unreplayed]
    elif record.rows:
        lines.append(
            f"  {counted(record.tables, 'table')}, {record.rows:,} rows: each table counted, all equal to the backup"
        )
    if record.downtime_seconds:
        lines.append(f"  services were stopped for {record.downtime_seconds:.1f} s; {record.health or 'no health URL'}")
    if record.safety:
        lines.append(f"  the database as it was is in the backup '{record.safety}'")
    if record.replaced:
        lines.append(
            f"  the old database is kept as '{record.replaced}', closed to connections:"
            " --rollback brings it back, --drop-old removes it"
        )
    return lines
