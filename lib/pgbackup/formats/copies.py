"""The names of copies at a place elsewhere, below the remote path. Pure.

`<host>/dumps/<dir>/<file>`, `<host>/globals/<dir>/<YYYYmmdd_HHMMSS>.sql`, `<host>/settings/<YYYYmmdd_HHMMSS>.env`; an
encrypted one has `.age` behind its name. <host> is OFFSITE_HOST, <dir> a database's directory in BACKUP_DIR.
`<host>/index/<key>/<stream>-<number>.jsonl`: parts of the index of what was copied, never encrypted.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from pgbackup.formats import names
from pgbackup.formats.manifest import Manifest

ENCRYPTED = ".age"
_PART = re.compile(r"([a-z]+)-([0-9]{6})\.jsonl")
_GLOBALS = re.compile(r"[0-9]{8}_[0-9]{6}\.sql(\.age)?")
# The clocks of a host and of a place may differ, and a name is local time, of which the zone is not known.
_AHEAD = timedelta(hours=15)
# A name that was taken moves a backup's by up to an hour, and summer time by another one.
_OFF = timedelta(hours=2, minutes=5)


def dumps(host: str, directory: str) -> str:
    """Where the copies of a database's backups lie."""
    return f"{host}/dumps/{directory}"


def all_dumps(host: str) -> str:
    """Where the copies of all backups of a host lie."""
    return f"{host}/dumps"


def dump(host: str, directory: str, file: str, *, encrypted: bool) -> str:
    """The object that a backup file becomes."""
    return f"{dumps(host, directory)}/{file}{ENCRYPTED if encrypted else ''}"


def globals_of(host: str, directory: str) -> str:
    """Where the copies of the globals of a database's cluster lie."""
    return f"{host}/globals/{directory}"


def settings(host: str) -> str:
    """Where the copies of `.env` lie."""
    return f"{host}/settings"


def index_of(host: str, key: str) -> str:
    """Where the parts of the index lie that were signed with a key. key: as in its short name."""
    return f"{host}/index/{key}"


def index_part(host: str, key: str, stream: str, number: int) -> str:
    """The object of one part of the index."""
    return f"{index_of(host, key)}/{stream}-{number:06d}.jsonl"


def part_number(stream: str, name: str) -> int | None:
    """Given an object's name, return the number of the part of that stream's index; None where it is none."""
    found = _PART.fullmatch(name.rpartition("/")[2])
    return int(found[2]) if found and found[1] == stream else None


def plain(name: str) -> str:
    """The name of a copy without what stands for its encryption."""
    return name.removesuffix(ENCRYPTED)


def file_in(under: str, name: str) -> str | None:
    """Given an object's name, return that of the file it is a copy of, if it lies right in the directory `under`."""
    head, _, file = name.rpartition("/")
    return plain(file) if head == under and file else None


def is_globals(name: str) -> bool:
    """Whether an object's last part is the name of globals."""
    return bool(_GLOBALS.fullmatch(name.rpartition("/")[2]))


def implausible(said: names.Named, arrived: datetime) -> str:
    """Why a copy of that name cannot be what it is called, by the place's own clock; "" where it may be.

    A name that is later than the object's arrival was made up: to be taken for the newest.
    """
    if said.taken - arrived > _AHEAD:
        return f"its name is of {said.taken:%Y-%m-%d}, but it was there on {arrived:%Y-%m-%d} already"
    return ""


def exchanged(file: str, database: str, held: Manifest) -> str:
    """Why a file is not the one that its name promises: another backup lies under it. "" where it may be the one."""
    if held.database != database:
        return f"it is a backup of '{held.database}'"
    said = names.parse(database, file)
    zone = str(held.raw.get("time_zone") or "").rpartition(" ")[2]
    if said is None or not re.fullmatch(r"[+-][0-9]{4}", zone):
        return ""
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:])) * (-1 if zone[0] == "-" else 1)
    stamp = file.removesuffix(names.SUFFIX)[-len("20240115_020000") :]
    called = datetime.strptime(f"{stamp}+0000", "%Y%m%d_%H%M%S%z") - offset
    if abs(called - held.started) > _OFF:
        return f"it holds the backup of {held.started + offset:%Y-%m-%d %H:%M:%S}"
    return ""
