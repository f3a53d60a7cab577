"""copy-backups.sh --follow: WAL and base backups go elsewhere as long as the host runs, whatever happens to a place."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

from pgbackup import interrupt
from pgbackup.commands.job import in_backup_dir
from pgbackup.commands.offsite import one_place
from pgbackup.commands.offsite.copy import check_any
from pgbackup.commands.offsite.wal import turn
from pgbackup.commands.offsite.wal.lane import BASE, WAL
from pgbackup.commands.offsite.wal.turn import Attendance
from pgbackup.errors import Interrupted, LockHeld, SuiteError, path_error
from pgbackup.report.events import INFO, WARNING, Event, Events
from pgbackup.report.log import EventLog
from pgbackup.report.result import Result, document
from pgbackup.settings.config import Offsite, Settings, Target
from pgbackup.store import lock
from pgbackup.store.folder import Folder
from pgbackup.store.offsite import lag, progress
from pgbackup.store.offsite.index import Entry

_SCRIPT = "copy-backups.sh"
_TICK_SECONDS = {WAL: 1.0, BASE: 20.0}  # between looks at the disk
_BUSY_SECONDS = 2.0  # another run has the lane
_WAKE_SECONDS = 0.1


def run(
    settings: Settings, targets: Sequence[Target], places: Sequence[Offsite], *, watchdog: bool, quiet: bool
) -> Result:
    """Copy until a signal comes. watchdog: where another one follows already, that is as it should be.

    Raise ConfigurationError where there is no place, LockHeld, and Interrupted in the end.
    """
    check_any(places)
    with in_backup_dir(settings, create=False, quiet=quiet) as (top, reporter), ExitStack() as stack:
        events = Events((EventLog(top).write, reporter.show))
        try:
            for offsite in places:
                own = stack.enter_context(one_place.own(top, offsite))
                stack.enter_context(lock.held(own, progress.FOLLOWER))
        except LockHeld:
            if not watchdog:
                raise
            return Result(0, [], document("copy --follow", 0))
        following = [
            Following(settings, targets, offsite, top, events, name) for offsite in places for name in (WAL, BASE)
        ]
        with ThreadPoolExecutor(len(following)) as pool:
            work = [pool.submit(one.until_stopped) for one in following]
            while wait(work, _WAKE_SECONDS).not_done:
                pass  # awake often: Python runs signal handlers in this thread only
    interrupt.check()
    return Result(0, [], document("copy --follow", 0))


@dataclass
class Following:
    """One lane to one place, as long as the host runs. told: the trouble that was told last."""

    settings: Settings
    targets: Sequence[Target]
    offsite: Offsite
    top: Folder
    events: Events
    name: str
    told: str = ""
    failures: int = 0

    def until_stopped(self) -> None:
        """Copy until a signal comes. All that fails is told once, and tried again after a pause that grows."""
        while True:
            try:
                where = one_place.elsewhere(self.settings, self.offsite, self.top)
                with turn.attended(self.settings, where, self.targets, self.name, self._copied) as attendance:
                    self._attend(attendance)
            except Interrupted:
                return
            except LockHeld:
                pause = _BUSY_SECONDS
            except Exception as error:  # noqa: BLE001  whatever it is, the next try may succeed
                pause = self._failed(error)
            try:
                _rest(pause)
            except Interrupted:
                return

    def _attend(self, attendance: Attendance) -> None:
        every = timedelta(seconds=self.settings.offsite_wal_seconds)
        while self.top.reachable():
            turn.take(attendance, every)
            self.failures = 0
            self._tell(next((f"{name}: {problem}" for name, problem in attendance.lane.problems.items()), ""))
            _rest(_TICK_SECONDS[self.name])
        raise SuiteError(f"'{self.top.path}' is not there any more")

    def _failed(self, error: Exception) -> float:
        """Tell it, and return for how many seconds the place is left alone."""
        self.failures += 1
        match error:
            case SuiteError():
                self._tell(error.message)
            case OSError():
                self._tell(path_error(error, self.top.path).message)
            case _:
                traceback.print_exc()
                self._tell(f"internal error: {error!r}")
        return lag.pause(self.failures).total_seconds()

    def _tell(self, trouble: str) -> None:
        """Once for each trouble: it may last for days."""
        if trouble == self.told:
            return
        self.told = trouble
        facts = {"place": self.offsite.name, "lane": self.name}
        if trouble:
            said = f"{_SCRIPT}: {self.offsite.name}: {self.name}: {trouble}"
            self.events.emit(Event(WARNING, "-", "copy.waiting", {**facts, "reason": trouble}, said))
        else:
            self.events.emit(Event(INFO, "-", "copy.going-on", facts, f"{self.offsite.name}: {self.name}: going on"))

    def _copied(self, entry: Entry) -> None:
        """Of WAL there are too many to tell of each."""
        if self.name == BASE:
            facts = {"place": self.offsite.name, "object": entry.name, "bytes": entry.bytes}
            self.events.emit(Event(INFO, "-", "copy.done", facts, f"{self.offsite.name}: copied '{entry.name}'"))


def _rest(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        interrupt.check()
        if (left := deadline - time.monotonic()) <= 0:
            return
        time.sleep(min(left, 0.2))
