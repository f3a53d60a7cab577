"""Runs copy-backups.sh in a BACKUP_DIR with good backups in it, to places of the tests' own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pgbackup.formats import sealed
from pgbackup.remotes.place import Place

from tests.support import backup_files
from tests.support.elsewhere import Elsewhere

ROOT = Path(__file__).resolve().parents[2]
HOST = "host-a"
DIRECTORY = "postgres-a"
LIMIT_SECONDS = 120.0


@dataclass
class Copier:
    """A host with one database, auth, whose copies go to `elsewhere`. identity: the key that opens them."""

    path: Path
    elsewhere: Elsewhere
    identity: str
    environment: dict[str, str]
    root: Path = ROOT
    planted: list[Path] = field(default_factory=list)

    @property
    def place(self) -> Place:
        return self.elsewhere.place()

    @property
    def own(self) -> Path:
        """What the suite keeps of the place."""
        return self.path / "offsite" / self.elsewhere.kind

    def plant(self, *ages: float, body: str = backup_files.USERS, database: str = backup_files.DATABASE) -> list[Path]:
        """Put good backups of these ages in days into its directory, and return them."""
        directory = self.path / DIRECTORY
        directory.mkdir(mode=0o700, exist_ok=True)
        made = []
        for days in ages:
            taken = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=days)
            data = backup_files.contents(backup_files.dump(body), taken, database)
            made.append(backup_files.place(directory, taken, data=data, database=database))
        self.planted += made
        return made

    def start(self, script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.root / "scripts" / script), *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, script: str = "copy-backups.sh", **environment: str) -> Ended:
        process = self.start(script, *arguments, **environment)
        try:
            out, err = process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return Ended(process.returncode, out, err)

    def name_of(self, path: Path) -> str:
        suffix = sealed.SUFFIX if self.environment.get(f"{self.elsewhere.kind.upper()}_ENCRYPTED") != "no" else ""
        return f"{HOST}/dumps/{DIRECTORY}/{path.name}{suffix}"

    def there(self) -> list[str]:
        """The names of all copies of backups of this host."""
        return [one.name for one in self.place.list(HOST) if "/dumps/" in one.name]

    def decrypted(self, path: Path, place: Place | None = None) -> bytes:
        """What is in the copy of a backup. place: one that is open."""
        return b"".join(sealed.opened((place or self.place).get(self.name_of(path)), [self.identity]))

    def problems(self, expected: Sequence[Path]) -> list[str]:
        """What is wrong with the copies, seen from outside: each of these backups must be there, whole, and once."""
        found = []
        with self.place.kept_open() as place:
            names = [one.name for one in place.list(HOST) if "/dumps/" in one.name]
            wanted = sorted(self.name_of(path) for path in expected)
            if sorted(names) != wanted:
                found.append(f"there are {names}, not {wanted}")
            others = [path for path in expected if self.decrypted(path, place) != path.read_bytes()]
        found += [f"{path.name} is another there" for path in others]
        left = [entry.name for entry in self.own.glob("spool/*")] if self.own.exists() else []
        return found + [f"{name} is left in the spool" for name in left]

    def log(self) -> str:
        return (self.path / "backup.log").read_text()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.own / "state.json").read_text())
        return found


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout)
        return found


def copier(directory: Path, elsewhere: Elsewhere) -> Copier:
    """A host with an empty BACKUP_DIR and one key."""
    identity, recipient = sealed.new_key()
    recipients = directory / "recipients"
    recipients.write_text(recipient + "\n")
    recipients.chmod(0o644)
    backups = directory / "backups"
    backups.mkdir(mode=0o700)
    kind = elsewhere.kind
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "BACKUP_DIR": str(backups),
        "DATABASES": "auth",
        "OFFSITE": kind,
        "OFFSITE_HOST": HOST,
        f"{kind.upper()}_REMOTE": elsewhere.remote,
        "RCLONE_CONFIG": str(elsewhere.config),
        "ENCRYPTION_RECIPIENTS": str(recipients),
    }
    return Copier(backups, elsewhere, identity, environment)
