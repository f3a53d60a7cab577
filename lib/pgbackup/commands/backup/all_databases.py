"""backup-postgres.sh: every database on its own, several at once, and one result for all."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial

from pgbackup import __version__, interrupt
from pgbackup.commands import archiving, base_backup, noting
from pgbackup.commands.backup.one_database import back_up
from pgbackup.commands.drilling import after_backup, told
from pgbackup.commands.job import Job, Outcome, identity, in_backup_dir
from pgbackup.errors import IoFailed, LockHeld, SuiteError, overall_status, path_error
from pgbackup.report import history
from pgbackup.report.events import ERROR, INFO, WARNING, Event, Events
from pgbackup.report.log import EventLog, with_hint
from pgbackup.report.progress import Reporter
from pgbackup.report.result import Result, document, instant, size, table
from pgbackup.settings.config import Settings, Target
from pgbackup.store import folder
from pgbackup.store.folder import Folder

_SCRIPT = "backup-postgres.sh"
_TICK_SECONDS = 0.1


def run(settings: Settings, targets: Sequence[Target], *, quiet: bool) -> Result:
    """Back up the targets, BACKUP_JOBS at a time, and return what came of each.

    Raise SuiteError only before anything has begun: afterwards every failure is a part of the result.
    """
    started = datetime.now(timezone.utc)
    with in_backup_dir(settings, create=True, quiet=quiet) as (top, reporter):
        log = EventLog(top)
        unwritten: list[str] = []
        events = Events((log.write, reporter.show, history.writer(top, unwritten)))
        names = " ".join(target.name for target in targets)
        events.emit(Event(INFO, "-", "run.start", {"version": __version__, "databases": names}))
        outcomes = _each(targets, settings, top, events, reporter)
        for warning in unwritten:
            events.emit(Event(WARNING, "-", "history.unwritten", {"reason": warning}, f"{_SCRIPT}: warning: {warning}"))
        seconds = round((datetime.now(timezone.utc) - started).total_seconds(), 1)
        status = overall_status([outcome.status for outcome in outcomes])
        status = status or (IoFailed.status if log.failures or unwritten else 0)
        events.emit(Event(ERROR if status else INFO, "-", "run.finish", {"status": status, "seconds": seconds}))
        status = status or (IoFailed.status if log.failures else 0)  # not even that line could be written
    databases = [
        {**asdict(outcome), "path": _path(settings, target, outcome)}
        for target, outcome in zip(targets, outcomes, strict=True)
    ]
    return Result(
        status,
        _lines(settings, targets, outcomes),
        document("backup", status, started=instant(started), databases=databases),
    )


def _each(
    targets: Sequence[Target], settings: Settings, top: Folder, events: Events, reporter: Reporter
) -> list[Outcome]:
    def one(target: Target) -> Outcome:
        outcome, begun = Outcome(target.name, target.database), datetime.now(timezone.utc)
        try:
            interrupt.check()
            with folder.opened(top.path / target.directory, create=True) as place:
                job = Job(target, settings, place, identity(target, place), events, reporter)
                back_up(job, outcome)
                _base_backup(job, outcome)
                after_backup.drill(job, outcome, partial(told.drills, top, target.name))
        except SuiteError as error:
            _failed(outcome, events, error)
        except OSError as error:
            _failed(outcome, events, path_error(error, top.path / target.directory))
        except Exception as error:  # noqa: BLE001  one database's bug must not stop the other's backup
            traceback.print_exc()
            bug = SuiteError(f"internal error: {error!r}", "please report it with the lines above")
            _failed(outcome, events, bug)
        _note(outcome, settings, target, events)
        _end(outcome, target, top, events, begun)
        return outcome

    with ThreadPoolExecutor(settings.backup_jobs) as pool:
        work = [pool.submit(one, target) for target in targets]
        # Awake often: Python runs signal handlers in this thread only, and a run that was stopped (Ctrl-Z) and
        # goes on may get the signal in another one, which does not wake this thread.
        while wait(work, _TICK_SECONDS).not_done:
            pass
        return [done.result() for done in work]


def _base_backup(job: Job, outcome: Outcome) -> None:
    """Where WAL is archived, make a base backup when one is due. What fails of it is the run's failure, too."""
    try:
        with archiving.opened(job.settings, job.target) as archive:
            if archive:
                with outcome.timed("base backup"):
                    outcome.base = base_backup.back_up(job, archive[0], job.target.base_every_days)
    except LockHeld:
        return  # the receiver makes one just now, or another database of the same cluster
    except (SuiteError, OSError) as raised:
        error = raised if isinstance(raised, SuiteError) else path_error(raised, job.settings.backup_dir)
        error.message = f"the dump is published, but no base backup could be made: {error.message}"
        raise error from None


def _note(outcome: Outcome, settings: Settings, target: Target, events: Events) -> None:
    """Note how the run has ended, where the status is drawn from. What fails of it is the run's failure, too."""
    path = settings.backup_dir / target.directory
    try:
        if not path.is_dir():
            return  # which is what has failed
        with folder.opened(path, create=False, writing=True) as place:
            warning = noting.run_of(place, outcome, outcome.error)
    except (SuiteError, OSError) as raised:
        if not outcome.status:
            error = raised if isinstance(raised, SuiteError) else path_error(raised, path)
            error.message = f"the backup is published, but it could not be noted: {error.message}"
            _failed(outcome, events, error)
        return
    if warning:
        outcome.warnings.append(warning)
        said = f"{_SCRIPT}: {target.name}: warning: {warning}"
        events.emit(Event(WARNING, target.name, "ledger.anew", {"reason": warning}, said))


def _end(outcome: Outcome, target: Target, top: Folder, events: Events, begun: datetime) -> None:
    """Emit the end of a database's turn, with its line of the history."""
    seconds = round(sum(outcome.seconds.values()), 1)
    record = {
        "target": target.name,
        "database": target.database,
        "action": "backup",
        "started": instant(begun),
        "who": history.who(),
        "file": outcome.file,
        "from": "" if target.client == "direct" else target.container,
        "to": str(top.path / target.directory),
        "rows": outcome.rows,
        "file_bytes": outcome.file_bytes,
        "seconds": outcome.seconds,
        "status": outcome.status,
        "outcome": outcome.error or "done",
    }
    facts = {"status": outcome.status, "file": outcome.file, "seconds": seconds}
    events.emit(Event(INFO, target.name, "backup.end", facts, record=record))  # what has failed is told already


def _failed(outcome: Outcome, events: Events, error: SuiteError) -> None:
    """Tell a failure everywhere: result, log and stderr, there in one piece with its hint."""
    outcome.status, outcome.error, outcome.hint = error.status, error.message, error.hint
    said = with_hint(f"{_SCRIPT}: {outcome.target}: {error.message}", error.hint)
    facts = {"status": error.status, "reason": error.message}
    events.emit(Event(ERROR, outcome.target, "backup.failed", facts, said))


def _path(settings: Settings, target: Target, outcome: Outcome) -> str:
    return str(settings.backup_dir / target.directory / outcome.file) if outcome.file else ""


def _lines(settings: Settings, targets: Sequence[Target], outcomes: Sequence[Outcome]) -> list[str]:
    rows = []
    for target, outcome in zip(targets, outcomes, strict=True):
        ended = "stopped" if outcome.status > 128 else "failed"
        state = f"{ended} ({outcome.status})" if outcome.status else "published"
        told = [
            target.name,
            state,
            size(outcome.file_bytes),
            f"{outcome.rows:,}",
            f"{sum(outcome.seconds.values()):.1f}",
        ]
        rows.append([*told, _path(settings, target, outcome)] if outcome.file else [*told[:2], "", "", told[4], ""])
    return table(["database", "state", "size", "rows", "seconds", "file"], rows, right=(2, 3, 4))
