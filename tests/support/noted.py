"""A directory of backups with what the commands note there, and the status that is drawn from it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

from pgbackup.commands import noting
from pgbackup.commands.job import Outcome
from pgbackup.commands.status import show
from pgbackup.formats import names
from pgbackup.report.promises.promise import Promise
from pgbackup.report.promises.status import Status
from pgbackup.settings.config import Settings
from pgbackup.store import folder

from tests.support import backup_files, settings

ROOT = Path(__file__).resolve().parents[2]


def directory(path: Path) -> Path:
    """Make BACKUP_DIR, with the directory of one database, in `path`."""
    (path / "backups").mkdir(mode=0o700)
    (path / "backups" / "postgres-a").mkdir(mode=0o700)
    return path / "backups"


def loaded(top: Path, **more: str) -> Settings:
    return settings.load(top.parent, "", {"BACKUP_DIR": str(top), "DATABASES": "auth", **more})


def look(top: Path, **more: str) -> Status:
    return show.look(loaded(top, **more), ROOT)


def of(status: Status, kind: str) -> Promise:
    return next(promise for promise in status.promises if promise.kind == kind)


def put(top: Path, when: datetime) -> Path:
    """A backup as a run publishes it."""
    path = top / "postgres-a" / names.dated("auth_db", when)
    path.write_bytes(backup_files.contents(backup_files.dump(), when))
    path.chmod(0o600)
    return path


def ago(**span: float) -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0) - timedelta(**span)


def note(top: Path, path: Path | None, status: int = 0, error: str = "") -> str:
    """Note the end of a run, as backup-postgres.sh does."""
    outcome = Outcome("auth", "auth_db", file=path.name if path else "", status=status, rows=3, sql_bytes=700)
    with folder.opened(top / "postgres-a", create=False) as place:
        return noting.run_of(place, outcome, error)


def state(top: Path, what: str) -> Path:
    return top / "postgres-a" / f".auth_db.{what}.json"
