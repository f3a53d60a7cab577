"""drill-backups.sh: one database after the other, and one result for all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone

from pgbackup import interrupt
from pgbackup.commands.drill import choice
from pgbackup.commands.drill.choice import Wanted
from pgbackup.commands.drilling import one_drill, told
from pgbackup.commands.drilling.verdict import NOT_DONE, PASSED, Drill
from pgbackup.commands.job import Job, identity, in_backup_dir
from pgbackup.commands.loading.record import Record
from pgbackup.errors import SuiteError, overall_status, path_error
from pgbackup.report import history
from pgbackup.report.events import Events
from pgbackup.report.log import EventLog, say, with_hint
from pgbackup.report.progress import Reporter
from pgbackup.report.result import Result, document, instant, table
from pgbackup.settings.config import Settings, Target
from pgbackup.store import folder
from pgbackup.store.folder import Folder

_SCRIPT = "drill-backups.sh"


def run(settings: Settings, targets: Sequence[Target], wanted: Wanted, *, quiet: bool) -> Result:
    """Drill one backup of each target. Status 65: one has failed; what could not be done has its own.

    Raise SuiteError only before anything has begun.
    """
    started = datetime.now(timezone.utc)
    with in_backup_dir(settings, create=False, quiet=quiet) as (top, reporter):
        made = [_one(settings, target, wanted, top, reporter) for target in targets]
    for each in made:
        _tell(each)
    status = overall_status([each.record.status for each in made])
    contents = document("drill", status, started=instant(started), drills=[each.document() for each in made])
    return Result(status, _lines(made), contents)


def _one(settings: Settings, target: Target, wanted: Wanted, top: Folder, reporter: Reporter) -> Drill:
    made = Drill(Record(target.name, target.database, "drill"))
    record = made.record
    events = Events((EventLog(top).write, reporter.show, history.writer(top, record.warnings)))
    try:
        interrupt.check()
        path = top.path / target.directory
        from_here = wanted.aim is None and not wanted.place
        if from_here and not os.path.lexists(path):
            raise choice.none(target.database, path)
        with folder.opened(path, create=not from_here) as place:
            job = Job(target, settings, place, identity(target, place), events, reporter)
            is_moment = wanted.aim is not None

            def opening() -> one_drill.Opened:
                nonlocal is_moment
                opened, is_moment = choice.opening(job, wanted, record)
                return opened

            one_drill.drill(job, opening, made)
            if made.verdict == PASSED and (
                slow := told.slow(made, told.drills(top, target.name), settings.rto_minutes)
            ):
                made.notes.append(slow)
                job.warning("drill.slow", f"warning: {slow}", reason=slow)
            told.emit(job, made)
            one_drill.remember(job, made, moment=is_moment)
    except (SuiteError, OSError) as raised:
        error = raised if isinstance(raised, SuiteError) else path_error(raised, top.path / target.directory)
        made.verdict, record.status, record.outcome, record.hint = NOT_DONE, error.status, error.message, error.hint
    return made


def _tell(made: Drill) -> None:
    record = made.record
    for warning in record.warnings:
        say(f"{_SCRIPT}: {record.target}: warning: {warning}")
    if record.status:
        how = "not done" if made.verdict == NOT_DONE else "FAILED"
        what = record.file or record.database
        said = f"{_SCRIPT}: {record.target}: the drill of '{what}' is {how}: {record.outcome}"
        say(with_hint(said, record.hint))


def _lines(drills: Sequence[Drill]) -> list[str]:
    rows = [
        [
            made.record.target,
            made.verdict,
            f"{made.record.rows:,}",
            f"{made.restore_seconds:.1f}",
            f"{sum(made.record.seconds.values()):.1f}",
            made.record.file,
        ]
        for made in drills
    ]
    lines = table(["database", "drill", "rows", "restore (s)", "drill (s)", "backup"], rows, right=(2, 3, 4))
    for made in drills:
        if made.steps:
            lines.append(f"{made.record.target}: compared: {', '.join(made.steps)}")
        lines += [f"{made.record.target}: note: {note}" for note in made.notes]
    return lines
