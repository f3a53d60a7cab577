"""The names of backup files. Pure: `<database>_<YYYYmmdd_HHMMSS>.sql.gz`, local time, matched exactly."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from urllib.parse import unquote

SUFFIX = ".sql.gz"
_SAFE = frozenset(string.ascii_letters + string.digits + "_.-")
_STAMP = "%Y%m%d_%H%M%S"


@dataclass(frozen=True)
class Named:
    """What a file name says. taken: an instant in UTC, read as local time of this machine."""

    taken: datetime
    manual: bool


def stem(database: str) -> str:
    """Given a database's name, return it as it stands in file names.

    Letters, digits, `_`, `.` and `-` stay; every other byte, and a `.` or `-` in front, becomes %XX. So no name
    can be a path, an option or a hidden file, and different names never meet.
    """
    raw = database.encode("utf-8", "surrogateescape")
    text = "".join(chr(byte) if chr(byte) in _SAFE else f"%{byte:02X}" for byte in raw)
    return f"%{ord(text[0]):02X}{text[1:]}" if text[:1] in (".", "-") else text


def dated(database: str, when: datetime) -> str:
    """The file name of a backup begun at `when`, an instant in any zone."""
    return f"{stem(database)}_{when.astimezone():{_STAMP}}{SUFFIX}"


def latest(database: str) -> str:
    """The name of the link to the newest good backup."""
    return f"{stem(database)}_LATEST{SUFFIX}"


@lru_cache
def _pattern(database: str) -> re.Pattern[str]:
    return re.compile(re.escape(stem(database)) + r"_(manual_)?([0-9]{8})_([0-9]{6})" + re.escape(SUFFIX))


def parse(database: str, name: str) -> Named | None:
    """Return what `name` says if it is that of a backup of exactly this database, made by the suite or by hand."""
    found = _pattern(database).fullmatch(name)
    if not found:
        return None
    try:
        taken = _local(found[2], found[3]).astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return Named(taken, manual=bool(found[1]))


_ANY = re.compile(r"(.+?)_(?:manual_)?[0-9]{8}_[0-9]{6}" + re.escape(SUFFIX))


def database_in(name: str) -> str | None:
    """Return the database that a backup of this name is of, by its name alone; None for a name of no backup."""
    found = _ANY.fullmatch(name)
    database = unquote(found[1], errors="surrogateescape") if found else ""
    return database if database and parse(database, name) else None


def _local(day: str, time: str) -> datetime:
    """Given YYYYmmdd and HHMMSS, return the local time. By hand: strptime takes ten times as long."""
    parts = day[:4], day[4:6], day[6:], time[:2], time[2:4], time[4:]
    return datetime(*map(int, parts))  # type: ignore[arg-type]  # noqa: DTZ001  a name has no zone
