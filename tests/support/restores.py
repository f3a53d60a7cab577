"""Runs restore-postgres.sh on real servers and says, from outside, which of its promises do not hold.

A `Lab` is a database with a backup of it, in a BACKUP_DIR. `problems()` looks at the server and the directory after
whatever broke a run: the live database must be wholly old or wholly new, and open; an empty list means it is.
"""

from __future__ import annotations

import os
import pty
import re
import secrets
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from pgbackup.formats import names

from demo import servers as demo_servers
from tests.support import backups, embedded, images, promises, servers
from tests.support.backups import Ended, Place, Source
from tests.support.effort import chosen
from tests.support.servers import Server

ANY = chosen("direct", "exec")  # a client in the container starts a program of Docker's for each question
ROWS = 2000
_CONTENT = """
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL UNIQUE);
CREATE TABLE orders (id int PRIMARY KEY, of_user int NOT NULL REFERENCES users, note text);
CREATE TABLE "odd ""name"", with a
newline" (id serial PRIMARY KEY, what text);
CREATE TABLE arrivals (id bigint PRIMARY KEY);
CREATE INDEX ON orders (of_user);
INSERT INTO users SELECT n, 'user' || n || '@example.org' FROM generate_series(1, {rows}) AS n;
INSERT INTO orders SELECT n, n, md5(n::text) FROM generate_series(1, {rows}) AS n;
INSERT INTO "odd ""name"", with a
newline" (what) VALUES ('x'), (NULL), (E'\\\\.');
"""
# What the operator wants to get rid of: it is in the live database and not in the backup.
_LOSS = """
DELETE FROM orders WHERE id > 10; DELETE FROM users WHERE id > 10;
INSERT INTO users VALUES (900001, 'came@after.the.backup')
"""
_TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""
Content = dict[str, str]
_BACKUPS: dict[tuple[str, str, int], tuple[str, bytes]] = {}  # (server, client, rows) -> name and content


@dataclass
class Lab:
    """A database to restore. dsn: database name -> how a superuser reaches it. server: its container, if any."""

    place: Place
    source: Source
    dsn: Callable[[str], str]
    server: Server | None = None

    @property
    def database(self) -> str:
        return self.source.database

    @property
    def directory(self) -> Path:
        return self.place.directory(self.source)

    def sql(self, text: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run statements in a session that ends with them, and return the rows of the last one."""
        with psycopg.connect(self.dsn(database), autocommit=True, connect_timeout=10) as session:
            cursor = session.execute(text.encode())
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def command(self, *arguments: str) -> list[str]:
        return [str(self.place.root / "scripts/restore-postgres.sh"), self.source.name, *arguments]

    def start(self, *arguments: str, prefix: Sequence[str] = (), **environment: str) -> subprocess.Popen[bytes]:
        """Start a restore in a process group of its own, without a terminal."""
        return subprocess.Popen(
            [*prefix, *self.command(*arguments)],
            env={**self.place.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def restore(self, *arguments: str, prefix: Sequence[str] = (), **environment: str) -> Ended:
        """Run a restore to its end."""
        before = len(self.place.log())
        return self.place.end(self.start(*arguments, prefix=prefix, **environment), before=before)

    def backup(self) -> Path:
        """Back up the database as it is and return the file."""
        ended = self.place.run("-q", self.source.name)
        assert ended.status == 0, ended.stderr
        return max(self.place.files(self.source), key=lambda path: path.stat().st_mtime_ns)

    def files(self) -> list[Path]:
        """The backups, oldest name first."""
        return self.place.files(self.source)

    def databases(self) -> list[str]:
        """Those of ours on the server, whatever they are called."""
        names = self.sql("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1")
        return [str(name) for (name,) in names]

    def kept(self) -> list[str]:
        return [name for name in self.databases() if name.startswith(f"{self.database}_before_restore_")]

    def scratch(self) -> list[str]:
        return [name for name in self.databases() if name.startswith(f"{self.database}_restore_")]

    def content(self, database: str = "") -> Content:
        """Table -> hash of its rows; arrivals left out: writers come and go."""
        with psycopg.connect(self.dsn(database or self.database), autocommit=True, connect_timeout=10) as session:
            names = [name for (name,) in session.execute(_TABLES) if name != "public.arrivals"]
            return {name: _hash(session, name) for name in names}

    def lose(self) -> Content:
        """Change the live database after its backup; return what is in it then."""
        self.sql(_LOSS, self.database)
        return self.content()

    def reset(self, rows: int = ROWS) -> tuple[Path, Content, Content]:
        """Make the database anew, back it up, change it. Return the backup and the contents: new, old.

        New is what the backup holds, old what the live database holds before a restore.
        """
        remade(self, rows)
        new = self.content()
        return self._backup_of(rows), new, self.lose()

    def _backup_of(self, rows: int) -> Path:
        """A backup of the database as it was made: made anew for each server and client, then copied."""
        known = (self.dsn("postgres"), self.source.values["CLIENT"], rows)
        if known not in _BACKUPS:
            file = self.backup()
            _BACKUPS[known] = (file.name, file.read_bytes())
            return file
        name, content = _BACKUPS[known]
        self.directory.mkdir(mode=0o700, exist_ok=True)
        file, latest = self.directory / name, self.directory / names.latest(self.database)
        file.touch(0o600)
        file.write_bytes(content)
        latest.unlink(missing_ok=True)
        latest.symlink_to(name)
        return file


def _hash(session: psycopg.Connection, name: str) -> str:
    query = f"SELECT count(*) || ' ' || md5(string_agg(one::text, '|' ORDER BY one::text)) FROM {name} AS one"
    return str(session.execute(query.encode()).fetchall()[0][0])


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def remade(lab: Lab, rows: int = ROWS) -> None:
    """Drop all databases of ours and make the live one, filled."""
    for name in lab.databases():
        lab.sql(f"DROP DATABASE {quoted(name)} WITH (FORCE)")
    lab.sql(f'CREATE DATABASE "{lab.database}"')
    lab.sql(_CONTENT.replace("{rows}", str(rows)), lab.database)


def in_container(server: Server, path: Path, kind: str = ANY, **environment: str) -> Lab:
    """A lab in a container. kind: the client; where none is named, any will do. environment: more settings."""
    values = {"CONTAINER": server.name, "DIR": "auth", "CLIENT": kind, "DATABASE": server.database, "USER": server.user}
    if kind == "direct":
        # Of a host that is kept as up to date as its servers: not newer than 16, whose dumps 15 understands.
        values["PROGRAMS"] = str(images.wheel_tree(max(server.major, 16)) / "bin")
        values["URL"] = f"postgresql://{server.address}:5432/"
        values["PASSFILE"] = str(server.passfile(path))
    return _lab(path, server.database, values, environment, server.dsn, server.logs, server)


@contextmanager
def embedded_server() -> Iterator[demo_servers.Server]:
    """A server without Docker, much faster to work with."""
    with embedded.running(["auth_user"]) as (server,):
        yield server


def direct(server: demo_servers.Server, path: Path, **environment: str) -> Lab:
    """A lab on an embedded server, for the direct client."""

    def dsn(database: str) -> str:
        return server.url(quote(database, safe=""))

    def said() -> str:
        return server.directory.with_suffix(".log").read_text(errors="replace")

    values = {"DIR": "auth", "CLIENT": "direct", "URL": dsn("auth_db"), "DATABASE": "auth_db", "USER": server.superuser}
    values["PROGRAMS"] = str(server.installation.programs)
    return _lab(path, "auth_db", values, environment, dsn, said)


def _lab(
    path: Path,
    database: str,
    values: dict[str, str],
    environment: dict[str, str],
    dsn: Callable[[str], str],
    said: Callable[[], str],
    server: Server | None = None,
) -> Lab:
    def sql(text: str) -> list[tuple[object, ...]]:
        with psycopg.connect(dsn("postgres"), autocommit=True, connect_timeout=10) as session:
            return session.execute(text.encode()).fetchall()

    source = Source("auth", database, b"", values, sql, said)
    without = {"AUTH_SERVICES": "", "AUTH_HEALTH_URL": ""}
    return Lab(backups.place(path / "backups", [source], **{**without, **environment}), source, dsn, server)


def problems(lab: Lab, old: Content, new: Content) -> list[str]:
    """What does not hold now: the live database is there, open, and wholly old or wholly new (D)."""
    try:
        content = lab.content()
    except psycopg.Error as error:
        return [f"D: '{lab.database}' is closed or gone: {error}"]
    found = [] if content in (old, new) else [f"D: '{lab.database}' is neither old nor new: {content}"]
    if content == new and old != new and lab.kept():
        opened = lab.kept()[-1]
        lab.sql(f'ALTER DATABASE "{opened}" ALLOW_CONNECTIONS true')
        if lab.content(opened) != old:
            found.append(f"D: '{opened}' does not hold what was replaced")
        lab.sql(f'ALTER DATABASE "{opened}" ALLOW_CONNECTIONS false')
    return found


def leftovers(lab: Lab) -> list[str]:
    """What is left behind by runs that are over (E)."""
    found = [f"E: scratch database '{name}'" for name in lab.scratch()] + promises.leftovers(lab.place)
    closed = lab.sql("SELECT datname FROM pg_database WHERE NOT datallowconn AND datname <> 'template0'")
    return found + [f"E: '{name}' is closed" for (name,) in closed if name not in lab.kept()]


def settled(lab: Lab, old: Content, new: Content, seconds: float = promises.SETTLE_SECONDS) -> list[str]:
    """problems() and leftovers(), giving what is just ending the time to end."""
    deadline = time.monotonic() + seconds
    while (found := problems(lab, old, new) + leftovers(lab)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def answers(lab: Lab) -> bool:
    with suppress(psycopg.Error):
        return lab.sql("SELECT 1") == [(1,)]
    return False


def wholly(lab: Lab, old: Content, new: Content, seconds: float = promises.SETTLE_SECONDS) -> list[str]:
    """problems(), giving a swap that goes on in the server without its client the time to end."""
    deadline = time.monotonic() + seconds
    while (found := problems(lab, old, new)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def after(lab: Lab, old: Content, new: Content) -> list[str]:
    """Run the next command: it must succeed by itself (I) and clean up (E)."""
    ended = lab.place.run("-q", lab.source.name)
    found = [f"I: the next backup ended with {ended.status}: {ended.stderr[-800:]}"] if ended.status else []
    return found + settled(lab, old, new)


def failed(lab: Lab, ended: Ended, status: int | set[int], old: Content) -> list[str]:
    """What does not hold of a restore that had to fail: its status, what it said, nothing changed, nothing left."""
    wanted = {status} if isinstance(status, int) else status
    found = [] if ended.status in wanted else [f"C: status {ended.status}, not {wanted}: {ended.stderr[-1500:]}"]
    if not ended.stderr.strip():
        found.append("C: nothing on stderr")
    if not any(" ERROR " in line for line in ended.log):
        found.append(f"C: no ERROR in {ended.log}")
    if "Traceback" in ended.stderr or "internal error" in ended.stderr:
        found.append(f"C: a bug: {ended.stderr[-1500:]}")
    return found + settled(lab, old, old)


def plain(text: bytes) -> bytes:
    """A dump as an older pg_dump writes it, without `\\restrict`; our manifest is cut off."""
    end = text.rfind(b"\n-- pgbackup manifest:")
    return re.sub(rb"(?m)^\\(un)?restrict [A-Za-z0-9]+\n", b"", text if end < 0 else text[:end])


def await_line(process: subprocess.Popen[bytes], text: str, seconds: float = 60) -> None:
    """Read stderr of a run until a line has this text."""
    assert process.stderr is not None
    said, deadline = b"", time.monotonic() + seconds
    while text.encode() not in said:
        ready, _, _ = select.select([process.stderr], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(process.stderr.fileno(), 65536) if ready else b""
        assert piece, f"never said {text!r}, but: {said.decode(errors='replace')}"
        said += piece


@dataclass
class Typed:
    """How a run on a terminal ended: its exit status and all that stood on the screen."""

    status: int
    screen: str


def on_terminal(command: Sequence[str], environment: dict[str, str], answer: bytes, seconds: float = 60) -> Typed:
    """Run a command on a terminal of its own and type `answer` when it asks."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(command[0], list(command), {**environment, "TERM": "dumb"})
    screen, asked, deadline = b"", False, time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if not asked and b"to go on: " in screen:
                os.write(terminal, answer)
                asked = True
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    screen += os.read(terminal, 65536)
                except OSError:
                    break
        else:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Typed(status, screen.decode(errors="replace"))


OBEDIENT = 'trap "exit 0" TERM; while :; do sleep 1 & wait $!; done'
_STUBBORN = 'trap "echo told to end" TERM; while :; do sleep 1 & wait $!; done'


@contextmanager
def services(image: str, *names: str, stubborn: bool = False) -> Iterator[list[str]]:
    """Run containers that stand for the payment services; give their names, made unique. stubborn: SIGTERM makes them
    write "told to end", and go on.
    """
    unique = [f"{name}-{secrets.token_hex(3)}" for name in names]
    label = f"{servers.OWNER}={servers._owner(os.getpid())}"
    script = _STUBBORN if stubborn else OBEDIENT
    try:
        for name in unique:
            options = ["--name", name, "--label", label, "--network", "none", "--entrypoint", "sh"]
            options += ["--stop-signal", "TERM", "--stop-timeout", "4"]
            servers.docker("run", "-d", *options, image, "-c", script)
        yield unique
    finally:
        servers.docker("rm", "-fv", *unique, check=False)


def up(names: Sequence[str]) -> list[bool]:
    """Which of the containers run now."""
    found = servers.docker("inspect", "--format", "{{.State.Running}}", *names).stdout.split()
    return [word == "true" for word in found]


def moments(name: str) -> tuple[str, str]:
    """When a container was last started and last ended, as texts that sort."""
    form = "{{.State.StartedAt}} {{.State.FinishedAt}}"
    started, _, finished = servers.docker("inspect", "--format", form, name).stdout.strip().partition(" ")
    return _sortable(started), _sortable(finished)


def _sortable(moment: str) -> str:
    """Docker leaves out zeros at the end of the fraction."""
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<9}"


@dataclass
class Writers:
    """Clients that connect, write one row and leave, again and again. acknowledged: what they were told is written.

    gaps: for each client the longest time between two successes.
    """

    lab: Lab
    count: int = 4
    stay: bool = False
    acknowledged: set[int] = field(default_factory=set)
    gaps: list[float] = field(default_factory=list)

    def __enter__(self) -> Writers:
        self._stop = threading.Event()
        self.gaps = [0.0] * self.count
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(self.count)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _work(self, number: int) -> None:
        turn, last = 0, time.monotonic()
        while not self._stop.is_set():
            with (
                suppress(psycopg.Error),
                psycopg.connect(self.lab.dsn(self.lab.database), autocommit=True, connect_timeout=10) as session,
            ):
                while not self._stop.is_set():
                    turn += 1
                    name = number * 10_000_000 + turn
                    session.execute("INSERT INTO arrivals VALUES (%s)", [name])
                    self.acknowledged.add(name)
                    self.gaps[number] = max(self.gaps[number], time.monotonic() - last)
                    last = time.monotonic()
                    self._stop.wait(0.005)
                    if not self.stay:
                        break
            self._stop.wait(0.002)

    def lost(self) -> set[int]:
        """Rows that were acknowledged and are in no database of the lab, the kept ones included."""
        found: set[int] = set()
        for name in [self.lab.database, *self.lab.kept()]:
            if name != self.lab.database:
                self.lab.sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            found |= {int(str(row[0])) for row in self.lab.sql("SELECT id FROM arrivals", name)}
            if name != self.lab.database:
                self.lab.sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        return self.acknowledged - found


def swap_statements(lab: Lab, outgoing: str, incoming: str) -> list[str]:
    """The statements of the swap, each on its own, as the product has them."""
    from pgbackup.database.loading import swap

    return re.split(r"; ", swap.swap_sql(lab.database, incoming, outgoing))
