"""What a verification has found is noted beside the backups and in the history, where this account may write."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pgbackup.errors import CannotCreate, LockHeld, PermissionDenied, path_error
from pgbackup.report import history
from pgbackup.report.events import INFO, Event, Events
from pgbackup.report.result import instant
from pgbackup.settings.config import Target
from pgbackup.store import folder
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile, verified
from pgbackup.store.state.statefile import Newer, Unreadable
from pgbackup.store.state.verified import Proven

_ONLY_LOOKING = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Found:
    """What was found of a database. proven: the good files. bad: file to why. denied: how many could not be read.

    status: as it is told.
    """

    started: datetime
    good: int
    proven: Mapping[str, Proven]
    bad: Mapping[str, str]
    denied: int
    status: int


def of(top: Folder, target: Target, found: Found) -> str:
    """Note what was found of a database.

    Return why it is not noted where that needs a look; "" where it is, and for an account that may only look.
    """
    path = top.path / target.directory
    if not path.is_dir():
        return ""
    try:
        if not found.denied:
            _keep(path, target.database, found)
    except LockHeld as error:
        return error.message
    except (PermissionDenied, CannotCreate) as error:
        # Who only looks notes nothing, and the status says how old the last note is.
        return error.message if isinstance(error, Newer) else ""
    except OSError as error:
        return "" if error.errno in _ONLY_LOOKING else str(path_error(error, path))
    record = {
        "target": target.name,
        "database": target.database,
        "action": "verify",
        "started": instant(found.started),
        "who": history.who(),
        "from": str(path),
        "seconds": {"verify": round((datetime.now(timezone.utc) - found.started).total_seconds(), 1)},
        "status": found.status,
        "outcome": f"{found.good} good, {len(found.bad)} bad" + (f", {found.denied} unknown" if found.denied else ""),
    }
    Events((history.writer(top, []),)).emit(Event(INFO, target.name, "verify.end", record=record))
    return ""


def _keep(path: Path, database: str, found: Found) -> None:
    with folder.opened(path, create=False, writing=True) as place, verified.held(place, database):
        try:
            before = verified.read(place, database)
        except Newer:
            raise
        except Unreadable:
            before = None
        at = statefile.to_the_second(found.started)
        verified.write(place, database, verified.after(before, at, found.good, found.bad, found.proven))
