"""What the last verification of a database's backups has found, beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pgbackup.formats import names
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile

_MOST, _LONGEST_TEXT = 200, 300


@dataclass(frozen=True)
class Verified:
    """at: when all that lay there had been read. good: how many were. bad: file to since when it is known
    to be bad, a blank and why.
    """

    at: datetime
    good: int
    bad: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for since in self.bad.values():
            statefile.instant(since.partition(" ")[0])


def after(before: Verified | None, at: datetime, good: int, problems: Mapping[str, str]) -> Verified:
    """What is known after one more verification. problems: file to why it is bad. Pure."""
    known = before.bad if before else {}
    since = {name: known[name].partition(" ")[0] if name in known else at.isoformat() for name in problems}
    bad = {name: f"{since[name]} {why[:_LONGEST_TEXT]}" for name, why in list(problems.items())[:_MOST]}
    return Verified(at, good, bad)


def _name(database: str) -> str:
    return f".{names.stem(database)}.verified.json"


def read(place: Folder, database: str) -> Verified | None:
    """Return what is known, None for nothing. Raise Unreadable, Newer or PermissionDenied."""
    remedy = f"remove it, and verify anew: rm '{place.path / _name(database)}'"
    return statefile.read(place, _name(database), Verified, remedy)


def write(place: Folder, database: str, verified: Verified) -> None:
    """Replace what is known. Raise OSError."""
    statefile.write(place, _name(database), verified)
