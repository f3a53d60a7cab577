"""Runs backup-postgres.sh on real servers and says, from outside, which of its promises a place does not keep.

A `Place` is a BACKUP_DIR with its databases. Whatever broke a run, `problems()` looks at what lies there and
`after()` at the next run; an empty list means that everything holds.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest
from pgbackup.archive import dumpfile, manifest, names
from pgbackup.errors import BackupBad

from demo import servers as demo_servers
from tests.support import embedded, engine, images, servers

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 120.0
MINIMUM = 3  # MIN_BACKUPS of every place
_SIDE = "pgbackup.owner"
_CRASHED = "all server processes terminated; reinitializing"
# A key made up for each dump; and the place of a sequence, which is another one after a crash of the server.
_CHANGING = re.compile(rb"^(\\(un)?restrict |SELECT pg_catalog\.setval\()[^\n]*\n", re.MULTILINE)
_MANIFEST = b"\n-- pgbackup manifest:"
_verdicts: dict[str, str] = {}


@dataclass(frozen=True)
class Source:
    """A database to back up. text: what pg_dump writes of it. values: its settings without AUTH_ in front.

    sql: runs a statement as superuser and returns rows; said: all that the server has logged.
    """

    name: str
    database: str
    text: bytes
    values: Mapping[str, str]
    sql: Callable[[str], list[tuple[object, ...]]]
    said: Callable[[], str]

    @property
    def directory(self) -> str:
        return self.values["DIR"]


@dataclass(frozen=True)
class Ended:
    """How a run ended. status: its exit status or minus a signal. log: the lines that it added to backup.log."""

    status: int
    stdout: str
    stderr: str
    seconds: float
    log: list[str]


@dataclass
class Place:
    """A BACKUP_DIR. environment: of its runs. planted: files that lay there before, with their digests.

    root: the checkout that runs; another one is a copy of the suite with a bug put into it.
    """

    path: Path
    sources: Sequence[Source]
    environment: dict[str, str]
    root: Path = ROOT
    planted: dict[Path, str] = field(default_factory=dict)

    def directory(self, source: Source | None = None) -> Path:
        return self.path / (source or self.sources[0]).directory

    def files(self, source: Source | None = None) -> list[Path]:
        """The files under final names, whatever they hold."""
        chosen = [source] if source else self.sources
        found = [path for one in chosen for path in self.directory(one).glob("*.sql.gz")]
        return sorted(path for path in found if path.is_file() and not path.is_symlink())

    def fresh(self, source: Source | None = None) -> list[Path]:
        """Those that were not planted."""
        return [path for path in self.files(source) if path not in self.planted]

    def log(self) -> list[str]:
        try:
            return (self.path / "backup.log").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []

    def command(self, *arguments: str) -> list[str]:
        return [str(self.root / "scripts/backup-postgres.sh"), *arguments]

    def start(self, *arguments: str, prefix: Sequence[str] = (), **environment: str) -> subprocess.Popen[bytes]:
        """Start a run in a process group of its own; prefix: a program that runs it."""
        return subprocess.Popen(
            [*prefix, *self.command(*arguments)],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def end(self, process: subprocess.Popen[bytes], seconds: float = LIMIT_SECONDS, before: int = 0) -> Ended:
        """Wait for a run; one that outlives the limit is killed and fails the test. before: lines of log to skip."""
        begun = time.monotonic()
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"the run did not end within {seconds:g} s; it said: {err.decode(errors='replace')[-2000:]}")
        spent = time.monotonic() - begun
        return Ended(process.returncode, out.decode(), err.decode(errors="replace"), spent, self.log()[before:])

    def run(
        self,
        *arguments: str,
        seconds: float = LIMIT_SECONDS,
        prefix: Sequence[str] = (),
        **environment: str,
    ) -> Ended:
        before = len(self.log())
        return self.end(self.start(*arguments, prefix=prefix, **environment), seconds, before)

    def plant(self, source: Source, ages: Sequence[float] = (40.0, 39.0, 38.0), *, by_hand: bool = False) -> None:
        """Put good backups of these ages in days there. by_hand: without a manifest, as the guide makes them."""
        directory = self.directory(source)
        directory.mkdir(mode=0o700, exist_ok=True)
        for days in ages:
            taken = datetime.now(timezone.utc) - timedelta(days=days)
            path = directory / names.dated(source.database, taken)
            make_backup(path, source, taken, by_hand=by_hand)
            self.planted[path] = digest(path)

    def reset(self) -> None:
        """Remove all but the planted backups; what expired is not brought back: call plant() again."""
        for path in self.path.iterdir():
            if path.is_file():
                path.unlink()
        for source in self.sources:
            if self.directory(source).exists():
                shutil.rmtree(self.directory(source))
        self.planted.clear()


def make_backup(path: Path, source: Source, taken: datetime, *, by_hand: bool = False) -> None:
    """Write a good backup of the source, as if made at `taken`."""
    path.touch(0o600)
    if by_hand:
        path.write_bytes(gzip.compress(source.text, 1))
        return
    with path.open("r+b", buffering=0) as file:
        written = dumpfile.write_dump(file.fileno(), [source.text], lambda _bytes: None)
        moment = f"{taken:%Y-%m-%dT%H:%M:%SZ}"
        scanner = written.scanner
        facts = {"format": manifest.FORMAT, "target": source.name, "database": source.database, "server": {}}
        facts |= {"server_version": "15", "pg_dump_version": "15", "started": moment, "ended": moment}
        facts |= {"sql_bytes": scanner.sql_bytes, "gzip_bytes": written.gzip_bytes, "sha256": written.sha256}
        facts |= {"statements": scanner.statements, "tables": scanner.tables, "rows": scanner.rows}
        dumpfile.append_manifest(file.fileno(), facts)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def problems(place: Place, *, sweep: bool = False, mode: int = 0o600) -> list[str]:
    """What does not hold of what lies in the place now (A, B), and with `sweep`, that nothing is left behind (E)."""
    found = [trouble for source in place.sources for trouble in _bad_files(place, source, mode)]
    found += [trouble for source in place.sources for trouble in _lost(place, source)]
    found += [f"the server of '{source.name}' crashed" for source in place.sources if _CRASHED in source.said()]
    return found + (leftovers(place) if sweep else [])


def _bad_files(place: Place, source: Source, mode: int) -> Iterator[str]:
    for path in place.files(source):
        if names.parse(source.database, path.name) is None:
            continue
        if stat.S_IMODE(path.stat().st_mode) != mode:
            yield f"A: '{path.name}' has mode {stat.S_IMODE(path.stat().st_mode):04o}"
        key = digest(path) + hashlib.sha256(source.text).hexdigest()
        if key not in _verdicts:
            _verdicts[key] = _verdict(path, source)
        if _verdicts[key]:
            yield f"A: '{path.name}' {_verdicts[key]}"
    latest = place.directory(source) / names.latest(source.database)
    if latest.is_symlink() and not latest.exists():
        yield f"B: '{latest.name}' leads nowhere"


def _verdict(path: Path, source: Source) -> str:
    """Why a file is no good backup of the source, or "": gunzip's opinion, the text itself, then our own reader's."""
    tested = subprocess.run(["gunzip", "-t", str(path)], capture_output=True, check=False)
    if tested.returncode != 0:
        return f"fails gunzip -t: {tested.stderr.decode(errors='replace').strip()}"
    text = subprocess.run(["gunzip", "-c", str(path)], capture_output=True, check=True).stdout
    if plain(text) != plain(source.text):
        return "does not hold what pg_dump writes of the database"
    with path.open("rb") as file:
        try:
            dumpfile.check(file.fileno())
        except BackupBad as bad:
            return f"is bad: {bad.message}"
    return ""


def plain(text: bytes) -> bytes:
    """A dump's text without what differs from one to the next, and without our manifest."""
    position = text.rfind(_MANIFEST)
    return _CHANGING.sub(b"", text if position < 0 else text[:position])


def _lost(place: Place, source: Source) -> Iterator[str]:
    """Planted backups that are gone or changed, unless as many newer ones as must be kept are there."""
    remaining = [path.name for path in place.files(source)]
    for path, was in place.planted.items():
        if path.parent != place.directory(source):
            continue
        if path.exists():
            if digest(path) != was:
                yield f"B: '{path.name}' was changed"
        elif sum(name > path.name for name in remaining) < MINIMUM:
            yield f"B: '{path.name}' was removed, and {len(remaining)} backups are left"


def leftovers(place: Place) -> list[str]:
    """Hidden files, sidecars, sessions and processes that belong to no run that goes on."""
    found = [f"E: '{path.relative_to(place.path)}' is left behind" for path in place.path.rglob(".pgbackup-*")]
    for source in place.sources:
        mark = owner(place, source)
        sessions = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'pgbackup-%'"
        with suppress(psycopg.OperationalError):
            found += [f"E: session {row[0]} is left behind" for row in source.sql(sessions)]
        found += [f"E: process {words} is left behind" for words in _processes(mark)]
        if "URL" not in source.values:
            listed = servers.docker("ps", "-aq", "--filter", f"label={_SIDE}={mark}").stdout.split()
            found += [f"E: container {name} is left behind" for name in listed]
    return found


def owner(place: Place, source: Source) -> str:
    """What every run of this database into this place is called on servers and in Docker."""
    where = f"{place.directory(source).resolve()}\0{source.database}"
    return hashlib.sha256(where.encode()).hexdigest()[:16]


def _processes(mark: str) -> Iterator[str]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            if mark in words:
                yield words[:200]


def told(ended: Ended, *, starts: int = 1) -> list[str]:
    """What does not hold of a run that was not killed: one start, one finish with its status, failures told (C).

    Where the log itself cannot be written, stderr has to say so, and the status.
    """
    if "backup.log" in ended.stderr and "cannot write" in ended.stderr:
        return [] if ended.status else ["C: the log could not be written, and the status is 0"]
    found = []
    begun = sum("event=run.start" in line for line in ended.log)
    finished = [line for line in ended.log if "event=run.finish" in line]
    if begun != starts or len(finished) != starts:
        found.append(f"C: {begun} run.start and {len(finished)} run.finish in {ended.log}")
    if starts and finished and f"status={ended.status} " not in finished[-1]:
        found.append(f"C: exit status {ended.status}, and the log says {finished[-1]}")
    if ended.status and not ended.stderr.strip():
        found.append(f"C: exit status {ended.status} and nothing on stderr")
    if ended.status and starts and not any(" ERROR " in line for line in ended.log):
        found.append(f"C: exit status {ended.status} and no ERROR in {ended.log}")
    if "Traceback" in ended.stderr or "internal error" in ended.stderr:
        found.append(f"C: a bug: {ended.stderr[-1500:]}")
    return found


def after(place: Place, *arguments: str, **environment: str) -> list[str]:
    """Run once more without a fault: it must succeed by itself (I), publish, and leave nothing of anybody (E)."""
    before = {source.name: set(place.files(source)) for source in place.sources}
    ended = place.run(*arguments, **environment)
    found = told(ended)
    if ended.status != 0:
        found.append(f"I: the next run ended with {ended.status}: {ended.stderr[-1500:]}")
    for source in place.sources:
        new = set(place.files(source)) - before[source.name]
        if len(new) != 1:
            found.append(f"I: the next run published {len(new)} backups of '{source.name}'")
    return found + settled(place)


def settled(place: Place, seconds: float = 5.0) -> list[str]:
    """problems(sweep=True), giving what is just ending the time to end."""
    deadline = time.monotonic() + seconds
    while (found := problems(place, sweep=True)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def failed(place: Place, ended: Ended, status: int | set[int], source: Source | None = None) -> list[str]:
    """What does not hold of a run that had to fail with this status and publish nothing new of the source."""
    wanted = {status} if isinstance(status, int) else status
    found = told(ended) + problems(place)
    if ended.status not in wanted:
        found.append(f"C: exit status {ended.status} instead of {wanted}: {ended.stderr[-800:]}")
    found += [f"C: '{path.name}' was published" for path in place.fresh(source or place.sources[0])]
    missing = [str(path) for path in place.planted if not path.exists()]
    return found + [f"B: {missing} expired after a failure"] * bool(missing)


def partial(place: Place, source: Source | None = None) -> Path | None:
    """The hidden file that a run is writing now."""
    return next(place.directory(source).glob(".pgbackup-*.partial"), None)


def await_dump(place: Place, process: subprocess.Popen[bytes], least: int = 150_000) -> None:
    """Wait until the run has written that much, and stop its process there: pg_dump soon fills its pipe and waits."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            if (path := partial(place)) and path.stat().st_size >= least:
                os.kill(process.pid, signal.SIGSTOP)
                return
        time.sleep(0.001)
    said = process.communicate(timeout=5)[1].decode() if process.poll() is not None else ""
    pytest.fail(f"the run never came to its dump: {said}")


@contextmanager
def in_dump(place: Place, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Give a run that is stopped in the middle of its dump; it goes on when the block is left."""
    process = place.start(*arguments, **environment)
    try:
        await_dump(place, process)
        yield process
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)


def mutated(directory: Path, *changes: tuple[str, str, str]) -> Path:
    """Copy the suite and put a bug into it: (file in lib/pgbackup, old text, new text); return the copy's root."""
    for name in ("lib", "scripts"):
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / ".venv").symlink_to(ROOT / ".venv")
    for file, old, new in changes:
        path = directory / "lib/pgbackup" / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{file} has {text.count(old)} times {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")
    return directory


def needs(**packages: str) -> None:
    """Have programs, given by their Debian packages (e2fsprogs="mkfs.ext4"), or skip the test; with CI=true fail it."""
    try:
        engine.install(packages)
    except engine.NoEngine as reason:
        missing(str(reason))


def missing(reason: str) -> None:
    """Skip the test because this machine lacks something; with CI=true fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def needs_root() -> None:
    if os.geteuid() != 0:
        missing("mounting and changing owners needs root")


BULK_ROWS = 200_000
_BULK = (
    "CREATE TABLE bulk AS SELECT n AS id, md5(n::text) || md5((n + 1)::text) || md5((n + 2)::text) AS filler"
    " FROM generate_series(1, {rows}) AS n"
)


@contextmanager
def embedded_sources(rows: int = 500, bulk: int = 0) -> Iterator[list[Source]]:
    """auth_db and payment_db on embedded servers, for the direct client. bulk: rows of a larger table in auth_db."""
    with embedded.running(["auth_user", "payment_user"]) as (auth, payment):
        auth.load("auth_db", embedded.AUTH_SQL, rows)
        payment.load("payment_db", embedded.PAYMENT_SQL, rows)
        if bulk:
            auth.psql("auth_db", "-c", _BULK.format(rows=bulk))
        yield [_embedded(auth, "auth"), _embedded(payment, "payment")]


def _embedded(server: demo_servers.Server, name: str) -> Source:
    database, url = f"{name}_db", server.url(f"{name}_db")
    dumped = subprocess.run([server.installation.programs / "pg_dump", url], capture_output=True, check=True).stdout

    def sql(text: str) -> list[tuple[object, ...]]:
        return query(server.url("postgres"), text)

    def said() -> str:
        return server.directory.with_suffix(".log").read_text(errors="replace")

    values = {"DIR": name, "CLIENT": "direct", "URL": url, "DATABASE": database, "USER": server.superuser}
    values["PROGRAMS"] = str(server.installation.programs)
    return Source(name, database, dumped, values, sql, said)


def query(dsn: str, text: str) -> list[tuple[object, ...]]:
    """Run one statement and return its rows."""
    with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as session:
        cursor = session.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def container_source(server: servers.Server, name: str, *, bulk: int = 0, kind: str = "auto") -> Source:
    """Fill the server's database, made anew, and describe it."""
    server.psql("-c", "DROP SCHEMA public CASCADE", "-c", "CREATE SCHEMA public")
    server.psql_file(embedded.AUTH_SQL if name == "auth" else embedded.PAYMENT_SQL)
    if bulk:
        server.psql("-c", _BULK.format(rows=bulk))
    text = server.exec(["pg_dump", "-U", server.user, server.database]).stdout.encode()
    values = {"CONTAINER": server.name, "DIR": name, "CLIENT": kind, "DATABASE": server.database}
    values |= {"USER": server.user}
    return Source(name, server.database, text, values, lambda sql: server.sql(sql, "postgres"), server.logs)


def place(path: Path, sources: Sequence[Source], **environment: str) -> Place:
    """Make a BACKUP_DIR for these sources; environment: more settings."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    given = {"BACKUP_DIR": str(path), "MIN_BACKUPS": str(MINIMUM), "DATABASES": " ".join(one.name for one in sources)}
    given |= {"WAIT_SECONDS": "20", "COMMAND_SECONDS": "20", "HOME": str(path.parent)}
    programs = [one.values["PROGRAMS"] for one in sources if "PROGRAMS" in one.values]
    given["PATH"] = ":".join([*programs, os.environ["PATH"]])
    if "DOCKER_HOST" in os.environ:
        given["DOCKER_HOST"] = os.environ["DOCKER_HOST"]
    for one in sources:
        given |= {f"{one.name.upper()}_{key}": value for key, value in one.values.items() if key != "PROGRAMS"}
    return Place(path, sources, {**given, **environment})


def embedded_programs(major: int) -> Path:
    """The client programs of `major` (16 or 18) on this host."""
    return images.wheel_tree(major) / "bin"
