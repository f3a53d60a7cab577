"""One database's part of a run: what it works with, and what comes of it."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pgbackup.database.clients import connect
from pgbackup.database.clients.client import Client, Run
from pgbackup.errors import Unavailable
from pgbackup.report.events import ERROR, INFO, WARNING, Event, Events
from pgbackup.report.progress import Reporter, reporting
from pgbackup.settings.config import Settings, Target
from pgbackup.store import folder, workfiles
from pgbackup.store.folder import Folder


@dataclass(frozen=True)
class Job:
    """One database's part of a run. place: the directory of its backups."""

    target: Target
    settings: Settings
    place: Folder
    run: Run
    events: Events
    reporter: Reporter

    @contextmanager
    def client(self) -> Iterator[Client]:
        """The one way to the database, for the length of the block; why `auto` fell back is logged and told."""
        with (
            self._pipes() as pipes,
            connect.opened(self.target, self.settings, self.run, pipes, self._fell_back) as client,
        ):
            yield client

    @property
    def only_looks(self) -> bool:
        """Whether it is looking(): it writes nothing beside the backups, and claims nothing."""
        return self.run.owner.startswith(workfiles.LOOKING)

    @contextmanager
    def _pipes(self) -> Iterator[Path]:
        if self.only_looks:
            with tempfile.TemporaryDirectory(prefix="pgbackup-") as directory:
                yield Path(directory)
        else:
            with workfiles.pipes(self.place, self.run.owner) as pipes:
                yield pipes

    @contextmanager
    def answering(self, client: Client) -> Iterator[Client]:
        """That client, or a new one where it was cut off: a sidecar does not outlive its database's container."""
        try:
            client.server_query("SELECT 1")
        except Unavailable:
            with self.client() as anew:
                yield anew
        else:
            yield client

    def _fell_back(self, text: str) -> None:
        self.info("client.fallback", text, reason=text)

    def tell(self, text: str, *, always: bool = False) -> None:
        """Say something of this database to people that is no event. always: also to who asked for quiet."""
        say = self.reporter.warn if always else self.reporter.tell
        say(f"{self.target.name}: {text}")

    def info(self, name: str, said: str = "", **facts: object) -> None:
        """Emit an event of this database. said: for people, who see it unless they asked for quiet."""
        self._emit(INFO, name, said, facts)

    def warning(self, name: str, said: str = "", **facts: object) -> None:
        """Emit an event that does not change the exit status. said: for people, who always see it."""
        self._emit(WARNING, name, said, facts)

    def error(self, name: str, said: str = "", **facts: object) -> None:
        """Emit a failure. said: for people, who always see it."""
        self._emit(ERROR, name, said, facts)

    def _emit(self, level: str, name: str, said: str, facts: dict[str, object]) -> None:
        self.events.emit(Event(level, self.target.name, name, facts, said and f"{self.target.name}: {said}"))

    def warn(self, name: str, message: str, outcome: Outcome) -> None:
        """Emit a warning that also belongs to what came of the database."""
        outcome.warnings.append(message)
        self.warning(name, f"warning: {message}", reason=message)


@contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Add the block's duration to that phase's seconds."""
    begun = time.monotonic()
    try:
        yield
    finally:
        seconds[phase] = round(seconds.get(phase, 0.0) + time.monotonic() - begun, 3)


@dataclass
class Outcome:
    """What came of one database. seconds: by phase. expired: names of removed backups. status: of its own work.

    database_bytes: its size on the server. base: the name of the base backup that was made as well, "" for none. drill:
    the verdict of the drill after it, "" where there was none.
    """

    target: str
    database: str
    client: str = ""
    file: str = ""
    database_bytes: int = 0
    sql_bytes: int = 0
    file_bytes: int = 0
    tables: int = 0
    rows: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    base: str = ""
    drill: str = ""
    expired: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    status: int = 0
    error: str = ""
    hint: str | None = None

    def timed(self, phase: str) -> AbstractContextManager[None]:
        return timed(self.seconds, phase)


@contextmanager
def in_backup_dir(settings: Settings, *, create: bool, quiet: bool) -> Iterator[tuple[Folder, Reporter]]:
    """Open BACKUP_DIR, made if `create`, once everything is mounted that has to be. Raise as folder.opened() does."""
    folder.check_mounted(settings.backup_mount, folder.fstab_lines_above(settings.backup_dir))
    with folder.opened(settings.backup_dir, create=create, top=True) as top, reporting(quiet) as reporter:
        yield top, reporter


def looking() -> Run:
    """What a run is called that only looks, without the database's lock: no other one takes it for a leftover."""
    token = secrets.token_hex(8)
    return Run(f"{workfiles.LOOKING}{token[: 16 - len(workfiles.LOOKING)]}", token)


def identity(target: Target, place: Folder, part: str = "") -> Run:
    """Return what this run is called: the owner follows from the database and its directory, the token is new.

    part: of what goes on beside the database's other runs, under a lock of its own.
    """
    where = f"{os.path.realpath(place.path)}\0{target.database}" + (f"\0{part}" if part else "")
    return Run(hashlib.sha256(where.encode("utf-8", "surrogateescape")).hexdigest()[:16], secrets.token_hex(8))
