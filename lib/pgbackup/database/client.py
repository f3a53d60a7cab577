"""How a client program (pg_dump, psql) runs next to a database; sidecar, docker_exec and direct are three ways."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from pgbackup import interrupt, proc
from pgbackup.config import Settings, Target
from pgbackup.database import failures
from pgbackup.errors import SuiteError, Unavailable

_PIECE_BYTES = 1 << 20
_PIPE_BYTES = 1 << 20  # what an unprivileged process may ask for, pipe(7)
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ; the module fcntl names it from Python 3.10 on, but not everywhere
_TICK_SECONDS = 0.2
_FILL_SECONDS = 0.002
_ENDING_SECONDS = 2.0


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
    """A program's output as it flows. fd: does not block; program: ask for its status after the output has ended."""

    fd: int
    program: proc.Program
    database: str

    def chunks(self, stall_seconds: float) -> Iterator[bytes]:
        """Yield the output in pieces of at most 1 MiB until its true end: the writer came and closed, or the
        program is over and the pipe empty. After a program that failed the rest is not waited for.

        Raise Unavailable when nothing came for `stall_seconds`, Interrupted on a signal.
        """
        deadline = time.monotonic() + stall_seconds
        while True:
            interrupt.check()
            status = self.program.status  # asked before reading: what it wrote by then is in the pipe
            piece = self._read()
            if piece:
                yield piece
                deadline = time.monotonic() + stall_seconds
                if len(piece) < _PIECE_BYTES // 4 and status is None:
                    time.sleep(_FILL_SECONDS)  # a few large pieces cost less than many small ones
                continue
            if status is not None or (piece == b"" and self._writer_left()):
                return
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"the dump of '{self.database}' delivered nothing for {stall_seconds:g} s",
                    "is the server or Docker hanging? STALL_SECONDS sets the limit",
                )
            self.program.pause(_TICK_SECONDS, self.fd)

    def _read(self) -> bytes | None:
        """What is there, at most 1 MiB; None when nothing is there yet; b"" when nobody holds the other end."""
        try:
            return os.read(self.fd, _PIECE_BYTES)
        except BlockingIOError:
            return None

    def _writer_left(self) -> bool:
        """Whether a writer was there and is gone: a FIFO that nobody has opened yet reads as ended, too."""
        poll = select.poll()
        poll.register(self.fd, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))


@dataclass
class Sink:
    """A program's input. fd: does not block, -1 when closed; program: ask for its status after close()."""

    fd: int
    program: proc.Program
    database: str

    def write(self, data: bytes, stall_seconds: float) -> None:
        """Write all of it. Raise BrokenPipeError when the program is over, Unavailable when it has taken nothing
        for `stall_seconds`, Interrupted on a signal.
        """
        view, deadline = memoryview(data), time.monotonic() + stall_seconds
        while view:
            interrupt.check()
            try:
                view = view[os.write(self.fd, view) :]
                deadline = time.monotonic() + stall_seconds
            except BlockingIOError:
                if self.program.status is not None:
                    raise BrokenPipeError(errno.EPIPE, "the program is over") from None
                if time.monotonic() >= deadline:
                    raise Unavailable(
                        f"the load into '{self.database}' took nothing for {stall_seconds:g} s",
                        "is a statement waiting for a lock? LOAD_STALL_SECONDS sets the limit",
                    ) from None
                _wait_writable(self.fd)

    def close(self) -> None:
        """Say that no more comes. Nothing happens the second time."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def _wait_writable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(int(_TICK_SECONDS * 1000))


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

    def writing(self, program: Sequence[str]) -> AbstractContextManager[Sink]:
        """Start it and give its input; leaving the block stops it for certain."""
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


def query(
    client: Client,
    run: Run,
    target: Target,
    sql: str,
    settings: Settings,
    database: str = "",
    seconds: float | None = None,
) -> str:
    """Run `sql` (statements separated by `;`) and return what psql prints, unaligned, rows only.

    database: another one than the target's. seconds: the limit, COMMAND_SECONDS if not given.
    Raise the SuiteError that failures.explained() finds, or Unavailable when no answer came in time.
    """
    program = psql(client, run, database or target.database, sql)
    limit = settings.command_seconds if seconds is None else seconds
    finished = proc.run(client.command(program), environment=client.environment, seconds=limit)
    if finished.status != 0:
        raise failures.explained(finished.stderr, finished.status, "psql", target)
    return finished.stdout.decode("utf-8", "replace").strip("\n")


# A database may have a limit of its own, and bytes that are no UTF-8: those of SQL_ASCII pass as they are.
_SETTINGS = (
    "SET statement_timeout = 0; SELECT 1 WHERE CASE WHEN getdatabaseencoding() = 'SQL_ASCII'"
    " THEN set_config('client_encoding', 'SQL_ASCII', false) END = ''"
)


def psql(client: Client, run: Run, database: str, sql: str) -> list[str]:
    """Return the argument list of psql that runs `sql` and prints unaligned rows only. Pure."""
    connection = {**client.connection, "client_encoding": "UTF8"}
    program = ["psql", "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1"]
    return [*program, "-d", conninfo(connection, database, run.application_name), "-c", _SETTINGS, "-c", sql]


def widened(fd: int) -> int:
    """Given a pipe's descriptor, let the pipe hold 1 MiB, where that is allowed, and return the descriptor."""
    with suppress(OSError):
        fcntl.fcntl(fd, _SET_PIPE_SIZE, _PIPE_BYTES)
    return fd


@contextmanager
def piped(argv: Sequence[str], environment: Mapping[str, str], database: str) -> Iterator[Stream]:
    """Start argv with its output in an ordinary pipe: what the clients without a FIFO of their own use."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            os.set_blocking(read_end, False)
            program = proc.Program(argv, environment=environment, stdout=widened(write_end))
        finally:
            os.close(write_end)
        with program:
            yield Stream(read_end, program, database)
    finally:
        os.close(read_end)


@contextmanager
def fed(argv: Sequence[str], environment: Mapping[str, str], database: str) -> Iterator[Sink]:
    """Start argv with its input from an ordinary pipe: what the clients without a FIFO of their own use."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(write_end, False)
        program = proc.Program(argv, environment=environment, stdin=read_end)
    except BaseException:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
    sink = Sink(widened(write_end), program, database)
    try:
        with program:
            yield sink
    finally:
        sink.close()


_END_OWN = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()"
)


def end_own_backends(client: Client, run: Run, target: Target, settings: Settings) -> None:
    """End what this run left on the server and see it gone: stopping `docker exec` does not stop pg_dump.

    Takes two seconds at most, also after a signal. Nothing is raised: where the server cannot be reached, the next
    run's facts.gather() ends it.
    """
    deadline = time.monotonic() + _ENDING_SECONDS
    databases = [target.database, "postgres"]  # the second one where the first was closed in the meantime
    with interrupt.shielded():
        while databases and (left := deadline - time.monotonic()) > 0:
            try:
                if query(client, run, target, _END_OWN, settings, databases[0], left) == "0":
                    return
            except SuiteError as error:
                if not failures.crowded(error.message):
                    databases.pop(0)
            time.sleep(0.05)


@contextmanager
def ending(client: Client, run: Run, target: Target, settings: Settings, program: proc.Program) -> Iterator[None]:
    """Unless the program has ended well by the end of the block, end what it has on the server.

    The program is still to be stopped then: `docker exec` ends with 0 when it is, and would tell nothing any more.
    """
    try:
        yield
    finally:
        if program.status != 0:
            end_own_backends(client, run, target, settings)
