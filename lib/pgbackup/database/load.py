"""Loads a dump into a database with one psql, fed through the client's pipe.

A part of its own, so that a loader of several sessions can take its place.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from pgbackup.config import Settings, Target
from pgbackup.database import failures
from pgbackup.database.client import Client, Run, conninfo
from pgbackup.errors import BackupBad, IoFailed, PermissionDenied, SuiteError, Unavailable

# For a database that nobody uses yet and that is thrown away after a crash.
_SESSION = {
    "synchronous_commit": "off",
    "maintenance_work_mem": "512MB",
    "max_parallel_maintenance_workers": "2",
    "jit": "off",
    # What the guard takes for granted until the dump's own SET; a role or database may have other defaults.
    "standard_conforming_strings": "on",
    "client_encoding": "UTF8",
    "default_transaction_read_only": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}


def arguments(client: Client, run: Run, database: str) -> list[str]:
    """Return psql's argument list: it stops at the first error and reads no file of the user's. Pure."""
    options = " ".join(f"-c {key}={value}" for key, value in _SESSION.items())
    connection = {**client.connection, "options": options}
    return [
        "psql",
        "--no-psqlrc",
        "--quiet",
        "--no-password",
        "--output=/dev/null",
        "--set=ON_ERROR_STOP=1",
        f"--dbname={conninfo(connection, database, run.application_name)}",
        "--file=-",
    ]


def load(
    client: Client,
    run: Run,
    target: Target,
    settings: Settings,
    database: str,
    pieces: Iterable[bytes],
    *,
    restricts: bool,
) -> None:
    r"""Feed the pieces of a guarded dump to psql. Raise when psql fails, or whatever `pieces` raises.

    restricts: psql knows `\restrict`: then it is put into that mode with a key that no file can know, in which it
    refuses every command of its own, whatever the guard may have overlooked.
    """
    key = secrets.token_hex(24)
    with client.writing(arguments(client, run, database)) as sink:
        try:
            if restricts:
                sink.write(f"\\restrict {key}\n".encode(), settings.load_stall_seconds)
            for piece in pieces:
                sink.write(piece, settings.load_stall_seconds)
            if restricts:
                sink.write(f"\n\\unrestrict {key}\n".encode(), settings.load_stall_seconds)
        except BrokenPipeError:
            pass  # psql has given up and says why
        sink.close()
        try:
            status = sink.program.wait(settings.load_stall_seconds)
        except TimeoutError as error:
            raise Unavailable(f"psql does not end: {error}") from None
        if status != 0:
            raise explained(sink.program.stderr, status, target)


def explained(stderr: str, status: int, target: Target) -> SuiteError:
    """Given what psql said, return the error: a statement that failed is the dump's fault, not the server's."""
    if "No space left on device" in stderr:
        return IoFailed(
            f"the disk of the server of '{target.database}' is full: {failures.first_error(stderr)}",
            "make room on the server: --drop-old drops old copies, --in-place needs room for one only",
        )
    error = failures.explained(stderr, status, "psql", target)
    if status == 3 and not isinstance(error, PermissionDenied):
        return BackupBad(
            f"the dump could not be loaded: {failures.first_error(stderr)}",
            "what it needs may be missing on the server (extension, role, version); --keep-failed keeps what came",
        )
    return error
