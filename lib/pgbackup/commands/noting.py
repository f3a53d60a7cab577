"""What a command has done for a database is noted in its ledger, for whoever asks how the backups stand."""

from __future__ import annotations

from dataclasses import replace

from pgbackup.commands.job import Outcome
from pgbackup.commands.loading.record import Record
from pgbackup.errors import LockHeld
from pgbackup.report import redaction
from pgbackup.store import catalog
from pgbackup.store.folder import Folder
from pgbackup.store.state import ledger, statefile
from pgbackup.store.state.ledger import Exercise, Ledger, Made, Run
from pgbackup.store.state.statefile import Newer, Unreadable

_APART = ("drill", "base backup", "reread")  # what a run does besides the backup


def run_of(place: Folder, outcome: Outcome, error: str) -> str:
    """Note the end of a backup's run, also of one that has failed; the lock of the database is not held any more.

    Return a warning about an earlier ledger, or "". Raise SuiteError or OSError where it cannot be noted.
    """
    if outcome.status == LockHeld.status:
        return ""  # the run that is at work notes its own end
    with ledger.held(place, outcome.database):
        known, warning = _known(place, outcome.database)
        if not known.backups:
            known = _with_files(place, outcome.database, known)
        seconds = round(sum(outcome.seconds.values()), 1)
        run = Run(statefile.now(), outcome.status, seconds, outcome.file, redaction.without_values(error))
        ledger.write(place, outcome.database, known.with_run(run, _made(place, outcome), outcome.expired))
    return warning


def _made(place: Folder, outcome: Outcome) -> Made | None:
    found = catalog.one(place, outcome.database, outcome.file) if outcome.file else None
    if found is None or found.manifest is None:
        return None
    seconds = sum(each for phase, each in outcome.seconds.items() if phase not in _APART)
    made = ledger.made_of(found)
    return replace(made, sql_bytes=outcome.sql_bytes, rows=outcome.rows, seconds=round(seconds, 1))


def exercise(place: Folder, record: Record, restore_seconds: float) -> str:
    """Note a restore or a drill that has ended. Return a warning about an earlier ledger, or "".

    Raise SuiteError or OSError where it cannot be noted.
    """
    told = Exercise(
        started=statefile.to_the_second(record.started),
        action=record.action,
        status=record.status,
        file=record.file,
        place=record.place,
        who=record.who,
        phases=dict(record.seconds),
        restore_seconds=restore_seconds,
        rows=record.rows,
        outcome=redaction.without_values(record.outcome),
    )
    with ledger.held(place, record.database):
        known, warning = _known(place, record.database)
        ledger.write(place, record.database, known.with_exercise(told))
    return warning


def _known(place: Folder, database: str) -> tuple[Ledger, str]:
    """What was noted so far. A damaged ledger is begun anew, and that is told. Raise Newer."""
    try:
        return ledger.read(place, database) or Ledger(), ""
    except Newer:
        raise
    except Unreadable as error:
        return Ledger(), f"{error.message}: it is begun anew"


def _with_files(place: Folder, database: str, known: Ledger) -> Ledger:
    """The same with the backups that lie there: where the ledger is new, or was lost."""
    found = ledger.of(catalog.listing(place, database))
    return Ledger(known.begun or found.begun, found.backups, known.runs, known.exercises)
