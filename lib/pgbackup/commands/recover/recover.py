"""A database as it was at a moment: recovered beside everything, dumped, and handed to the guarded restore."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from pgbackup import wal
from pgbackup.commands import archiving, confirm, dump
from pgbackup.commands.job import Job, Outcome
from pgbackup.commands.loading.record import Record
from pgbackup.commands.recover import stopping, unpacking
from pgbackup.commands.recover.aim import Aim
from pgbackup.commands.recover.stopping import Stop
from pgbackup.commands.recover.unpacking import BaseBad
from pgbackup.database.clients.client import Client
from pgbackup.database.cluster import recovery, throwaway
from pgbackup.database.cluster.recovery import Database, Reached, TargetNotReached
from pgbackup.database.cluster.throwaway import Throwaway
from pgbackup.database.loading import swap
from pgbackup.errors import BackupBad, ConfigurationError, NoBackup
from pgbackup.formats import dumpfile, loadable
from pgbackup.formats.dumpfile import Written
from pgbackup.settings.config import Settings
from pgbackup.store import source, workfiles
from pgbackup.store.source import Source
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal import recoverable, window
from pgbackup.store.wal.recoverable import Archive, described
from pgbackup.store.wal.window import BaseBackup, Window


@dataclass(frozen=True)
class Attempt:
    """One way to get there: from that base backup, in that window."""

    archive: Archive
    aim: Aim
    window: Window
    base: BaseBackup


def attempts(archive: Archive, aim: Aim) -> list[Attempt]:
    """The ways to try, in order. Raise NoBackup, naming the windows, for an aim outside of all of them. Pure."""
    every = [(each, base) for each in archive.windows for base in each.bases]
    if aim.moment:
        found = _and_older(window.base_at(archive.windows, aim.moment))
    elif aim.position is not None:
        found = _and_older(window.base_before(archive.windows, aim.position))
    elif aim.kind == "latest":
        _require_latest(archive)
        found = _and_older(every[-1] if every else None)
    else:
        # Nobody knows when a transaction or a restore point was: the newest base that has it behind it.
        found = sorted(every, key=lambda pair: pair[1].ended, reverse=True)
    chosen = [Attempt(archive, aim, *pair) for pair in found]
    if not chosen:
        raise NoBackup(
            "\n".join([f"{_where(archive, aim)}; what can be recovered:", *described(archive.windows)]),
            "choose a moment in a window",
        )
    return chosen


def _require_latest(archive: Archive) -> None:
    """Raise NoBackup where later commits were archived than can be recovered: less is not had unasked."""
    if archive.windows and (problem := recoverable.cut_off(archive)):
        raise NoBackup(
            "\n".join([f"the latest commit cannot be recovered: {problem}; what can be:", *described(archive.windows)]),
            _up_to_the_gap(archive.windows[-1]),
        )


def _up_to_the_gap(within: Window) -> str:
    return f"everything up to where WAL is missing: --to-lsn {wal.format_lsn(within.lsn)}"


def _and_older(found: tuple[Window, BaseBackup] | None) -> list[tuple[Window, BaseBackup]]:
    """That base and those from which the same can be reached by more WAL, should it be bad; the newest first. Pure."""
    if found is None:
        return []
    within, base = found
    older = [other for other in within.bases if (other.ended, other.name) <= (base.ended, base.name)]
    return [(within, other) for other in reversed(older)]


def _where(archive: Archive, aim: Aim) -> str:
    """On which side of the windows an aim lies. Pure."""
    if archive.windows and aim.moment:
        before, after = aim.moment < archive.windows[0].since, aim.moment > archive.windows[-1].until
    elif archive.windows and aim.position is not None:
        before = aim.position < archive.windows[0].bases[0].stop
        after = aim.position > archive.windows[-1].lsn
    else:
        return f"--to-{aim} cannot be recovered" if aim.text else "nothing can be recovered"
    side = "is before the first base backup was finished" if before else "is after the last WAL" if after else ""
    return f"--to-{aim} {side or 'is in a gap, for which there is no WAL'}"


def when_it_may(
    job: Job, opening: AbstractContextManager[Archive], aim: Aim, record: Record, into: str, *, yes: bool
) -> Callable[[Client], AbstractContextManager[Source]]:
    """Return what does source_at(), given a client of the live server.

    It raises first what would otherwise be told after the recovery, which takes minutes: no such name. That there is no
    terminal to ask on is raised here.
    """
    if not yes:
        confirm.require_terminal("a restore")

    def opened(ask: Client) -> AbstractContextManager[Source]:
        if into and (problems := swap.name_problems(ask, into)):
            raise ConfigurationError("; ".join(problems), "choose another name")
        return source_at(job, opening, aim, record)

    return opened


@contextmanager
def source_at(job: Job, opening: AbstractContextManager[Archive], aim: Aim, record: Record) -> Iterator[Source]:
    """Recover, dump the database, and give the dump as a source; the file is gone when the block is left.

    opening: gives the archive. Raise NoBackup, naming what can be recovered; BackupBad.
    """
    with (
        opening as archive,
        workfiles.partial(job.place, job.run.owner, job.run.token) as (name, descriptor),
        ThreadPoolExecutor(1, "leaving") as aside,
    ):
        with record.timed("recovery"):
            reached, written = _first_that_gets_there(job, attempts(archive, aim), descriptor, aside)
        called = f"{archive.files.title} to {aim} ({reached})"
        opened = source.opened(job.place.path / name, job.target.database, called)
        contents = dumpfile.contents_of(opened.manifest, written.scan, written.sha256)
        try:
            yield replace(opened, contents=contents, refused=written.scan.refused)
        finally:
            os.close(opened.descriptor)


@contextmanager
def on_disk(settings: Settings, directory: str) -> Iterator[Archive]:
    """Open an archive on this disk. directory: below BACKUP_DIR/pitr. Raise NoBackup, BackupBad."""
    with walarchive.opened(settings.backup_dir, directory, create=False) as places:
        yield recoverable.look(places)


Dumped = tuple[str, Written]


def _first_that_gets_there(job: Job, tries: list[Attempt], descriptor: int, aside: Executor) -> Dumped:
    for number, attempt in enumerate(tries, 1):
        try:
            return _dumped(job, attempt, descriptor, aside)
        except TargetNotReached:
            if attempt.aim.kind in ("time", "lsn"):
                break  # an older base backup leads to the same end
        except BaseBad as bad:
            if number == len(tries):
                raise
            said = f"warning: {bad.message}; using an older one"
            job.error("recovery.base-bad", said, base=attempt.base.name, reason=bad.message)
        except BackupBad as bad:
            bad.hint = bad.hint or f"see which: {attempt.archive.files.verify}"
            raise
    aim, archive = tries[0].aim, tries[0].archive
    unknown = {"name": "restore point", "xid": "transaction"}.get(aim.kind)
    what = f"there is no {unknown} '{aim.text}' in" if unknown else f"--to-{aim} is after the end of"
    within = tries[0].window
    hint = "check the spelling" if unknown or within.current else _up_to_the_gap(within)
    raise NoBackup("\n".join([f"{what} what can be recovered:", *described(archive.windows)]), hint)


def _dumped(job: Job, attempt: Attempt, descriptor: int, aside: Executor) -> Dumped:
    """Recover and dump; return where it got, in words, and what was written.

    Raise TargetNotReached, BackupBad, NoBackup, Unavailable.
    """
    ended = TargetNotReached("the archived WAL ends before the recovery target")
    for stop in stopping.stops(attempt.archive, attempt.window, attempt.base, attempt.aim):
        try:
            return _dumped_at(job, attempt, stop, descriptor, aside)
        except TargetNotReached:
            if stop.seen:
                raise BackupBad(
                    f"recovery has ended before {wal.format_lsn(stop.least)}, which the archive has: WAL is damaged"
                ) from None
    raise ended


def _dumped_at(job: Job, attempt: Attempt, stop: Stop, descriptor: int, aside: Executor) -> Dumped:
    aim = attempt.aim
    with ExitStack() as stack:
        container, reached = stack.enter_context(_recovered(job, attempt, stop.settings))
        stopping.check(stop, aim, reached)
        last = stop.last or reached.time
        where = f"last commit {_commit(last)}, LSN {wal.format_lsn(reached.lsn)}"
        job.info("recovery.reached", f"reached: {where}", aim=aim, base=attempt.base.name, reached=where)
        _require_database(job, container, where, None if aim.moment else last)
        shown = aim.moment or last or attempt.base.ended
        outcome = Outcome(job.target.name, job.target.database)
        # The guard judges it on its way: nobody else has it in his hands before it is loaded.
        _, written, _ = dump.write(job, container, outcome, descriptor, shown, None, loadable.JudgedScan)
        aside.submit(stack.pop_all().close)  # Docker takes its time, and the dump is all that was wanted
        return where, written


def _require_database(job: Job, container: Throwaway, where: str, last: datetime | None) -> None:
    """Raise NoBackup where the database was not there at that moment, or not any more whole."""
    name = job.target.database
    match recovery.state_of(container, name):
        case Database.ABSENT:
            raise NoBackup(
                f"there was no database '{name}' at that moment ({where})",
                "take a moment before it was dropped, or after it was made",
            )
        case Database.BROKEN:
            before = f": --to-time '{_commit(last)}'" if last else ""
            raise NoBackup(
                f"database '{name}' was being dropped at that moment ({where})", f"take a moment before that{before}"
            )
        case Database.THERE:
            return


@contextmanager
def _recovered(job: Job, attempt: Attempt, recovery_target: Mapping[str, str]) -> Iterator[tuple[Throwaway, Reached]]:
    """Give the throwaway server, and where it got, for the length of the block."""
    archive, base, settings = attempt.archive, attempt.base, job.settings
    record, megabytes = archive.bases[base.name][1], settings.recovery_megabytes
    image = archiving.image(job, record.image, record.major)
    total = (attempt.window.last.number - base.began.number + 1) * archive.state.segment_bytes

    def handed_out(name: str, advance: Callable[[int], None]) -> bytes | None:
        content = archive.files.hand_out(name)
        advance(len(content or b""))
        return content

    with ExitStack() as stack:
        pipes = stack.enter_context(workfiles.pipes(job.place, job.run.owner))
        container = stack.enter_context(throwaway.started(job.target, settings, job.run, image, pipes, megabytes))
        job.tell(f"recovering to {attempt.aim} from base backup '{base.name}'")
        archive.files.expect(wal.segment_name(base.began, archive.state.segment_bytes))
        origin = unpacking.unpack(job, archive, base, container)
        with job.reporter.bar(f"{job.target.name}: replaying WAL", total) as advance:
            segments = partial(handed_out, advance=advance)
            served = recovery.recovered(container, recovery_target, segments, megabytes, origin)
            reached = stack.enter_context(served)
        if reached.missing:
            libraries = ", ".join(map(repr, reached.missing))
            job.tell(f"warning: recovered without what the image lacks: {libraries}", always=True)
        yield container, reached


def _commit(last: datetime | None) -> str:
    """When the last commit was that is there, by the clock of this host's zone. Pure."""
    return f"{last.astimezone():%Y-%m-%d %H:%M:%S.%f%z}" if last else "before the base backup"
