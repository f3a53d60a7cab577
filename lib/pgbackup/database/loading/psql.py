"""A session of psql that loads: how it begins, how it is fed, and what its end means."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pgbackup.database.clients import failures, session
from pgbackup.database.clients.client import Client, conninfo
from pgbackup.database.clients.streams import Sink
from pgbackup.database.loading.tape import Tape, failed_line
from pgbackup.errors import BackupBad, IoFailed, PermissionDenied, SuiteError, Unavailable
from pgbackup.settings.config import Target

# For a database that nobody uses yet and that is thrown away after a crash.
_SESSION = {
    "synchronous_commit": "off",
    "max_parallel_maintenance_workers": "2",
    "jit": "off",
    # What the guard takes for granted until the dump's own SET; a role or database may have other defaults.
    "standard_conforming_strings": "on",
    "client_encoding": "UTF8",
    "default_transaction_read_only": "off",
    "array_nulls": "on",  # as it is written by pg_dump, whatever the setting
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}

_MOST_MEMORY = 512  # MiB: more makes sorting no faster
_MOST_SESSIONS = 8


def jobs(client: Client) -> int:
    """How many sessions load at once: RESTORE_JOBS, or as many as the server has processors, eight at most."""
    return client.settings.restore_jobs or max(1, min(_MOST_SESSIONS, client.processors))


def arguments(client: Client, database: str, server: Mapping[str, Any]) -> list[str]:
    """Return psql's argument list: it stops at the first error and reads no file of the user's. Pure.

    server: where the dump comes from, as facts.gather() says it.
    """
    memory = work_memory(client.memory_bytes, jobs(client))
    options = session.options(session.beginning(server), _SESSION, memory, client.further)
    connection = {**client.connection, "options": options}
    return [
        "psql",
        "--no-psqlrc",
        "--quiet",
        "--no-password",
        "--tuples-only",
        "--no-align",
        "--set=ON_ERROR_STOP=1",
        "--set=VERBOSITY=verbose",
        f"--dbname={conninfo(connection, database, client.run.application_name)}",
        "--file=-",
    ]


def work_memory(memory_bytes: int, sessions: int) -> dict[str, str]:
    """Return the setting for sorting in each of so many sessions, so that the server is never killed for it. Pure.

    They have an eighth of the memory together. 0 bytes: nobody knows, the server's own setting stays.
    """
    share = memory_bytes // 8 // sessions >> 20
    return {"maintenance_work_mem": f"{max(16, min(_MOST_MEMORY, share))}MB"} if memory_bytes else {}


@contextmanager
def fed(
    client: Client, program: list[str], restricts: bool, prelude: bytes, answers: int | None = None
) -> Iterator[Feed]:
    r"""Give psql's input for the length of the block, then wait for psql's end. Raise what its failure means.

    restricts: psql knows `\restrict`: then it is put into that mode with a key that no file can know, in which it
    refuses every command of its own, whatever the guard may have overlooked. answers: a descriptor for what statements
    print; without one it is dropped.
    """
    key, patience = secrets.token_hex(24), client.settings.load_stall_seconds
    with client.writing(program, answers) as sink:
        feed = Feed(client, sink, patience)
        try:
            if restricts:
                feed.write(f"\\restrict {key}\n".encode())
            feed.write(f"{session.LOADING};\n".encode() + prelude)
            feed.lines_before = feed.tape.lines
            yield feed
            if restricts:
                sink.write(f"\n\\unrestrict {key}\n".encode(), patience)
        except BrokenPipeError:
            pass  # psql has given up and says why
        if failure := feed.end():
            raise failure


class StatementFailed(BackupBad):
    """A statement of the dump failed. line: where it ends in what the session was fed, counted from 1."""

    def __init__(self, error: SuiteError, line: int, stderr: str) -> None:
        super().__init__(error.message, error.hint)
        self.sqlstate, self.line, self.stderr = error.sqlstate, line, stderr


class Feed:
    """A session's input, and what was written to it."""

    def __init__(self, client: Client, sink: Sink, patience: float) -> None:
        self.client, self.sink, self.patience = client, sink, patience
        self.tape = Tape()
        self.lines_before = 0  # what we say ourselves in front of the dump

    def write(self, text: bytes) -> None:
        """Hand it to psql. Raise what Sink.write() raises."""
        self.tape.note(text)
        self.sink.write(text, self.patience)

    def end(self, blamed: str = "", rows_before: int = 0) -> SuiteError | None:
        """Wait for psql's end and return what its failure means, None where it has ended well.

        blamed: the object that it was at work on; "" where the tape is to tell. rows_before: rows of it that other
        statements have brought. Raise Unavailable where it does not end.
        """
        self.sink.close()
        try:
            status = self.sink.program.wait(self.patience)
        except TimeoutError as error:
            raise Unavailable(f"psql does not end: {error}") from None
        if status == 0:
            return None
        stderr = _counted_on(self.sink.program.stderr, rows_before)
        failure = explained(stderr, status, self.client.target, blamed or self.tape.blamed(stderr))
        if isinstance(failure, BackupBad) and (line := failed_line(stderr)):
            return StatementFailed(failure, line - self.lines_before, stderr)
        return failure


_ROW = re.compile(r"^(CONTEXT:  COPY .*?, line )(\d+)", re.MULTILINE)


def _counted_on(stderr: str, rows_before: int) -> str:
    """What psql said, with the rows of a table counted from its first one."""
    return _ROW.sub(lambda found: f"{found[1]}{int(found[2]) + rows_before}", stderr) if rows_before else stderr


# What an SQLSTATE, or its class, says of a dump that the server itself had written (manual, appendix A).
_CAUSES = {
    "42": "PostgreSQL replays a dump with an empty search_path, and this statement needs names that are then not found"
    " (or an extension, a function, a version that the server lacks)",
    "23": "the rows in the backup break this rule: they did so in the database that was backed up, or a rule looks into"
    " a table that is loaded later",
}


def explained(stderr: str, status: int, target: Target, blamed: str = "") -> SuiteError:
    """Given what psql said, return the error: a statement that failed is the dump's fault, not the server's.

    blamed: the object that the statement makes or fills, if known.
    """
    error = failures.explained(stderr, status, "psql", target)
    is_statements = not isinstance(error, (IoFailed, PermissionDenied)) and not failures.is_over(stderr, error.sqlstate)
    if status == 3 and is_statements:
        cause = _CAUSES.get(error.sqlstate[:2], "what it needs may be missing on the server")
        bad = BackupBad(
            f"the dump could not be loaded{': ' * bool(blamed)}{blamed}: {failures.first_failure(stderr)}",
            f"{cause}; every byte of the file is as it was written: --keep-going loads the rest (docs/restore.md)",
        )
        bad.sqlstate = error.sqlstate
        return bad
    return error
