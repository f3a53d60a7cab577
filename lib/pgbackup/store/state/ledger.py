"""What was done for a database, beside its backups: so that nobody has to open each file to say how it stands.

It proves nothing and protects nothing: a backup is what lies there. Where the ledger is lost, the next run begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

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
    taken: str
    bytes: int
    sql_bytes: int
    rows: int
    seconds: float
    sha256: str


@dataclass(frozen=True)
class Run:
    """The end of a run of backup-postgres.sh. file: "" where it published none."""

    ended: str
    status: int
    seconds: float
    file: str = ""
    error: str = ""


@dataclass(frozen=True)
class Exercise:
    """A restore, rollback or drill, as it ended. phases: seconds. place: where the file came from, "" for this host."""

    started: str
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
    """All newest first. begun: since when backups are made, "" for not yet."""

    begun: str = ""
    backups: list[Made] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    exercises: list[Exercise] = field(default_factory=list)

    def __post_init__(self) -> None:
        for told in (
            *([self.begun] if self.begun else []),
            *(each.taken for each in self.backups),
            *(each.ended for each in self.runs),
            *(each.started for each in self.exercises),
        ):
            statefile.instant(told)

    def with_run(self, run: Run, made: Made | None, expired: Iterable[str]) -> Ledger:
        """The same after one more run. Pure."""
        gone = {*expired, *([made.file] if made else [])}
        kept = [*([made] if made else []), *(each for each in self.backups if each.file not in gone)]
        run = replace(run, error=run.error[:_LONGEST_TEXT])
        begun = self.begun or (made.taken if made else "")
        return replace(self, begun=begun, backups=kept[:MOST_BACKUPS], runs=[run, *self.runs][:_MOST_RUNS])

    def with_exercise(self, exercise: Exercise) -> Ledger:
        """The same after one more restore or drill. Pure."""
        told = replace(exercise, outcome=exercise.outcome[:_LONGEST_TEXT])
        return replace(self, exercises=[told, *self.exercises][:_MOST_EXERCISES])


def text(moment: datetime) -> str:
    """An instant as it stands here."""
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds")


def made_of(backup: Backup) -> Made:
    """What a file tells of itself; of one without a manifest no more than its size. Pure."""
    held = backup.manifest
    sql_bytes, sha256 = (held.sql_bytes, held.sha256) if held else (0, "")
    return Made(backup.name, text(backup.taken), backup.bytes, sql_bytes, backup.rows, backup.seconds, sha256)


def of(backups: Iterable[Backup]) -> Ledger:
    """The ledger that the files themselves tell of. backups: newest first, as catalog.listing() gives them. Pure."""
    made = [made_of(each) for each in backups if each.manifest and not each.problem]
    return Ledger(begun=made[-1].taken if made else "", backups=made[:MOST_BACKUPS])


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
