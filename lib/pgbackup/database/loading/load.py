"""Loads a dump into a database with psql, fed through the client's pipe; indexes in several sessions at once."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import groupby
from typing import Any

from pgbackup.database.clients import failures, session
from pgbackup.database.clients.client import Client, conninfo
from pgbackup.database.clients.streams import Sink
from pgbackup.database.loading.tape import Tape, failed_line
from pgbackup.errors import BackupBad, IoFailed, PermissionDenied, SuiteError, Unavailable
from pgbackup.settings.config import Target
from pgbackup.sql.naming import literal
from pgbackup.sql.parts import CONFIGURATION, EVENT_TRIGGER, INDEX, SETTING, Part

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

_CONFIGURATION = (
    "SELECT pg_catalog.set_config('default_text_search_config', {value}, false) FROM pg_catalog.pg_ts_config c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace"
    " WHERE pg_catalog.format('%I.%I', n.nspname, c.cfgname) OPERATOR(pg_catalog.=) {value};"
)
_COMMENTS = re.compile(rb"^--[^\n]*\n", re.MULTILINE)
_SETTINGS_BYTES = 1 << 20
_MOST_MEMORY = 512  # MiB: more makes sorting no faster


def arguments(client: Client, database: str, server: Mapping[str, Any]) -> list[str]:
    """Return psql's argument list: it stops at the first error and reads no file of the user's. Pure.

    server: where the dump comes from, as facts.gather() says it.
    """
    memory = work_memory(client.memory_bytes, client.settings.restore_jobs)
    options = session.options(session.beginning(server), _SESSION, memory, client.further)
    connection = {**client.connection, "options": options}
    return [
        "psql",
        "--no-psqlrc",
        "--quiet",
        "--no-password",
        "--output=/dev/null",
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


Timed = Callable[[str], AbstractContextManager[None]]


def untimed(_phase: str) -> AbstractContextManager[None]:
    """For whom it does not matter how long a phase takes."""
    return nullcontext()


def load(
    client: Client,
    database: str,
    parts: Iterable[Part],
    server: Mapping[str, Any],
    *,
    restricts: bool,
    timed: Timed = untimed,
) -> None:
    """Feed the parts of a guarded dump to psql. Raise when psql fails, or whatever `parts` raises.

    server: where the dump comes from, as facts.gather() says it: its sessions' settings are the load's. timed: takes
    the time of the phases `load` and `indexes`.

    What stands between one run of indexes and the next goes to one session. The indexes of a run go to RESTORE_JOBS
    sessions at once: it takes nothing but a share lock to build one, so they do not wait for each other (manual,
    CREATE INDEX and 13.3). Each further session begins with the settings that the dump has made so far.
    """
    begun = partial(fed, client, arguments(client, database, server), restricts)
    made: dict[bytes, bytes] = {}
    configuration = session.origin(server).get(session.TEXT_SEARCH, "")
    for are_indexes, group in groupby(completed(parts, configuration), lambda part: part.kind == INDEX):
        with timed("indexes" if are_indexes else "load"), ExitStack() as stack:
            count = client.settings.restore_jobs if are_indexes else 1
            sinks = [stack.enter_context(begun(b"".join(made.values()))) for _ in range(count)]
            for number, part in enumerate(group):
                sinks[number % count].write(part.text)
                if part.kind == SETTING:
                    note(part.text, made)


def completed(parts: Iterable[Part], configuration: str) -> Iterator[Part]:
    """Give the parts in the order in which they are loaded, and settings that are not in the dump.

    Event triggers come last: what the load does would set them off, and it is no act of the database's users.
    configuration: for text searches, if it is not built in the session gets it when the dump has made it.
    """
    held = []
    for part in parts:
        if part.kind == EVENT_TRIGGER:
            held.append(part)
            continue
        yield part
        if part.kind == CONFIGURATION and configuration:
            value = literal(configuration)
            yield Part(f" {_CONFIGURATION.replace('{value}', value)}".encode(), SETTING)  # lines keep their numbers
    yield from held


def note(text: bytes, made: dict[bytes, bytes]) -> None:
    """Remember a setting; the last one of its name counts."""
    statement = _COMMENTS.sub(b"", text).strip()
    name = b" ".join(statement.split(b"=")[0].split()[:2])
    made.pop(name, None)
    made[name] = statement + b"\n"
    if sum(map(len, made.values())) > _SETTINGS_BYTES:
        raise BackupBad("the dump has more settings than any that pg_dump writes")


@contextmanager
def fed(client: Client, program: list[str], restricts: bool, prelude: bytes) -> Iterator[Feed]:
    r"""Give psql's input for the length of the block, then wait for psql's end. Raise what its failure means.

    restricts: psql knows `\restrict`: then it is put into that mode with a key that no file can know, in which it
    refuses every command of its own, whatever the guard may have overlooked.
    """
    key, patience, lines_before = secrets.token_hex(24), client.settings.load_stall_seconds, 0
    with client.writing(program) as sink:
        feed = Feed(sink, patience)
        try:
            if restricts:
                feed.write(f"\\restrict {key}\n".encode())
            feed.write(f"{session.LOADING};\n".encode() + prelude)
            lines_before = feed.tape.lines
            yield feed
            if restricts:
                sink.write(f"\n\\unrestrict {key}\n".encode(), patience)
        except BrokenPipeError:
            pass  # psql has given up and says why
        sink.close()
        try:
            status = sink.program.wait(patience)
        except TimeoutError as error:
            raise Unavailable(f"psql does not end: {error}") from None
        if status != 0:
            stderr = sink.program.stderr
            failure = explained(stderr, status, client.target, feed.tape.blamed(stderr))
            if isinstance(failure, BackupBad) and (line := failed_line(stderr)):
                raise StatementFailed(failure, line - lines_before, stderr)
            raise failure


class StatementFailed(BackupBad):
    """A statement of the dump failed. line: where it ends in what the session was fed, counted from 1."""

    def __init__(self, error: SuiteError, line: int, stderr: str) -> None:
        super().__init__(error.message, error.hint)
        self.sqlstate, self.line, self.stderr = error.sqlstate, line, stderr


class Feed:
    """A session's input, and what was written to it."""

    def __init__(self, sink: Sink, patience: float) -> None:
        self._sink, self._patience = sink, patience
        self.tape = Tape()

    def write(self, text: bytes) -> None:
        """Hand it to psql. Raise what Sink.write() raises."""
        self.tape.note(text)
        self._sink.write(text, self._patience)


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
    if status == 3 and not isinstance(error, (IoFailed, PermissionDenied)):
        cause = _CAUSES.get(error.sqlstate[:2], "what it needs may be missing on the server")
        bad = BackupBad(
            f"the dump could not be loaded{': ' * bool(blamed)}{blamed}: {failures.first_failure(stderr)}",
            f"{cause}; every byte of the file is as it was written: --keep-going loads the rest (docs/restore.md)",
        )
        bad.sqlstate = error.sqlstate
        return bad
    return error
