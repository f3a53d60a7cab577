"""What a drill says: to the log, to the history, and to who waits for a slow restore."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from pgbackup.commands import noting
from pgbackup.commands.drilling.verdict import FAILED, PASSED, Drill
from pgbackup.commands.job import Job
from pgbackup.errors import SuiteError
from pgbackup.report import history
from pgbackup.report.events import ERROR, INFO, WARNING, Event
from pgbackup.store.folder import Folder

_MANY = 50
_FEW = 3  # drills without which there is no usual time
_SLOWER = 2.0


def drills(top: Folder, target: str) -> list[dict[str, Any]]:
    """The last drills of a database that the history tells of. Raise as history.newest()."""
    return history.newest(top, lambda record: record.get("action") == "drill" and record.get("target") == target, _MANY)


def emit(job: Job, made: Drill) -> None:
    """Emit the end of a drill as an event, with its record, and note it in the database's ledger."""
    record = made.record
    try:
        if record.began and (warning := noting.exercise(job.place, record, made.restore_seconds)):
            record.warnings.append(warning)
    except (SuiteError, OSError) as error:
        record.warnings.append(f"it could not be noted: {error}")
    facts: dict[str, object] = {"verdict": made.verdict, "file": record.file, "rows": record.rows}
    line = {**record.line(), "verdict": made.verdict, "restore_seconds": made.restore_seconds}
    if made.verdict == PASSED:
        said = f"{job.target.name}: drilled '{Path(record.file).name}': loaded, compared, all equal;"
        said += f" a restore takes {made.restore_seconds:.1f} s"
        job.events.emit(Event(INFO, job.target.name, "drill.passed", facts, said, line))
        return
    facts |= {"status": record.status, "reason": record.outcome}
    level, name = (ERROR, "drill.failed") if made.verdict == FAILED else (WARNING, "drill.not-done")
    job.events.emit(Event(level, job.target.name, name, facts, record=line))


def slow(made: Drill, before: Iterable[Mapping[str, Any]], rto_minutes: int) -> str:
    """Why a restore takes too long by this drill, "" where it does not. Pure.

    before: records of the history, of any kind. rto_minutes: 0 for no limit.
    """
    seconds = made.restore_seconds
    if rto_minutes and seconds > rto_minutes * 60:
        return f"a restore takes {seconds / 60:.1f} min, more than RTO_MINUTES={rto_minutes}"
    earlier = [
        found
        for record in before
        if record.get("action") == "drill" and record.get("target") == made.record.target
        if record.get("verdict") == PASSED and isinstance(found := record.get("restore_seconds"), int | float)
    ]
    usual = median(earlier) if len(earlier) >= _FEW else 0
    if usual and seconds > _SLOWER * usual and seconds > usual + 1:
        return f"a restore takes {seconds:.1f} s, more than twice as long as usual ({usual:.1f} s)"
    return ""
