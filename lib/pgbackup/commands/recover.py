"""A database as it was at a moment: recovered beside everything, dumped, and handed to the guarded restore."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial

from pgbackup.archive import recoverable, source, wal, walarchive, window, workfiles
from pgbackup.archive.recoverable import Archive, described, local
from pgbackup.archive.source import Source
from pgbackup.archive.window import Base, Window
from pgbackup.commands import archiving, base_unpacking, confirm, one_backup, restore_checks
from pgbackup.commands.base_unpacking import BaseBad
from pgbackup.commands.job import Job, Outcome
from pgbackup.commands.restore_record import Record
from pgbackup.database import recovery, throwaway
from pgbackup.database.recovery import Reached, TargetNotReached
from pgbackup.database.throwaway import Scratch
from pgbackup.errors import BackupBad, ConfigurationError, NoBackup, UsageError

KINDS = ("time", "lsn", "xid", "name", "latest")


@dataclass(frozen=True)
class Aim:
    """Where to recover to. kind: one of KINDS. value: as it was typed, "" for latest."""

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind} {self.value}" if self.value else "the latest commit"


@dataclass(frozen=True)
class Attempt:
    """One way to get there: from that base backup, in that window."""

    archive: Archive
    aim: Aim
    window: Window
    base: Base


def checked(aim: Aim) -> Aim:
    """Return the aim. Raise UsageError for a value that can be none, before anything is begun."""
    if aim.kind == "time":
        moment(aim.value)
    elif aim.kind == "lsn":
        _position(aim.value)
    elif aim.kind == "xid" and not re.fullmatch(r"[0-9]{1,10}", aim.value):
        raise UsageError(f"--to-xid {aim.value!r} is no transaction's number", "for example --to-xid 734")
    elif aim.kind == "name" and not (aim.value and aim.value.isprintable() and len(aim.value.encode()) < 64):
        raise UsageError(f"--to-name {aim.value!r} is no restore point's name", "it has at most 63 bytes")
    return aim


def moment(text: str) -> datetime:
    """Given a time as typed, return the instant: of this host's zone where it names none. Raise UsageError."""
    spelled = re.sub(r"(:\d{2}(?:\.\d+)?)\s*([+-]\d{2})$", r"\1\2:00", text.strip())
    spelled = re.sub(r"([+-]\d{2})(\d{2})$", r"\1:\2", spelled) if ":" in spelled else spelled
    spelled = re.sub(r"(?i)\s*(z|utc)$", "+00:00", re.sub(r"\s+(?=[+-]\d{2}:)", "", spelled))
    # Python before 3.11 wants three or six digits.
    spelled = re.sub(r"\.(\d{1,6})", lambda found: f".{found[1]:0<6}", spelled)
    try:
        return datetime.fromisoformat(spelled).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise UsageError(f"--to-time {text!r} is no time", "for example --to-time '2024-01-15 13:37:00+03'") from None


def _position(text: str) -> int:
    try:
        return wal.parse_lsn(text)
    except ValueError:
        raise UsageError(f"--to-lsn {text!r} is no position in WAL", "for example --to-lsn 0/3018BE8") from None


def attempts(archive: Archive, aim: Aim) -> list[Attempt]:
    """The ways to try, in order. Raise NoBackup, naming the windows, for an aim outside of all of them. Pure."""
    every = [(each, base) for each in archive.windows for base in each.bases]
    if aim.kind in ("xid", "name"):
        # Nobody knows when a transaction or a restore point was: the newest base that has it behind it.
        found = sorted(every, key=lambda pair: pair[1].ended, reverse=True)
    elif aim.kind == "time":
        found = _and_older(window.base_at(archive.windows, moment(aim.value)))
    elif aim.kind == "lsn":
        found = _and_older(window.base_before(archive.windows, _position(aim.value)))
    else:
        _require_latest(archive)
        found = _and_older(every[-1] if every else None)
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
    return f"all that is there before WAL is missing: --to-lsn {wal.format_lsn(within.lsn)}"


def _and_older(found: tuple[Window, Base] | None) -> list[tuple[Window, Base]]:
    """That base and those from which the same can be reached by more WAL, should it be bad; the newest first. Pure."""
    if found is None:
        return []
    within, base = found
    older = [other for other in within.bases if (other.ended, other.name) <= (base.ended, base.name)]
    return [(within, other) for other in reversed(older)]


def _where(archive: Archive, aim: Aim) -> str:
    """On which side of the windows an aim lies. Pure."""
    if not archive.windows or aim.kind not in ("time", "lsn"):
        return f"--to-{aim} cannot be recovered" if aim.value else "nothing can be recovered"
    first, last = archive.windows[0], archive.windows[-1]
    if aim.kind == "time":
        before, after = moment(aim.value) < first.since, moment(aim.value) > last.until
    else:
        before, after = _position(aim.value) < first.bases[0].stop, _position(aim.value) > last.lsn
    side = "is before the first base backup was finished" if before else "is after the last WAL" if after else ""
    return f"--to-{aim} {side or 'is in a gap, of which there is no WAL'}"


def settings_for(aim: Aim) -> dict[str, str]:
    """What the recovering server is told (PostgreSQL manual, 20.5.6 Recovery Target). Pure."""
    if aim.kind == "latest":
        return {}
    value = moment(aim.value).isoformat() if aim.kind == "time" else aim.value
    return {f"recovery_target_{aim.kind}": value}


def check_early(job: Job, *, yes: bool, into: str) -> None:
    """Raise now what would otherwise be told after the recovery, which takes minutes: no terminal, no such name."""
    if not yes:
        confirm.require_terminal("a restore")
    if into:
        with job.client() as ask:
            problems = restore_checks.name_problems(job, ask, into)
        if problems:
            raise ConfigurationError("; ".join(problems), "choose another name")


@contextmanager
def source_at(job: Job, directory: str, aim: Aim, record: Record) -> Iterator[Source]:
    """Recover, dump the database, and give the dump as a source; the file is gone when the block is left.

    directory: of the archive, below BACKUP_DIR/pitr. Raise NoBackup, naming what can be recovered; BackupBad.
    """
    with (
        walarchive.opened(job.settings.backup_dir, directory, create=False) as places,
        workfiles.partial(job.place, job.run.owner, job.run.token) as (name, descriptor),
    ):
        archive = recoverable.look(places)
        with record.timed("recovery"):
            reached = _first_that_gets_there(job, attempts(archive, aim), descriptor)
        opened = source.opened(job.place.path / name, job.target.database, f"WAL archive to {aim} ({reached})")
        try:
            yield opened
        finally:
            os.close(opened.descriptor)


def _first_that_gets_there(job: Job, tries: list[Attempt], descriptor: int) -> str:
    for number, attempt in enumerate(tries, 1):
        try:
            return _dumped(job, attempt, descriptor)
        except TargetNotReached:
            if attempt.aim.kind in ("time", "lsn"):
                break  # an older base backup leads to the same end
        except BaseBad as bad:
            if number == len(tries):
                raise
            job.log.error(job.target.name, "recovery.base-bad", base=attempt.base.name, reason=bad.message)
            job.reporter.warn(f"{job.target.name}: warning: {bad.message}; an older one is taken")
    aim, archive = tries[0].aim, tries[0].archive
    unknown = {"name": "restore point", "xid": "transaction"}.get(aim.kind)
    what = f"there is no {unknown} '{aim.value}' in" if unknown else f"--to-{aim} is after the end of"
    within = tries[0].window
    hint = "look at its spelling" if unknown or within.current else _up_to_the_gap(within)
    raise NoBackup("\n".join([f"{what} what can be recovered:", *described(archive.windows)]), hint)


def _dumped(job: Job, attempt: Attempt, descriptor: int) -> str:
    """Recover and dump; return where it got, in words. Raise TargetNotReached, BackupBad, Unavailable."""
    aim = attempt.aim
    for recovery_target in (settings_for(aim), {}):
        try:
            with _recovered(job, attempt, recovery_target) as (scratch, reached):
                when = _asserted(attempt, reached, to_the_end=not recovery_target)
                where = f"last commit {_commit(reached)}, LSN {wal.format_lsn(reached.lsn)}"
                job.reporter.tell(f"{job.target.name}: reached: {where}")
                job.log.info(job.target.name, "recovery.reached", aim=aim, base=attempt.base.name, reached=where)
                one_backup.dump(job, scratch, Outcome(job.target.name, job.target.database), descriptor, when, None)
                return where
        except TargetNotReached:
            # Of an idle database: the receiver has confirmed that there is no more WAL up to that time.
            if aim.kind not in ("time", "lsn") or not (attempt.window.current or _is_its_end(attempt)):
                raise
    raise TargetNotReached("the archived WAL ends before the recovery target")  # the second round asks for none


def _is_its_end(attempt: Attempt) -> bool:
    """Whether all that a window holds was asked for, as where it ends before missing WAL. Pure."""
    return attempt.aim.kind == "lsn" and _position(attempt.aim.value) == attempt.window.lsn


@contextmanager
def _recovered(job: Job, attempt: Attempt, recovery_target: Mapping[str, str]) -> Iterator[tuple[Scratch, Reached]]:
    """Give the throwaway server, and where it got, for the length of the block."""
    archive, base, settings = attempt.archive, attempt.base, job.settings
    record, megabytes = archive.bases[base.name][1], settings.recovery_megabytes
    image = archiving.image(job, record.image, record.major)
    total = (attempt.window.last.number - base.began.number + 1) * archive.state.segment_bytes

    def handed_out(name: str, advance: Callable[[int], None]) -> bytes | None:
        content = walarchive.hand_out(archive.places, archive.state, name)
        advance(len(content or b""))
        return content

    with ExitStack() as stack:
        pipes = stack.enter_context(workfiles.pipes(job.place, job.run.owner))
        scratch = stack.enter_context(
            throwaway.started(job.target, settings, job.run, image, job.environment, pipes, megabytes)
        )
        job.reporter.tell(f"{job.target.name}: recovering to {attempt.aim} from base backup '{base.name}'")
        base_unpacking.unpack(job, archive, base, scratch)
        with job.reporter.bar(f"{job.target.name}: replaying WAL", total) as advance:
            served = recovery.recovered(scratch, recovery_target, partial(handed_out, advance=advance), megabytes)
            reached = stack.enter_context(served)
        yield scratch, reached


def _commit(reached: Reached) -> str:
    """When the last commit was that is there, by the clock of this host's zone."""
    if not reached.time:
        return "before the base backup"
    return f"{moment(reached.time).astimezone():%Y-%m-%d %H:%M:%S.%f%z}"


def _asserted(attempt: Attempt, reached: Reached, *, to_the_end: bool) -> datetime:
    """Return the moment that the server now shows. Raise BackupBad unless it is the one that was asked for. Pure."""
    aim, within = attempt.aim, attempt.window
    last = moment(reached.time) if reached.time else None
    wanted = moment(aim.value) if aim.kind == "time" else None
    if wanted and last and last > wanted:
        raise BackupBad(f"recovery went too far: to {local(last)}, and {local(wanted)} was asked for")
    if aim.kind == "lsn" and not to_the_end and reached.lsn < _position(aim.value):
        raise BackupBad(f"recovery has ended at {wal.format_lsn(reached.lsn)}, before {aim.value}")
    # Before a gap nobody knows how far the last segment is filled.
    least = within.lsn if within.current else within.last.number * attempt.archive.state.segment_bytes
    if to_the_end and reached.lsn < least:
        raise BackupBad(
            f"recovery has ended at {wal.format_lsn(reached.lsn)}, and the archive reaches to"
            f" {wal.format_lsn(least)}: WAL is damaged",
            "see which: verify-backups.sh",
        )
    return wanted or last or attempt.base.ended
