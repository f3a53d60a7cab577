"""Recovers an unpacked base backup to a moment, so that a database can be dumped from it as it was then."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pgbackup import interrupt, proc
from pgbackup.archive import wal
from pgbackup.database import failures
from pgbackup.database.sidecar import INSIDE, make_fifo, when_read
from pgbackup.database.streams import Sink
from pgbackup.database.throwaway import DATA, DISK, Scratch
from pgbackup.errors import BackupBad, SuiteError, Unavailable

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
_READY = "database system is ready to accept connections"
_NOT_REACHED = "recovery ended before configured recovery target was reached"

Segments = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Reached:
    """Where recovery has ended. time: of the last commit that was replayed, as the server writes it, "" for none.

    lsn: the end of the last record that was replayed.
    """

    time: str
    lsn: int


class TargetNotReached(BackupBad):
    """WAL came to its end before the target was met: the target is later than all that there is, or WAL is damaged."""


def configuration(target: Mapping[str, str], max_prepared_transactions: int, memory_megabytes: int) -> str:
    """Return the text of postgresql.conf. Pure. target: recovery_target_time or another one, none for all WAL.

    Without hot standby the server needs none of the origin's limits but that for prepared transactions (manual,
    27.4.3 Administrator's Overview); nothing in it has to survive a crash.
    """
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": DISK,
        "hba_file": f"{INSIDE}/pg_hba.conf",
        "ident_file": f"{INSIDE}/pg_ident.conf",
        "hot_standby": "off",
        "max_prepared_transactions": str(max_prepared_transactions),
        "shared_buffers": f"{max(16, memory_megabytes // 4)}MB",
        "maintenance_work_mem": f"{max(16, memory_megabytes // 8)}MB",
        "huge_pages": "off",
        "autovacuum": "off",
        "fsync": "off",
        "full_page_writes": "off",
        "max_wal_size": "4GB",
        "lc_messages": "C",
        "logging_collector": "off",
        "log_destination": "stderr",
        "restore_command": f'sh {INSIDE}/fetch "%f" "%p"',
        "recovery_target_timeline": "latest",
        "recovery_target_action": "promote",
        **target,
    }
    return "".join(f"{key} = '{_escaped(value)}'\n" for key, value in settings.items())


def _escaped(value: str) -> str:
    """As a quoted value of postgresql.conf (manual, 20.1.2)."""
    if any(not char.isprintable() for char in value):
        raise BackupBad(f"{value!r} is no recovery target")
    return value.replace("\\", "\\\\").replace("'", "''")


@contextmanager
def recovered(
    scratch: Scratch, recovery_target: Mapping[str, str], segments: Segments, memory_megabytes: int
) -> Iterator[Reached]:
    """Recover and give what was reached; the server answers for the length of the block.

    segments: gives the content of a file of the archive, None where there is none, and raises BackupBad where it
    is damaged. Raise TargetNotReached, BackupBad or Unavailable.
    """
    prepared = re.search(r"max_prepared_xacts setting: +(\d+)", scratch.say("pg_controldata", DATA))
    text = configuration(recovery_target, int(prepared[1]) if prepared else 0, memory_megabytes)
    for name, content in (
        ("postgresql.conf", text),
        ("pg_hba.conf", "local all all trust\n"),
        ("pg_ident.conf", ""),
        ("fetch", _FETCH),
    ):
        scratch.place(name, content)
    for name in ("want", "answer", "segment"):
        make_fifo(scratch.pipes / name)
    program = ["postgres", "-D", DATA, "-c", f"config_file={INSIDE}/postgresql.conf"]
    with proc.Program(scratch.command(program), environment=scratch.environment) as server:
        _serve(scratch, server, segments)
        yield _reached(scratch)


def _serve(scratch: Scratch, server: proc.Program, segments: Segments) -> None:
    """Hand out segments until the server is up. One after the other, for it asks for one at a time."""
    want, answer = (
        os.open(scratch.pipes / name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC) for name in ("want", "answer")
    )
    limit = scratch.settings.load_stall_seconds
    try:
        deadline, asked, damage = time.monotonic() + limit, b"", None
        while _READY not in server.stderr:
            interrupt.check()
            if server.status is not None:
                raise damage or _explained(scratch, server)
            if time.monotonic() > deadline:
                raise Unavailable(f"the recovery of '{scratch.target.database}' asked for nothing for {limit} s")
            server.pause(_TICK_SECONDS, want)
            with suppress(BlockingIOError):
                asked += os.read(want, 1024)
            if not asked.endswith(b"\n"):
                continue
            try:
                content = segments(asked.decode("ascii", "replace").strip())
            except BackupBad as bad:
                damage, content = bad, None
            asked, deadline = b"", time.monotonic() + limit
            status = 0 if content is not None else _DAMAGED if damage else _MISSING
            os.write(answer, b"%d\n" % status)
            if content is not None:
                _hand_over(scratch, content, server)
    finally:
        os.close(want)
        os.close(answer)


def _hand_over(scratch: Scratch, content: bytes, server: proc.Program) -> None:
    descriptor = when_read(scratch.pipes / "segment", server, scratch.settings.stall_seconds)
    if descriptor is None:
        return  # the caller sees why
    sink = Sink(descriptor, server, scratch.target.database)
    try:
        with suppress(BrokenPipeError):
            sink.write(content, scratch.settings.stall_seconds)
    finally:
        sink.close()


def _explained(scratch: Scratch, server: proc.Program) -> SuiteError:
    if _NOT_REACHED in server.stderr:
        return TargetNotReached("the archived WAL ends before the recovery target")
    return Unavailable(
        f"the recovery of '{scratch.target.database}' failed: {failures.first_error(server.stderr)}",
        "take an older base backup, or a time before this",
    )


def _reached(scratch: Scratch) -> Reached:
    sql = "SELECT pg_last_xact_replay_timestamp(), pg_last_wal_replay_lsn()"
    answer = scratch.query(sql)
    moment, _, lsn = answer.partition("|")
    return Reached(moment, wal.parse_lsn(lsn))
