"""How copying to a place goes: when it last succeeded, what failed since, when it is tried again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile

FOLLOWER = "follow"  # the lock of who copies WAL and base backups as they come
_NAME = "state.json"
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True)
class State:
    """succeeded: when a run last found everything there or copied it, tried: when one last tried.

    failures: runs that failed since; status, error: of the last of them. objects, bytes: that were ever confirmed.
    newest: for each database, by its name in DATABASES, when the newest backup that is there was taken.
    """

    succeeded: datetime | None = None
    tried: datetime | None = None
    failures: int = 0
    status: int = 0
    error: str = ""
    objects: int = 0
    bytes: int = 0
    newest: dict[str, datetime] = field(default_factory=dict)


def path_of(backup_dir: Path, place: str) -> Path:
    """The directory of what this host knows of a place of OFFSITE."""
    return backup_dir / "offsite" / place


def read(folder: Folder) -> State:
    """What is known; nothing where there is no file. Raise statefile.Unreadable or PermissionDenied."""
    return statefile.read(folder, _NAME, State, f"remove it: rm '{folder.path / _NAME}'") or State()


def write(folder: Folder, state: State) -> None:
    """Replace it in one step. Raise OSError."""
    statefile.write(folder, _NAME, state)


def next_try(state: State) -> datetime | None:
    """When a place that failed is tried again: pauses that double, from a minute to an hour. Pure. None: at once."""
    if not state.failures or not state.tried:
        return None
    pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * (1 << min(state.failures - 1, 10)))
    return state.tried + pause


def is_paused(state: State, now: datetime) -> bool:
    """Whether it is too early to try again. A clock that was set back since does not make the pause longer. Pure."""
    until = next_try(state)
    return until is not None and now < until <= now + _LONGEST_PAUSE
