"""Recovers an unpacked base backup to a moment, so that a database can be dumped from it as it was then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum, auto
from pathlib import PurePosixPath

from pgbackup import interrupt, proc, wal
from pgbackup.database.clients import failures, session
from pgbackup.database.clients.sidecar import INSIDE, when_read
from pgbackup.database.clients.streams import Sink, make_fifo
from pgbackup.database.cluster import recovery_needs
from pgbackup.database.cluster.recovery_needs import Needs
from pgbackup.database.cluster.throwaway import DATA, DISK, Throwaway
from pgbackup.errors import BackupBad, NoBackup, SuiteError, Unavailable
from pgbackup.wal import Segment

_TICK_SECONDS = 0.2
# Status 1 is: there is no such file. Above 125 the server gives up instead of taking it for the end of WAL
# (PostgreSQL manual, 20.5.5 Archive Recovery, restore_command).
_FETCH = f"""
echo "$1" >{INSIDE}/want || exit 200
read -r status <{INSIDE}/answer || exit 200
[ "$status" = 0 ] || exit "$status"
cat <{INSIDE}/segment >"$2" || exit 200
"""
_MISSING, _DAMAGED = 1, 200
_INVALID = "-2"  # DATCONNLIMIT_INVALID_DB (catalog/pg_database.h)
_READY = "database system is ready to accept connections"
_NOT_REACHED = "recovery ended before configured recovery target was reached"

Segments = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Reached:
    """Where recovery has ended. time: of the last commit that was replayed, None for none.

    lsn: the end of the last record that was replayed. missing: libraries that the origin loads and the image lacks.
    """

    time: datetime | None
    lsn: int
    missing: tuple[str, ...] = ()


class Database(Enum):
    """Whether a database was there at that moment. BROKEN: it was being dropped."""

    THERE = auto()
    ABSENT = auto()
    BROKEN = auto()


class TargetNotReached(BackupBad):
    """WAL came to its end before the target was met: the target is later than all that there is, or WAL is damaged."""


@contextmanager
def recovered(
    container: Throwaway,
    recovery_target: Mapping[str, str],
    segments: Segments,
    memory_megabytes: int,
    origin: Mapping[str, str],
) -> Iterator[Reached]:
    """Recover and give what was reached; the server answers for the length of the block.

    segments: gives the content of a file of the archive, None where there is none, and raises BackupBad where it
    is damaged. origin: settings of the server that the base backup is of, as far as they are in
    recovery_needs.ORIGINS. Raise TargetNotReached, BackupBad or Unavailable.
    """
    for name, content in (("pg_hba.conf", "local all all trust\n"), ("pg_ident.conf", ""), ("fetch", _FETCH)):
        container.place(name, content)
    for name in ("want", "answer", "segment"):
        make_fifo(container.pipes / name)
    program = ["postgres", "-D", DATA, "-c", f"config_file={INSIDE}/postgresql.conf"]
    given = recovery_needs.known(container.say("pg_controldata", DATA), origin)
    with ExitStack() as stack:
        while True:
            container.place("postgresql.conf", recovery_needs.configuration(recovery_target, given, memory_megabytes))
            server = stack.enter_context(proc.Program(container.command(program)))
            if _serve(container, server, segments):
                break
            try:
                wanted = recovery_needs.further(given, container.say("pg_controldata", DATA), server.stderr)
            except Unavailable:  # the container is gone, too
                wanted = given
            if wanted == given:
                raise _explained(container, server, given.missing)
            _make_directories(container, given, wanted)
            stack.close()
            given = wanted
        _let_in(container)
        yield _reached(container, given.missing)


def _make_directories(container: Throwaway, before: Needs, wanted: Needs) -> None:
    """Make the directories of tablespaces that were made after the base backup."""
    for path in set(wanted.directories) - set(before.directories):
        container.make_directory(path)
    for path in set(wanted.opened) - set(before.opened):
        above = [str(each) for each in PurePosixPath(path).parents if str(each) not in ("/", DISK)]
        container.make_directory(path, *reversed(above))


def _let_in(container: Throwaway) -> None:
    """Let sessions begin without libraries that are set for a role or a database, which the image may lack; those of a
    superuser also without triggers on logins. Raise what the failure means.
    """
    try:
        container.further = {"session_preload_libraries": "", "local_preload_libraries": ""}
        major = container.server_query(session.WHO).split()[0]
        container.further |= session.further(int(major), superuser=True)
    except SuiteError:  # only a superuser may set the first one
        container.further = {"local_preload_libraries": ""}
        container.server_query("SELECT 1")


def _serve(container: Throwaway, server: proc.Program, segments: Segments) -> bool:
    """Hand out segments until the server is up; return whether it is, or has ended. One after the other, for it asks
    for one at a time. Raise BackupBad where it has ended for a damaged segment.
    """
    want, answer = (
        os.open(container.pipes / name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC) for name in ("want", "answer")
    )
    limit = container.settings.load_stall_seconds
    try:
        deadline, asked, damage, ahead = time.monotonic() + limit, b"", None, _Ahead(segments)
        while _READY not in server.stderr:
            interrupt.check()
            if server.status is not None:
                if damage:
                    raise damage
                return False
            if time.monotonic() > deadline:
                raise Unavailable(f"the recovery of '{container.target.database}' asked for nothing for {limit} s")
            server.pause(_TICK_SECONDS, want)
            with suppress(BlockingIOError):
                asked += os.read(want, 1024)
            if not asked.endswith(b"\n"):
                continue
            try:
                name = asked.decode("ascii", "replace").strip()
                content = ahead.take(name)
            except BackupBad as bad:
                damage, content = bad, None
            asked, deadline = b"", time.monotonic() + limit
            status = 0 if content is not None else _DAMAGED if damage else _MISSING
            os.write(answer, b"%d\n" % status)
            if content is not None:
                _hand_over(container, content, server)
                segment_bytes, content = len(content), None  # of two segments one is in memory
                ahead.look(name, segment_bytes)
                deadline = time.monotonic() + limit
        return True
    finally:
        os.close(want)
        os.close(answer)


class _Ahead:
    """Reads the segment that will be asked for next, while the server replays the one before: one is held at most."""

    def __init__(self, segments: Segments) -> None:
        self._segments, self._name, self._held = segments, "", b""

    def take(self, name: str) -> bytes | None:
        """Do what `segments` does."""
        held, known = self._held, self._name == name
        self._name, self._held = "", b""
        return held if known else self._segments(name)

    def look(self, name: str, segment_bytes: int) -> None:
        """Read what follows the segment of that name. What is wrong with it is told when it is asked for."""
        if segment := wal.parse_segment(name, segment_bytes):
            following = wal.segment_name(Segment(segment.timeline, segment.number + 1), segment_bytes)
            with suppress(BackupBad, NoBackup, Unavailable, OSError):
                if content := self._segments(following):
                    self._name, self._held = following, content


def _hand_over(container: Throwaway, content: bytes, server: proc.Program) -> None:
    descriptor = when_read(container.pipes / "segment", server, container.settings.stall_seconds)
    if descriptor is None:
        return  # the caller sees why
    sink = Sink(descriptor, server, container.target.database)
    try:
        with suppress(BrokenPipeError):
            sink.write(content, container.settings.stall_seconds)
    finally:
        sink.close()


def _explained(container: Throwaway, server: proc.Program, missing: Sequence[str]) -> SuiteError:
    if _NOT_REACHED in server.stderr:
        return TargetNotReached("the archived WAL ends before the recovery target")
    without = f"; its image has no library {', '.join(map(repr, missing))}, which the server had" if missing else ""
    return Unavailable(
        f"the recovery of '{container.target.database}' failed{without}: {failures.first_error(server.stderr)}",
        "take an image that has it" if missing else "take an older base backup, or a time before this",
    )


# Whatever a role or a database has set as its style of dates and numbers.
_WHERE = """
SELECT to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'),
  pg_last_wal_replay_lsn()
"""


def _reached(container: Throwaway, missing: tuple[str, ...]) -> Reached:
    moment, _, lsn = container.server_query(_WHERE).partition("|")
    last = datetime.fromisoformat(moment).replace(tzinfo=timezone.utc) if moment else None
    return Reached(last, wal.parse_lsn(lsn), missing)


def state_of(container: Throwaway, database: str) -> Database:
    """Whether a database was there at that moment. Raise what the failure means where that is not to be seen."""
    listed = container.server_query("SELECT datconnlimit FROM pg_database WHERE datname = %s", database)
    if not listed:
        return Database.ABSENT
    if listed == _INVALID:
        return Database.BROKEN
    try:
        container.query("SELECT 1", database=database)
    except Unavailable as error:
        if failures.is_absent(error.message):  # majors before 16 did not mark it; its files are gone
            return Database.BROKEN
        raise
    return Database.THERE
