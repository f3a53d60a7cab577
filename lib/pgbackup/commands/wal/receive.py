"""receive-wal.sh: receives a cluster's WAL as long as the host runs, whatever happens to the database's container."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pgbackup import interrupt, proc, wal
from pgbackup.commands import archiving, base_backup, claim
from pgbackup.commands.archiving import INSIDE
from pgbackup.commands.job import Job, in_backup_dir
from pgbackup.database.clients import container, failures
from pgbackup.database.clients.sidecar import Sidecar
from pgbackup.database.cluster import replication
from pgbackup.errors import BackupBad, ConfigurationError, Interrupted, LockHeld, SuiteError, path_error
from pgbackup.report.result import Result, document
from pgbackup.settings.config import Settings, Target
from pgbackup.store import lock
from pgbackup.store.state import statefile
from pgbackup.store.state.statefile import Newer, Unreadable
from pgbackup.store.wal import archive, receiving, recoverable
from pgbackup.store.wal.archive import Places, Receiver, State
from pgbackup.wal import Segment

_NICE = 10  # of our own process: what compresses segments and makes base backups never holds up the server beside it
_PUT_AWAY_SECONDS = 1.0
_ASK_SECONDS = 10.0
_PATIENCE = 3  # questions without an answer, before the sidecar is taken to be cut off
_PAUSES_SECONDS = (0.5, 1.0, 2.0, 5.0)
_LOOK_SECONDS, _RETRY_SECONDS = 30.0, 300.0


@dataclass
class Attendance:
    """What the receiver knows of itself. told: the trouble that it has told last. look_at: when to see next whether a
    base backup is wanted, by the monotonic clock; making: that base backup.
    """

    job: Job
    places: Places
    state: State
    pool: ThreadPoolExecutor
    told: str = ""
    look_at: float = 0.0
    making: Future[str] | None = None

    def note(self, **changes: Any) -> None:
        """Write down what has changed, and when."""
        known = archive.read_receiver(self.places) or Receiver(None, None, "")
        archive.write_receiver(self.places, replace(known, checked=statefile.now(), **changes))


def run(settings: Settings, target: Target, *, watchdog: bool, quiet: bool) -> Result:
    """Receive until a signal comes. watchdog: where another one receives already, that is as it should be.

    Raise ConfigurationError where archiving is not set up, LockHeld, and Interrupted in the end.
    """
    with (
        in_backup_dir(settings, create=False, quiet=quiet) as (top, reporter),
        archiving.opened(settings, target) as opened,
    ):
        if opened is None:
            raise ConfigurationError(f"the WAL of '{target.name}' is not archived", archive.SET_UP)
        places, state = opened
        job = archiving.job_of(archiving.job_at(settings, target, top, reporter), places, places.receiving)
        try:
            with lock.held(places.top, archive.RECEIVER):
                with suppress(OSError):
                    os.nice(_NICE)
                _receive(job, places, state)
        except LockHeld:
            if not watchdog:
                raise
    return Result(0, [], document("receive-wal", 0, target=target.name))


def _receive(job: Job, places: Places, state: State) -> None:
    """Receive until archiving is switched off, or a signal comes. Raise Interrupted then, and ConfigurationError for
    another cluster.

    job: the receiver's own, of archiving.job_of(). Everything else that fails is told in receiver.json and backup.log,
    and tried again.
    """
    failed = 0
    with ThreadPoolExecutor(1) as pool:
        attendance = Attendance(job, places, state, pool)
        while _is_on(attendance):
            begun = time.monotonic()
            try:
                claim.sweep(job)
                with archiving.beside(job, places.receiving) as client:
                    _session(attendance, client)
            except Interrupted:
                raise
            except ConfigurationError as error:
                _tell(attendance, error.message)
                raise
            except SuiteError as error:
                _tell(attendance, error.message)
            except OSError as error:  # a full disk; the slot keeps what cannot be taken now
                _tell(attendance, path_error(error, places.top.path).message)
            failed = 0 if time.monotonic() - begun > 60 else failed + 1
            _rest(_PAUSES_SECONDS[min(failed, len(_PAUSES_SECONDS) - 1)])


def _is_on(attendance: Attendance) -> bool:
    """Whether this archive still wants WAL: the set-up may have switched it off, or moved it away.

    The set-up writes its file in one step: one that is damaged says nothing of that, and is written anew as it was
    agreed. Raise Newer.
    """
    places = attendance.places
    try:
        state = archive.read_state(places)
    except Newer:
        raise
    except Unreadable as error:
        attendance.job.warning("wal.state-damaged", reason=error.message)
        state = attendance.state
        with suppress(OSError):
            archive.write_state(places, state)
    return state is not None and state.active and places.top.reachable()


def _tell(attendance: Attendance, trouble: str) -> None:
    """Once for each trouble: it may last for days."""
    if trouble != attendance.told:
        attendance.job.warning("wal.waiting", trouble, reason=trouble)
    attendance.told = trouble
    with suppress(OSError):  # the trouble may be a full disk, and this file is on it
        attendance.note(trouble=trouble)


def _session(attendance: Attendance, client: Sidecar) -> None:
    """Receive until the receiver ends or is cut off; raise why."""
    job, places, state = attendance.job, attendance.places, attendance.state
    server = replication.look(client, state.owner)
    archiving.require_same_cluster(job, server, state, archive.read_confirmed(places))
    if server.slot is None or server.slot == "lost":
        _begin_anew(attendance, client, "its replication slot was dropped, or it exceeded max_slot_wal_keep_size")
    receiving.drop_blank(places, state.segment_bytes)
    wanted = archive.wanted(places, state.segment_bytes)
    argv = replication.receive(client, state.owner, INSIDE, synchronous=job.target.wal_sync)
    with proc.Program(client.command(argv)) as program:
        lsn = wal.format_lsn(server.lsn)
        job.info("wal.receiving", f"receiving WAL from {lsn}", lsn=lsn)
        try:
            _attend(attendance, client, program)
        finally:
            receiving.put_away(places, state)
        if program.status is None:
            return  # switched off
        if wanted and _is_gone(attendance, client, server, wanted):
            name = wal.segment_name(wanted, state.segment_bytes)
            _begin_anew(attendance, client, f"the server no longer has '{name}', which the receiver needs next")
        raise failures.explained(program.stderr, program.status or 0, "pg_receivewal", job.target)


def _is_gone(attendance: Attendance, client: Sidecar, before: replication.Server, wanted: Segment) -> bool:
    """Whether a receiver that has ended can never go on, for the server no longer has that segment: its own words say
    so, too, but in any language. One that has come further since, and a server that cannot be asked, tell nothing.
    """
    if archive.wanted(attendance.places, attendance.state.segment_bytes) != wanted:
        return False
    try:
        return replication.has_removed(client, before, wanted, attendance.state.segment_bytes)
    except Interrupted:
        raise
    except SuiteError:
        return False


def _attend(attendance: Attendance, client: Sidecar, program: proc.Program) -> None:
    """Put segments away and note how far the archive reaches, until the receiver ends."""
    places, state = attendance.places, attendance.state
    ask_at, unanswered, seldom = 0.0, 0, False
    pending: tuple[datetime, int] | None = None
    while program.status is None and _is_on(attendance):
        interrupt.check()
        receiving.put_away(places, state)
        if time.monotonic() >= ask_at:
            try:
                server = replication.look(client, state.owner)
            except Interrupted:
                raise
            except SuiteError as error:
                unanswered += 1
                if unanswered >= _PATIENCE:
                    raise container.blamed(error, client) from None
            else:
                unanswered = 0
                seldom = _confirm(attendance, server, pending) or seldom
                pending = server.now, server.lsn
            ask_at = time.monotonic() + (_ASK_SECONDS if seldom else _PUT_AWAY_SECONDS)
        program.pause(_PUT_AWAY_SECONDS)


def _confirm(attendance: Attendance, server: replication.Server, pending: tuple[datetime, int] | None) -> bool:
    """Note up to when everything is in the archive, if that is known now.

    pending: what the server said the last time, an instant and the end of WAL then.
    """
    reached = [(server.now, server.lsn), *([pending] if pending else [])]
    there = next((each for each in reached if server.written is not None and server.written >= each[1]), None)
    if there is None:
        return False
    attendance.told = ""
    attendance.note(trouble="", confirmed_time=there[0], confirmed_lsn=wal.format_lsn(there[1]))
    _see_to_a_base(attendance)
    return True


def _see_to_a_base(attendance: Attendance) -> None:
    """Where WAL leads from no base backup to now, the next one must not wait for the night."""
    making, now = attendance.making, time.monotonic()
    if making is not None:
        if not making.done():
            return
        attendance.making, attendance.look_at = None, now
        _finish(attendance, making)
    if now < attendance.look_at:
        return
    attendance.look_at = now + _LOOK_SECONDS
    try:
        problem = recoverable.broken_off(recoverable.look(attendance.places))
    except BackupBad as error:  # a history file; WAL is to be received all the same
        attendance.note(base_trouble=error.message)
        return
    if problem:
        attendance.making = attendance.pool.submit(base_backup.back_up, attendance.job, attendance.places, None)


def _finish(attendance: Attendance, making: Future[str]) -> None:
    try:
        making.result()
    except (Interrupted, LockHeld):
        return
    except (SuiteError, OSError) as error:
        attendance.look_at += _RETRY_SECONDS
        base_backup.tell_failure(attendance.job, error)
        attendance.note(base_trouble=str(error))
    else:
        attendance.note(base_trouble="")


def _begin_anew(attendance: Attendance, client: Sidecar, reason: str) -> None:
    """After a gap: keep what there is, and go on from where the server is now."""
    job = attendance.job
    job.error("wal.gap", f"WAL is lost from here to the next base backup: {reason}", reason=reason)
    receiving.put_away(attendance.places, attendance.state, all_of_them=True)
    replication.drop_slot(client, attendance.state.owner)
    replication.create_slot(client, attendance.state.owner)


def _rest(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        interrupt.check()
        time.sleep(min(left, 0.2))
