"""What the status itself remembers, in BACKUP_DIR/status: when this host was awake, and which databases there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from pgbackup.store import folder
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile

_AWAKE, _COVERAGE = "awake.json", "coverage.json"
# It is noted every five minutes, or each hour by whoever set up a schedule of their own.
_ASLEEP = timedelta(minutes=90)


@dataclass(frozen=True)
class Awake:
    """When this host was seen awake last, and in which boot (an id). since: it is awake, without a pause; away: when it
    was seen before that.
    """

    seen: datetime
    boot: str
    since: datetime
    away: datetime | None = None


@dataclass(frozen=True)
class Found:
    """One finding of a probe; as facts.Finding."""

    kind: str
    container: str
    database: str
    what: str
    harmless: bool = False


@dataclass(frozen=True)
class Probe:
    """What a probe of coverage has found; as facts.Coverage."""

    probed: datetime
    servers: int
    databases: int
    findings: list[Found] = field(default_factory=list)
    problem: str = ""


def still_awake(before: Awake | None, now: datetime, boot: str) -> Awake:
    """What is known once the host was seen awake at `now`. Pure."""
    seen = statefile.to_the_second(now)
    if before is None:
        return Awake(seen, boot, seen)
    if before.boot != boot or now - before.seen > _ASLEEP:
        return Awake(seen, boot, seen, before.seen)
    return Awake(seen, boot, before.since, before.away)


@contextmanager
def opened(backup_dir: Path, *, create: bool) -> Iterator[Folder | None]:
    """Open the directory of it; None where it is not there. Raise as folder.opened() does."""
    path = backup_dir / "status"
    if not create and not path.is_dir():
        yield None
        return
    with folder.opened(path, create=create) as place:
        yield place


def read_awake(place: Folder) -> Awake | None:
    """Raise Unreadable, Newer or PermissionDenied."""
    return statefile.read(place, _AWAKE, Awake, f"remove it: rm '{place.path / _AWAKE}'")


def write_awake(place: Folder, awake: Awake) -> None:
    """Raise OSError."""
    statefile.write(place, _AWAKE, awake)


def read_probe(place: Folder) -> Probe | None:
    """Raise Unreadable, Newer or PermissionDenied."""
    return statefile.read(place, _COVERAGE, Probe, "look for the databases anew: backup-status.sh --probe")


def write_probe(place: Folder, probe: Probe) -> None:
    """Raise OSError."""
    statefile.write(place, _COVERAGE, probe)
