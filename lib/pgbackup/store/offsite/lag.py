"""How far copies of WAL and base backups at a place have come: for whoever wants to know what a loss would cost now.

One file for each lane (`wal.json`, `base.json`) in the place's directory, BACKUP_DIR/offsite/<place>; and beside them
`series.json`, which tells what of one archive from what of another.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pgbackup import wal
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile

_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=10)
_SERIES = "series.json"


@dataclass(frozen=True)
class Lag:
    """tried: when a lane was at work last, succeeded: when it last had nothing more to do. failures: turns that failed
    since; status, error: of the last of them, or of what stops only itself.

    By the directory of each archive: lsn: up to where WAL is there without a gap since this host copies it; until: an
    instant up to which each commit is there; newest: the newest segment or base backup that is there; growing: the
    unfinished segment, up to which of its bytes it is there, and in how many parts.
    """

    tried: datetime | None = None
    succeeded: datetime | None = None
    failures: int = 0
    status: int = 0
    error: str = ""
    lsn: dict[str, str] = field(default_factory=dict)
    until: dict[str, datetime] = field(default_factory=dict)
    newest: dict[str, str] = field(default_factory=dict)
    growing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError for what no lane writes."""
        for position in self.lsn.values():
            wal.parse_lsn(position)


def read(folder: Folder, lane: str) -> Lag:
    """What is known; nothing where there is no file. Raise statefile.Unreadable or PermissionDenied."""
    name = f"{lane}.json"
    return statefile.read(folder, name, Lag, f"remove it: rm '{folder.path / name}'") or Lag()


def write(folder: Folder, lane: str, lag: Lag) -> None:
    """Replace it in one step. Raise OSError."""
    statefile.write(folder, f"{lane}.json", lag)


def pause(failures: int) -> timedelta:
    """How long a place that failed is left alone: it doubles, from seconds to minutes. Pure."""
    if not failures:
        return timedelta(0)
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * (1 << min(failures - 1, 10)))


@dataclass(frozen=True)
class _Known:
    """archives: directory of an archive to its mark and the name of its series, with a blank between."""

    archives: dict[str, str] = field(default_factory=dict)


def series_of(folder: Folder, directory: str, mark: str) -> str:
    """The name of the series that an archive's copies at this place go into; "" where it has none yet.

    mark: the archive's own. Another archive of the same cluster has another one, and copies of its own.
    """
    before, _, name = _known(folder).archives.get(directory, "").partition(" ")
    return name if before == mark else ""


def begin_series(folder: Folder, directory: str, mark: str, name: str) -> None:
    """Note the series of an archive. Raise OSError."""
    known = _known(folder)
    statefile.write(folder, _SERIES, replace(known, archives={**known.archives, directory: f"{mark} {name}"}))


def _known(folder: Folder) -> _Known:
    """Where the file cannot be read, all archives begin new series: what is there already stays there."""
    try:
        return statefile.read(folder, _SERIES, _Known) or _Known()
    except statefile.Unreadable:
        return _Known()
