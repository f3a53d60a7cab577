"""Runs backup-postgres.sh in a `Place`: a BACKUP_DIR with its databases, and old backups in it if wanted."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pgbackup.formats import dumpfile, manifest, names

from tests.support import engine

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 120.0
MINIMUM = 3  # MIN_BACKUPS of every place


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
        path = self.path / "backup.log"
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []

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

    def run(self, *arguments: str, prefix: Sequence[str] = (), **environment: str) -> Ended:
        before = len(self.log())
        return self.end(self.start(*arguments, prefix=prefix, **environment), before=before)

    def plant(self, source: Source, ages: Sequence[float] = (40.0, 39.0, 38.0), *, by_hand: bool = False) -> None:
        """Put good backups of these ages in days there. by_hand: without a manifest, as the guide makes them."""
        directory = self.directory(source)
        directory.mkdir(mode=0o700, exist_ok=True)
        for days in ages:
            taken = datetime.now(timezone.utc) - timedelta(days=days)
            path = directory / names.dated(source.database, taken)
            make_backup(path, source, taken, by_hand=by_hand)
            self.planted[path] = digest(path)

    def again(self) -> None:
        """The state before a try: only old backups."""
        self.reset()
        for source in self.sources:
            self.plant(source)

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
        scanner = written.scan.scanner
        facts = {"format": manifest.FORMAT, "target": source.name, "database": source.database, "server": {}}
        facts |= {"server_version": "15", "pg_dump_version": "15", "started": moment, "ended": moment}
        facts |= {"sql_bytes": scanner.sql_bytes, "gzip_bytes": written.gzip_bytes, "sha256": written.sha256}
        facts |= {"statements": scanner.statements, "tables": scanner.tables, "rows": scanner.rows}
        dumpfile.append_manifest(file.fileno(), facts)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("*.pyc.*"))
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


def place(path: Path, sources: Sequence[Source], **environment: str) -> Place:
    """Make a BACKUP_DIR for these sources; environment: more settings."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    given = {"BACKUP_DIR": str(path), "MIN_BACKUPS": str(MINIMUM), "DATABASES": " ".join(one.name for one in sources)}
    given |= {"DRILL_AFTER_BACKUP": "no"}  # what is tried here is the backup
    given |= {"WAIT_SECONDS": "20", "COMMAND_SECONDS": "20", "HOME": str(path.parent)}
    programs = [one.values["PROGRAMS"] for one in sources if "PROGRAMS" in one.values]
    given["PATH"] = ":".join([*programs, os.environ["PATH"]])
    if "DOCKER_HOST" in os.environ:
        given["DOCKER_HOST"] = os.environ["DOCKER_HOST"]
    for one in sources:
        given |= {f"{one.name.upper()}_{key}": value for key, value in one.values.items() if key != "PROGRAMS"}
    return Place(path, sources, {**given, **environment})


def prepared(path: Path, sources: Sequence[Source], **environment: str) -> Place:
    """The same, below `path`, with old backups of each source."""
    made = place(path / "backups", sources, **environment)
    made.again()
    return made


def run_at(place: Place, clock: datetime | str, **environment: str) -> Ended:
    """Run at an instant, at which time stands still, or with a clock that is off by, say, "+366d".

    What the file system says of times stays as it is: libfaketime would get half of it wrong.
    """
    needs(faketime="faketime")
    text = clock if isinstance(clock, str) else f"{clock.timestamp():.0f}"
    form = {} if isinstance(clock, str) else {"FAKETIME_FMT": "%s"}
    prefix = ["faketime", "-f", text]
    return place.run("-q", prefix=prefix, **environment, **form, NO_FAKE_STAT="1", FAKE_UTIME="0")
