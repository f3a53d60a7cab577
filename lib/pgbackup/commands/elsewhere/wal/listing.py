"""What a place lists of base backups and WAL, sorted out by names alone: read as if a stranger had written them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pgbackup import wal
from pgbackup.errors import NoBackup
from pgbackup.formats import copies, wal_copies
from pgbackup.formats.cluster import timelines
from pgbackup.formats.wal_copies import Facts, Piece, Series
from pgbackup.remotes.place import CLOCKS_DIFFER, Object, Place
from pgbackup.wal import Segment

_OVERHEAD = 1 << 20  # of what does not compress, and of its encryption
_MANIFEST = "backup_manifest"
_TAR = ".tar.gz"


@dataclass(frozen=True)
class Base:
    """One base backup there. facts: by the name of its record; files: by their names, without what marks encryption."""

    facts: Facts
    record: Object
    files: Mapping[str, Object]


@dataclass
class Listed:
    """One series of an archive there. wrong: base backups that are none, and why. passed_over: objects of no use."""

    series: Series
    bases: dict[str, Base] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    segments: dict[Segment, Object] = field(default_factory=dict)
    histories: dict[int, Object] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """A part of an unfinished segment there."""

    piece: Piece
    found: Object


def series_of(host: str, directory: str, objects: Iterable[Object]) -> dict[Series, list[Object]]:
    """Given what lies below the base backups of an archive, return it by series, the newest series last. Pure.

    One that says it is newer than the place's own times of its objects was made up, and comes first.
    """
    found: dict[Series, list[Object]] = {}
    above = f"{wal_copies.bases(host, directory)}/"
    for one in objects:
        series = wal_copies.parse_series(one.name.removeprefix(above).partition("/")[0])
        if series:
            found.setdefault(series, []).append(one)

    def rank(series: Series) -> tuple[bool, datetime]:
        return series.since - min(one.modified for one in found[series]) <= CLOCKS_DIFFER, series.since

    return {series: found[series] for series in sorted(found, key=rank)}


def listed(host: str, directory: str, series: Series, bases: Iterable[Object], segments: Iterable[Object]) -> Listed:
    """Sort out what a place lists of one series. Pure."""
    found = Listed(series)
    _sort_bases(found, f"{wal_copies.bases(host, directory, series)}/", bases)
    above = f"{wal_copies.segments(host, directory, series)}/"
    for one in segments:
        name = wal_copies.unpacked(one.name.removeprefix(above))
        segment = wal.parse_segment(name, series.segment_bytes) if name else None
        timeline = timelines.parse_history_name(name) if name else None
        if one.bytes > series.segment_bytes + _OVERHEAD or (segment is None and timeline is None):
            found.passed_over.append(one.name)
        elif segment:
            found.segments[segment] = one
        elif timeline:
            found.histories[timeline] = one
    return found


def _sort_bases(found: Listed, above: str, objects: Iterable[Object]) -> None:
    files: dict[str, dict[str, Object]] = {}
    records: dict[str, list[tuple[Facts, Object]]] = {}
    for one in objects:
        base, _, file = one.name.removeprefix(above).partition("/")
        facts = wal_copies.parse_facts(file, found.series.segment_bytes)
        plain = copies.plain(file)
        if not one.name.startswith(above) or not wal_copies.is_base(base):
            found.passed_over.append(one.name)
        elif facts:
            records.setdefault(base, []).append((facts, one))
        elif plain == _MANIFEST or (plain.endswith(_TAR) and "/" not in plain):
            files.setdefault(base, {})[plain] = one
        else:
            found.passed_over.append(one.name)
    for base in sorted(records.keys() | files.keys()):
        known = records.get(base, [])
        if len(known) == 1 and _MANIFEST in files.get(base, {}):
            found.bases[base] = Base(*known[0], files[base])
        elif not known:
            found.wrong[base] = "its record is not there: it was not copied whole"
        else:
            found.wrong[base] = "it has several records" if len(known) > 1 else f"its {_MANIFEST} is not there"


def chain(parts: Sequence[Part]) -> list[Part]:
    """The fewest parts that lead furthest from their segment's first byte, each where the one before ends. Pure."""
    found: list[Part] = []
    ordered = sorted(parts, key=lambda part: (part.piece.begin, part.piece.end, part.found.name))
    at, end = 0, 0
    best: Part | None = None
    while at < len(ordered) or best:
        while at < len(ordered) and ordered[at].piece.begin <= end:
            if best is None or ordered[at].piece.end > best.piece.end:
                best = ordered[at]
            at += 1
        if best is None or best.piece.end <= end:
            break
        found.append(best)
        end, best = best.piece.end, None
    return found


def parts_of(place: Place, host: str, directory: str, series: Series, segment: Segment) -> list[Part]:
    """The parts of an unfinished segment that a place lists; those that cannot be are passed over."""
    above = wal_copies.unfinished_of(host, directory, series, segment)
    found = []
    for one in place.list(above):
        piece = wal_copies.parse_piece(one.name.removeprefix(f"{above}/"))
        if not piece or piece.end > series.segment_bytes or one.bytes > series.segment_bytes + _OVERHEAD:
            continue
        if piece.time - one.modified <= CLOCKS_DIFFER:
            found.append(Part(piece, one))
    return found


def chosen(known: Mapping[Series, object], asked: str | None, called: str, target: str) -> Series:
    """The series that was asked for by name, else the newest one. Raise NoBackup, naming those that are there. Pure."""
    names = {str(series): series for series in known}
    if asked is not None and asked in names:
        return names[asked]
    if not names or asked is not None:
        there = f"; of these there are: {', '.join(names)}" if names else ""
        what = f"no archive '{asked}'" if asked else "no base backup"
        raise NoBackup(
            f"there is {what} of '{target}' at '{called}'{there}",
            f"see what there is: restore-postgres.sh {target} --from {called} --list",
        )
    return list(known)[-1]
