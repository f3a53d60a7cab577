"""One way to ask: a client runs programs next to a database; sidecar, docker_exec and direct are three ways to."""

from __future__ import annotations

import copy
import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pgbackup import interrupt, proc
from pgbackup.database.clients import failures, session, streams
from pgbackup.database.clients.streams import Sink, Stream
from pgbackup.errors import ConfigurationError, Interrupted, PermissionDenied, SuiteError, Unavailable
from pgbackup.proc import Finished
from pgbackup.settings.config import Settings, Target
from pgbackup.sql.naming import literal

_ENDING_SECONDS = 2.0
_ELSEWHERE = ("postgres", "template1")


def _host() -> str:
    """This machine, in eight letters: another one may have a directory of the same path."""
    name = os.uname().nodename
    with suppress(OSError):
        name = Path("/etc/machine-id").read_text(encoding="ascii").strip() or name
    return hashlib.sha256(name.encode()).hexdigest()[:8]


_HOST = _host()


@dataclass(frozen=True)
class Run:
    """What this run is called on servers and in Docker, so that it and the next one find what is theirs.

    owner: the same for every run of this database into this directory; token: this run's own.
    """

    owner: str
    token: str

    @property
    def family(self) -> str:
        """What the names of all runs of this owner on this host begin with."""
        return f"pgbackup-{self.owner}-{_HOST}-"

    @property
    def application_name(self) -> str:
        """At most 63 bytes, or the server would cut it: 9 + 16 + 1 + 8 + 1 + 16."""
        return f"{self.family}{self.token}"


def conninfo(connection: Mapping[str, str], database: str, application_name: str) -> str:
    """Return a libpq connection string in which any name is only a name.

    A database called `dbname=postgres host=evil` would be expanded if it were passed bare
    (PostgreSQL manual, 34.1.1 Connection Strings).
    """
    words = {**connection, "dbname": database, "application_name": application_name}
    return " ".join(f"{key}={_quoted(value)}" for key, value in words.items())


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Client(ABC):
    """One way to run a program next to the database, and to ask its server.

    connection: libpq's keywords without the database. container_id, image_id: "" outside Docker. memory_bytes: what the
    server may have, 0 where that is not known; processors: as many as it may use. further: settings that the server is
    known to let this role begin a session with.
    """

    kind: str
    container_id = ""
    image_id = ""
    memory_bytes = 0
    processors = len(os.sched_getaffinity(0))

    def __init__(
        self,
        target: Target,
        settings: Settings,
        run: Run,
        connection: Mapping[str, str],
    ) -> None:
        self.target, self.settings, self.run = target, settings, run
        self.connection: dict[str, str] = dict(connection)
        self.further: dict[str, str] = {}
        self.pooled = False  # what is there takes no options at the start of a session
        self._maintenance: list[str] = []  # have answered

    def of(self, database: str) -> Client:
        """Return this client for another database of the same server."""
        other = copy.copy(self)
        other.target, other._maintenance = replace(self.target, database=database), []
        return other

    @abstractmethod
    def command(self, program: Sequence[str], *, fed: bool = False) -> list[str]:
        """Given a program and its arguments, return the argument list that runs it next to the database.

        fed: it reads its standard input.
        """

    def completed(self, program: Sequence[str], seconds: float, stdin: bytes = b"") -> Finished:
        """Run a program next to the database to its end and return what it said. Raise as proc.run() does."""
        with proc.fed(stdin) as descriptor:
            return proc.run(self.command(program, fed=True), seconds=seconds, stdin=descriptor)

    @contextmanager
    def reading(self, program: Sequence[str]) -> Iterator[Stream]:
        """Start it and give its output as a stream; leaving the block stops it for certain."""
        with streams.piped(self.command(program), self.target.database) as stream, self.ending(stream.program):
            yield stream

    @contextmanager
    def writing(self, program: Sequence[str], answers: int | None = None) -> Iterator[Sink]:
        """Start it and give its input; leaving the block stops it for certain. answers: a descriptor for its output."""
        argv = self.command(program, fed=True)
        with streams.fed(argv, self.target.database, answers) as sink, self.ending(sink.program):
            yield sink

    def relocated(self) -> bool:
        """Nobody listens: whether the server was found elsewhere, and `connection` now says where."""
        return False

    def query(self, sql: str, *values: str, database: str = "", seconds: float | None = None) -> str:
        """Run statements and return what psql prints, unaligned, rows only.

        values: each takes the place of a `%s`, as an SQL string constant; without values a `%` is only a `%`.
        database: another one than the target's. seconds: the limit, COMMAND_SECONDS if not given.
        Raise what failures.explained() finds, or Unavailable when no answer came in time. What is given up here is
        ended on the server.
        """
        try:
            return self._answer(sql, values, database, seconds)
        except (proc.NoAnswer, Interrupted):
            self.end_own_backends()
            raise

    def server_query(self, sql: str, *values: str, about: str = "", seconds: float | None = None) -> str:
        """Do query() in a database that the statements are not about: for databases, roles, the server.

        about: the database that is to be renamed or dropped, if it is not the target's.
        """
        return self.query(sql, *values, database=self.maintenance(about), seconds=seconds)

    def begin_further(self) -> bool:
        """Learn, from another database, what else this role may begin a session with. Return whether it is new."""
        if self.further:
            return False
        with suppress(SuiteError):
            major, superuser = self.server_query(session.WHO).split()
            self.further = session.further(int(major), superuser=superuser == "t")
        return bool(self.further)

    def maintenance(self, about: str = "") -> str:
        """A database that this role may connect to, and that is neither `about` nor the target's. Raise SuiteError."""
        taken = {about, self.target.database}
        known = next((name for name in self._maintenance if name not in taken), None)
        if known is None:
            known = self._elsewhere(taken)
            self._maintenance.append(known)
        return known

    def _elsewhere(self, taken: set[str]) -> str:
        first: SuiteError | None = None
        for name in [each for each in _ELSEWHERE if each not in taken]:
            try:
                self.query("SELECT 1", database=name)
            except (Unavailable, PermissionDenied) as error:
                if failures.passing(error.message):
                    raise
                first = first or error
            else:
                return name
        assert first is not None  # noqa: S101  only one of them can be taken
        sql = (
            "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2"
            f" AND datname NOT IN ({', '.join(map(literal, sorted(taken)))})"
            " AND has_database_privilege(oid, 'CONNECT') ORDER BY datistemplate, datname LIMIT 1"
        )
        try:
            found = self.query(sql)
        except SuiteError:
            raise first from None
        if not found:
            raise first
        return found

    @contextmanager
    def meanwhile(self, sql: str, *values: str, about: str = "") -> Iterator[None]:
        """Run statements as server_query() does for the length of the block, and then end them; how is not asked."""
        program = self.command(self._psql(self.maintenance(about)), fed=True)
        with proc.fed(_script(sql, values)) as descriptor:
            running = proc.Program(program, stdin=descriptor)
        with running:
            yield

    def _psql(self, database: str) -> list[str]:
        """Return the program that is fed statements, and prints rows only, unaligned. Pure."""
        begin = {"client_encoding": "UTF8"} | ({} if self.pooled else {"options": self._options()})
        where = conninfo({**self.connection, **begin}, database, self.run.application_name)
        words = ["psql", "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"]
        return [*words, "-d", where, "-f", "-"]

    def _options(self) -> str:
        return session.options(session.OPTIONS, self.further)

    def _answer(self, sql: str, values: Sequence[str], database: str, seconds: float | None) -> str:
        limit = self.settings.command_seconds if seconds is None else seconds
        program = self._psql(database or self.target.database)
        finished = self.completed(program, limit, _script(sql, values))
        if finished.status != 0:
            pooler = not self.pooled and failures.is_pooler(finished.stderr)
            self.pooled = self.pooled or pooler
            if pooler or (failures.nobody_listens(finished.stderr) and self.relocated()):
                return self._answer(sql, values, database, seconds)
            raise failures.explained(failures.unnumbered(finished.stderr), finished.status, "psql", self.target)
        return finished.stdout.decode("utf-8", "replace").strip("\n")

    def end_own_backends(self) -> None:
        """End what this run left on the server and see it gone: stopping `docker exec` does not stop pg_dump.

        Takes two seconds at most, also after a signal. Nothing is raised: where the server cannot be reached, the
        next run ends it.
        """
        deadline = time.monotonic() + _ENDING_SECONDS
        databases = list(dict.fromkeys([self.target.database, *_ELSEWHERE]))  # where the first one is closed by now
        with interrupt.shielded():
            while databases and (left := deadline - time.monotonic()) > 0:
                try:
                    if self._answer(_END_OWN, (), databases[0], left) == "0":
                        return
                except SuiteError as error:
                    if not failures.crowded(error.message):
                        databases.pop(0)
                time.sleep(0.05)

    @contextmanager
    def ending(self, program: proc.Program) -> Iterator[None]:
        """Unless the program has ended well by the end of the block, end what it has on the server.

        The program is still to be stopped then: `docker exec` ends with 0 when it is, and would tell nothing any more.
        """
        try:
            yield
        finally:
            if program.status != 0:
                self.end_own_backends()


def _script(sql: str, values: Sequence[str]) -> bytes:
    """What psql is fed for a question. Raise ConfigurationError for a name that is no text. Pure."""
    text = sql % tuple(map(literal, values)) if values else sql
    script = f"\\o /dev/null\nSET search_path = pg_catalog;\n{session.ASKING};\n\\o\n{text}\n;\n"
    try:
        return script.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigurationError(f"{text!r} is not UTF-8 text", "names are given in UTF-8") from None


_END_OWN = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()"
)


def patience(settings: Settings) -> dict[str, str]:
    """How long libpq waits for a connection."""
    return {"connect_timeout": str(max(2, settings.wait_seconds))}
