"""The drill on the night itself: of a small database always, of a larger one when its schema is new."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pgbackup import interrupt
from pgbackup.commands.drilling import one_drill, told
from pgbackup.commands.drilling.verdict import FAILED, NOT_DONE, PASSED, Drill
from pgbackup.commands.job import Job, Outcome
from pgbackup.commands.loading.record import Record
from pgbackup.errors import BackupBad, SuiteError
from pgbackup.store import catalog, source
from pgbackup.store.state import drills
from pgbackup.store.state.drills import Drills

_ONE_AT_A_TIME = threading.Lock()  # each may take RECOVERY_MEGABYTES


def drill(job: Job, outcome: Outcome, past: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
    """Drill the backup that was just published, if it is to be. Raise BackupBad where it has failed.

    past: gives the records of the history.
    What keeps a drill from being done is a warning: the backup is as good as it was.
    """
    made = Drill(Record(job.target.name, job.target.database, "drill"))
    try:
        if not job.settings.drill_after_backup or not (why := _why(job, outcome)):
            return
        with _ONE_AT_A_TIME, outcome.timed("drill"):
            job.info("drill.start", file=outcome.file, reason=why)
            path = job.place.path / outcome.file
            one_drill.drill(job, lambda: source.reading(path, job.target.database), made)
        if made.verdict == PASSED and (slow := told.slow(made, past(), job.settings.rto_minutes)):
            job.warn("drill.slow", slow, outcome)
        told.emit(job, made)
        one_drill.remember(job, made, moment=False)
    except (SuiteError, OSError) as error:
        if made.verdict == FAILED:  # which must not be lost because it could not be noted
            job.warn("drill.unnoted", str(error), outcome)
        else:
            made.verdict, made.record.outcome = NOT_DONE, str(error)
    interrupt.check()
    record = made.record
    outcome.drill = made.verdict
    if made.verdict == FAILED:
        raise BackupBad(f"the backup is published, but it cannot be restored: {record.outcome}", record.hint)
    if made.verdict == NOT_DONE:
        job.warn("drill.not-done", f"the backup is published, but was not drilled: {record.outcome}", outcome)


def _why(job: Job, outcome: Outcome) -> str:
    known = drills.read(job.place, job.target.database)
    last = catalog.last_good(job.place, job.target.database)
    if last is None or last.name != outcome.file or last.manifest is None:
        return ""
    return due(outcome.database_bytes, last.manifest.schema, known, job.settings.drill_after_backup_megabytes)


def due(database_bytes: int, schema: str, known: Drills, megabytes: int) -> str:
    """Why a new backup is to be drilled now, "" where it is not. Pure. schema: its fingerprint."""
    if database_bytes <= megabytes * 1_000_000:
        return f"the database is not larger than {megabytes} MB"
    return "the schema is not the one that was drilled last" if schema != known.schema else ""
