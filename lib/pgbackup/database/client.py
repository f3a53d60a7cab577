"""How a client program (pg_dump, psql) runs next to a database; sidecar, docker_exec and direct are three ways."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from pgbackup import proc
from pgbackup.config import Settings, Target
from pgbackup.database import failures
from pgbackup.errors import SuiteError


@dataclass(frozen=True)
class Run:
    """What this run is called on servers and in Docker, so that it and the next one find what is theirs.

    owner: the same for every run of this database into this directory; token: this run's own.
    """

    owner: str
    token: str

    @property
    def application_name(self) -> str:
        """At most 63 bytes, or the server would cut it: 9 + 16 + 1 + 16."""
        return f"pgbackup-{self.owner}-{self.token}"


@dataclass(frozen=True)
class Stream:
    """A program's output as it flows. fd: read it until it ends; program: then ask for its status."""

    fd: int
    program: proc.Program


class Client(Protocol):
    """One way to run a program next to the database."""

    kind: str
    connection: Mapping[str, str]
    environment: Mapping[str, str]
    container_id: str
    image_id: str

    def command(self, program: Sequence[str]) -> list[str]:
        """Given a program and its arguments, return the argument list that runs it next to the database."""
        ...

    def reading(self, program: Sequence[str]) -> AbstractContextManager[Stream]:
        """Start it and give its output as a stream; leaving the block stops it for certain."""
        ...


def conninfo(connection: Mapping[str, str], database: str, application_name: str) -> str:
    """Return a libpq connection string in which any name is only a name.

    A database called `dbname=postgres host=evil` would be expanded if it were passed bare
    (PostgreSQL manual, 34.1.1 Connection Strings).
    """
    words = {**connection, "dbname": database, "application_name": application_name}
    return " ".join(f"{key}={_quoted(value)}" for key, value in words.items())


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def query(client: Client, run: Run, target: Target, sql: str, settings: Settings, database: str = "") -> str:
    """Run `sql` (statements separated by `;`) and return what psql prints, unaligned, rows only.

    database: another one than the target's. Raise the SuiteError that failures.explained() finds.
    """
    name = database or target.database
    program = ["psql", "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1"]
    program += ["-d", conninfo(client.connection, name, run.application_name), "-c", sql]
    finished = proc.run(client.command(program), environment=client.environment, seconds=settings.command_seconds)
    if finished.status != 0:
        raise failures.explained(finished.stderr, finished.status, "psql", target)
    return finished.stdout.decode("utf-8", "replace").strip("\n")


@contextmanager
def piped(argv: Sequence[str], environment: Mapping[str, str]) -> Iterator[Stream]:
    """Start argv with its output in an ordinary pipe: what the clients without a FIFO of their own use."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            program = proc.Program(argv, environment=environment, stdout=write_end)
        finally:
            os.close(write_end)
        with program:
            yield Stream(read_end, program)
    finally:
        os.close(read_end)


def end_own_backends(client: Client, run: Run, target: Target, settings: Settings) -> None:
    """Ask the server to end what this run left there: stopping `docker exec` does not stop pg_dump."""
    name = run.application_name.replace("'", "''")
    sql = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE application_name = '{name}' AND pid <> pg_backend_pid()"
    )
    try:
        query(client, run, target, sql, settings)
    except SuiteError:
        return  # the server or the container is gone, and the backend with it
