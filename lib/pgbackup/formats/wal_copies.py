"""The names of copies of base backups and WAL at a place elsewhere, below the remote path. Pure.

`<host>/base/<dir>/<series>/<base>/<file>`, `<host>/wal/<dir>/<series>/<segment>.gz` and `<timeline>.history.gz`,
`<host>/unfinished/<dir>/<series>/<segment>/<from>-<to>.<lsn>.<stamp>.gz`; an encrypted one has `.age` behind its name.

A series is one archive of one cluster as one place has got it, `<system>-<MB of a segment>-<since>`: within it a name
never means two things. What can be recovered is to be seen from the names alone, without a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from pgbackup import wal
from pgbackup.formats.copies import ENCRYPTED
from pgbackup.wal import Segment

RECORD = ".json"
_GZIP = ".gz"
_STAMP = "%Y%m%dT%H%M%SZ"
_SERIES = re.compile(r"(\d{1,20})-(\d{1,4})-(\d{8}T\d{6}Z)")
_BASE = re.compile(r"\d{8}T\d{6}Z")
_FACTS = re.compile(r"([0-9A-F]{24})-([0-9A-F]{16})-(\d{8}T\d{6}Z)-(full|\d{8}T\d{6}Z)\.json")
_PIECE = re.compile(r"([0-9A-F]{8})-([0-9A-F]{8})\.([0-9A-F]{16})\.(\d{8}T\d{6}Z)\.gz")


@dataclass(frozen=True)
class Series:
    """system: the cluster's identifier. segment_bytes: of its WAL. since: when the first of it was copied."""

    system: int
    segment_bytes: int
    since: datetime

    def __str__(self) -> str:
        return f"{self.system}-{self.segment_bytes >> 20}-{self.since:{_STAMP}}"


@dataclass(frozen=True)
class Facts:
    """What the name of a base backup's record says, which is copied last: without it there is none.

    began, stop, ended, parent: as in store/wal/window.BaseBackup; ended in whole seconds, never too early.
    """

    began: Segment
    stop: int
    ended: datetime
    parent: str


@dataclass(frozen=True)
class Piece:
    """A part of an unfinished segment: its bytes from `begin` up to `end`, which is exclusive.

    lsn, time: at that instant, everything up to that position had been received, and is in what is copied up to `end`;
    0 where nothing was confirmed.
    """

    begin: int
    end: int
    lsn: int
    time: datetime


def parse_series(text: str) -> Series | None:
    """The series of that name, None for what is none."""
    found = _SERIES.fullmatch(text)
    since = _instant(found[3]) if found else None
    if not found or not since or int(found[2]) not in (1 << power for power in range(11)):
        return None
    return Series(int(found[1]), int(found[2]) << 20, since)


def bases(host: str, directory: str, series: Series | None = None) -> str:
    """Where the copies of a cluster's base backups lie."""
    return f"{host}/base/{directory}" + (f"/{series}" if series else "")


def segments(host: str, directory: str, series: Series | None = None) -> str:
    """Where the copies of finished segments and of histories lie."""
    return f"{host}/wal/{directory}" + (f"/{series}" if series else "")


def unfinished(host: str, directory: str) -> str:
    """Where the parts of segments that are not finished lie."""
    return f"{host}/unfinished/{directory}"


def unfinished_of(host: str, directory: str, series: Series, segment: Segment) -> str:
    """Where the parts of one such segment lie."""
    return f"{unfinished(host, directory)}/{series}/{wal.segment_name(segment, series.segment_bytes)}"


def facts(began: Segment, segment_bytes: int, stop: int, ended: datetime, parent: str) -> str:
    """The name of a base backup's record."""
    late = ended.astimezone(timezone.utc) + timedelta(seconds=1) * bool(ended.microsecond)
    return f"{wal.segment_name(began, segment_bytes)}-{stop:016X}-{late:{_STAMP}}-{parent or 'full'}{RECORD}"


def parse_facts(name: str, segment_bytes: int) -> Facts | None:
    """What that name says; None for any other file of a base backup."""
    found = _FACTS.fullmatch(name.removesuffix(ENCRYPTED))
    began = wal.parse_segment(found[1], segment_bytes) if found else None
    ended = _instant(found[3]) if found else None
    if not found or not began or not ended:
        return None
    return Facts(began, int(found[2], 16), ended, "" if found[4] == "full" else found[4])


def is_base(name: str) -> bool:
    """Whether a directory of that name may be a base backup's."""
    return bool(_BASE.fullmatch(name)) and _instant(name) is not None


def packed(name: str) -> str:
    """The last part of the name of a segment's or history's copy, but for its encryption."""
    return name + _GZIP


def unpacked(name: str) -> str | None:
    """Given the last part of an object's name, return that of the segment or history; None for what is not packed."""
    plain = name.removesuffix(ENCRYPTED)
    return plain.removesuffix(_GZIP) if plain.endswith(_GZIP) else None


def piece(one: Piece) -> str:
    """The last part of the name of a piece, but for its encryption."""
    return f"{one.begin:08X}-{one.end:08X}.{one.lsn:016X}.{one.time:{_STAMP}}{_GZIP}"


def parse_piece(name: str) -> Piece | None:
    """The piece that an object of that name holds, None for what is none."""
    found = _PIECE.fullmatch(name.removesuffix(ENCRYPTED))
    time = _instant(found[4]) if found else None
    if not found or not time or int(found[1], 16) >= int(found[2], 16):
        return None
    return Piece(int(found[1], 16), int(found[2], 16), int(found[3], 16), time)


def _instant(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _STAMP).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
