"""copy-backups.sh: each place on its own, all at once, and one result. The local backups are read and nothing else."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from pgbackup.commands.job import in_backup_dir
from pgbackup.commands.offsite import along, index_there, one_place
from pgbackup.commands.offsite.one_place import Copies
from pgbackup.commands.offsite.sending import Sender
from pgbackup.commands.offsite.wal import once as archived
from pgbackup.errors import ConfigurationError, Interrupted, SuiteError, overall_status, path_error
from pgbackup.report import history
from pgbackup.report.events import ERROR, INFO, WARNING, Event, Events
from pgbackup.report.log import EventLog, with_hint
from pgbackup.report.result import Result, document, instant, size, table
from pgbackup.settings.config import Offsite, Settings, Target
from pgbackup.store import folder, lock
from pgbackup.store.folder import Folder
from pgbackup.store.offsite import index, progress
from pgbackup.store.offsite.index import Entry
from pgbackup.store.offsite.progress import State
from pgbackup.store.state import statefile

_SCRIPT = "copy-backups.sh"
_TICK_SECONDS = 0.1


def run(
    settings: Settings,
    targets: Sequence[Target],
    places: Sequence[Offsite],
    env: Path,
    *,
    now: bool,
    quiet: bool,
    verification_key: str | None = None,
) -> Result:
    """Copy the targets' proven backups to the places. now: also to one that failed and whose pause is not over.

    env: the settings' file, which goes along. verification_key: of an index at the places that is to be taken back.

    The status is that of the places that are required. Raise SuiteError only before anything has begun.
    """
    check_any(places)
    started = datetime.now(timezone.utc)
    with in_backup_dir(settings, create=False, quiet=quiet) as (top, reporter):
        events = Events((EventLog(top).write, reporter.show, history.writer(top, [])))

        go_along = partial(along.send, settings=settings, targets=targets, env=env, events=events, reporter=reporter)

        def one(offsite: Offsite) -> Copies:
            copies = Copies(offsite.name, offsite.required)
            with _told(copies, events, top):
                _copy(settings, offsite, targets, top, copies, events, now, verification_key, go_along)
            return copies

        with ThreadPoolExecutor(len(places)) as pool:
            work = [pool.submit(one, offsite) for offsite in places]
            while wait(work, _TICK_SECONDS).not_done:
                pass  # awake often: Python runs signal handlers in this thread only
            outcomes = [done.result() for done in work]
    status = overall(outcomes)
    told = document(
        "copy", status, started=instant(started), places=[one_place.entry_of(copies) for copies in outcomes]
    )
    return Result(status, lines(outcomes), told)


def check_any(places: Sequence[Offsite]) -> None:
    """Raise ConfigurationError where there is no place to copy to."""
    if not places:
        raise ConfigurationError("OFFSITE names no place for copies", "set OFFSITE in .env: docs/configuration.md")


def overall(outcomes: Sequence[Copies]) -> int:
    """The status of a run: what places that are not required have counts only where a signal has stopped them."""
    return overall_status([copies.status for copies in outcomes if copies.required or copies.status > 128])


@contextmanager
def _told(copies: Copies, events: Events, top: Folder) -> Iterator[None]:
    """Whatever stops the place's turn becomes a part of its outcome; in the end all of it is told."""
    begun, started = time.monotonic(), datetime.now(timezone.utc)
    try:
        yield
    except SuiteError as error:
        copies.fail(error)
    except OSError as error:
        copies.fail(path_error(error, top.path))
    except Exception as error:  # noqa: BLE001  one place's bug must not stop the other's copies
        traceback.print_exc()
        copies.fail(SuiteError(f"internal error: {error!r}", "please report it with the lines above"))
    copies.seconds = round(time.monotonic() - begun, 1)
    for warning in copies.warnings:
        _tell(events, copies, WARNING, "copy.warning", f"warning: {warning}", reason=warning)
    for name, problem in {**copies.problems, **copies.lacking}.items():
        _tell(events, copies, ERROR, "copy.bad", f"{name}: {problem}", object=name, reason=problem)
    if copies.error:
        facts = {"status": copies.status, "reason": copies.error}
        level, said = ERROR if copies.required else WARNING, with_hint(copies.error, copies.hint)
        _tell(events, copies, level, "copy.failed", said, **facts)
    copies.status = copies.status or copies.status_of_problems()
    if copies.copied or (copies.status and not copies.paused):
        facts = {"place": copies.place, "status": copies.status, "copied": len(copies.copied)}
        events.emit(Event(INFO, "-", "copy.end", facts, record=_record(copies, top, started)))


def _record(copies: Copies, top: Folder, started: datetime) -> dict[str, Any]:
    """The line of the history: of a turn in which something was copied, or that has failed."""
    return {
        "target": "-",
        "action": "copy",
        "started": instant(started),
        "who": history.who(),
        "from": str(top.path),
        "to": copies.place,
        "objects": len(copies.copied),
        "file_bytes": sum(entry.bytes for entry in copies.copied),
        "seconds": {"copy": copies.seconds},
        "status": copies.status,
        "outcome": copies.error or next(iter((copies.problems | copies.lacking).values()), "done"),
    }


def _tell(events: Events, copies: Copies, level: str, name: str, said: str, **facts: object) -> None:
    events.emit(Event(level, "-", name, {"place": copies.place, **facts}, f"{_SCRIPT}: {copies.place}: {said}"))


def _copy(
    settings: Settings,
    offsite: Offsite,
    targets: Sequence[Target],
    top: Folder,
    copies: Copies,
    events: Events,
    now: bool,
    verification_key: str | None,
    go_along: Callable[[Sender], None],
) -> None:
    ready = one_place.elsewhere(settings, offsite, top)
    with one_place.own(top, offsite) as own, lock.held(own, "copy"):
        state = _state(own, copies)
        if not now and progress.is_paused(state, datetime.now(timezone.utc)):
            copies.rest(state)
            return

        def copied(entry: Entry) -> None:
            facts = {"place": offsite.name, "object": entry.name, "bytes": entry.bytes}
            said = f"{offsite.name}: copied '{entry.name}', {size(entry.bytes)}"
            events.emit(Event(INFO, "-", "copy.done", facts, said))

        try:
            with ready.place.kept_open() as place:
                where = replace(ready, place=place)
                index_there.take_back(where, own, verification_key, copies)
                if copies.taken_back:
                    said = f"took back the index of {copies.taken_back} copies"
                    _tell(events, copies, INFO, "copy.index", said, entries=copies.taken_back)
                known = index.read(own, index.DUMPS)
                with folder.opened(own.path / "spool", create=True) as spooling:
                    _send(Sender(where, own, spooling, known, copies, copied), targets, go_along)
                try:
                    archived.copy(settings, where, targets, copies, lambda _entry: None)
                finally:
                    index_there.publish(where, own, copies)
        except Interrupted:
            raise
        except SuiteError as error:
            progress.write(own, _after(state, copies, error))
            raise
        progress.write(own, _after(state, copies, None))


def _send(sender: Sender, targets: Sequence[Target], go_along: Callable[[Sender], None]) -> None:
    """Send backups, and what goes along with them at the same time."""
    sender.send_left()
    decision = one_place.decided(sender.where, targets, sender.known, sender.copies)
    with ThreadPoolExecutor(1) as pool:
        along_with_them = pool.submit(go_along, sender)
        sender.send_all(decision)
        along_with_them.result()


def _state(own: Folder, copies: Copies) -> State:
    try:
        return progress.read(own)
    except statefile.Unreadable as error:
        copies.warnings.append(error.message)
        return State()


def _after(before: State, copies: Copies, error: SuiteError | None) -> State:
    """How copying goes, after this run. Pure but for the clock."""
    now = statefile.now()
    status = error.status if error else copies.status_of_problems()
    problems = [*copies.problems.values(), *copies.lacking.values()]
    return replace(
        before,
        succeeded=before.succeeded if status else now,
        tried=now,
        failures=before.failures + 1 if error else 0,
        status=status,
        error=error.message if error else problems[0] if problems else "",
        objects=before.objects + len(copies.copied),
        bytes=before.bytes + sum(entry.bytes for entry in copies.copied),
        newest={**before.newest, **copies.newest},
    )


def lines(outcomes: Sequence[Copies]) -> list[str]:
    """The result for people."""
    rows = [
        [
            copies.place,
            copies.word(),
            str(len(copies.copied)),
            size(sum(entry.bytes for entry in [*copies.copied, *copies.archived])),
            str(copies.waiting),
            f"{copies.seconds:.1f}",
        ]
        for copies in outcomes
    ]
    return table(["place", "state", "copied", "size", "waiting", "seconds"], rows, right=(2, 3, 4, 5))
