"""What was done for a database, beside its backups: so that nobody has to open each file to say how it stands.

It proves nothing and protects nothing: a backup is what lies there. Where the ledger is lost, the next run begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from pgbackup import interrupt
from pgbackup.formats import names
from pgbackup.store import lock
from pgbackup.store.catalog import Backup
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile

MOST_BACKUPS = 400
_MOST_RUNS, _MOST_EXERCISES = 100, 50
_LONGEST_TEXT = 500
_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Made:
    """A published backup. taken: the instant that it shows; seconds: how long its run took; sha256: of the dump."""

    file: str
    taken: datetime
    bytes: int
    sql_bytes: int
    rows: int
    seconds: float
    sha256: str


@dataclass(frozen=True)
class Run:
    """The end of a run of backup-postgres.sh. status: its exit status; file: "" where it published none."""

    ended: datetime
    status: int
    seconds: float
    file: str = ""
    error: str = ""


@dataclass(frozen=True)
class Exercise:
    """A restore or a drill, as it ended. action: restore, drill, rollback or drop-old. place: where the file came from,
    "" for this host. phases: seconds of fetch, recovery, load, indexes, finish and others that were begun.

    restore_seconds: how long a restore takes by it, without what only a drill does. outcome: for people.
    """

    started: datetime
    action: str
    status: int
    file: str
    place: str
    who: str
    phases: dict[str, float]
    restore_seconds: float
    rows: int = 0
    outcome: str = ""


@dataclass(frozen=True)
class Ledger:
    """All newest first. begun: since when backups are made, None for not yet."""

    begun: datetime | None = None
    backups: list[Made] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    exercises: list[Exercise] = field(default_factory=list)

    def with_run(self, run: Run, made: Made | None, expired: Iterable[str]) -> Ledger:
        """The same after one more run. Pure."""
        gone = {*expired, *([made.file] if made else [])}
        kept = [*([made] if made else []), *(each for each in self.backups if each.file not in gone)]
        run = replace(run, error=run.error[:_LONGEST_TEXT])
        begun = self.begun or (made.taken if made else None)
        return replace(self, begun=begun, backups=kept[:MOST_BACKUPS], runs=[run, *self.runs][:_MOST_RUNS])

    def with_exercise(self, exercise: Exercise) -> Ledger:
        """The same after one more restore or drill. Pure."""
        told = replace(exercise, outcome=exercise.outcome[:_LONGEST_TEXT])
        return replace(self, exercises=[told, *self.exercises][:_MOST_EXERCISES])


def made_of(backup: Backup) -> Made:
    """What a file tells of itself; of one without a manifest no more than its size. Pure."""
    held = backup.manifest
    sql_bytes, sha256 = (held.sql_bytes, held.sha256) if held else (0, "")
    taken = statefile.to_the_second(backup.taken)
    return Made(backup.name, taken, backup.bytes, sql_bytes, backup.rows, backup.seconds, sha256)


def of(backups: Iterable[Backup]) -> Ledger:
    """The ledger that the files themselves tell of. backups: newest first, as catalog.listing() gives them. Pure."""
    made = [made_of(each) for each in backups if each.manifest and not each.problem]
    return Ledger(begun=made[-1].taken if made else None, backups=made[:MOST_BACKUPS])


def _name(database: str) -> str:
    return f".{names.stem(database)}.ledger.json"


def read(place: Folder, database: str) -> Ledger | None:
    """Return what was noted, None where nothing was. Raise Unreadable, Newer or PermissionDenied."""
    remedy = f"remove it, then the next run begins a new one: rm '{place.path / _name(database)}'"
    return statefile.read(place, _name(database), Ledger, remedy)


def write(place: Folder, database: str, ledger: Ledger) -> None:
    """Replace what was noted; held() is held. Raise OSError."""
    # The directory was just synced, or could not be: that is never tried again.
    statefile.write(place, _name(database), ledger, lasting=False)


@contextmanager
def held(place: Folder, database: str) -> Iterator[None]:
    """Keep other runs from writing it for the length of a short block. Raise LockHeld after some seconds."""
    with ExitStack() as stack:
        with interrupt.shielded():  # a run that is stopped notes that, too
            stack.enter_context(lock.awaited(place, f"{names.stem(database)}%ledger", _WAIT_SECONDS))
        yield
