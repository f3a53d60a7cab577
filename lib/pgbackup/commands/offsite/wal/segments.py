"""What of an archive's WAL is to be copied: what is finished, and what has come into the unfinished segment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial

from pgbackup import wal
from pgbackup.commands.offsite.wal import deciding
from pgbackup.commands.offsite.wal.archives import Source
from pgbackup.commands.offsite.wal.lane import Item
from pgbackup.errors import BackupBad
from pgbackup.formats import wal_copies
from pgbackup.formats.cluster import timelines
from pgbackup.formats.gzipped import GZIP, LEVEL, deflate
from pgbackup.formats.wal_copies import Piece
from pgbackup.store.folder import Folder
from pgbackup.store.wal import archive, base_backups
from pgbackup.store.wal import segments as walfile
from pgbackup.wal import Segment

_LARGEST_PIECE = 64 << 20
_BLOCK_BYTES = 1 << 20
_FIRST_PAGE = 8192  # without it nobody can tell what it is


@dataclass(frozen=True)
class Here:
    """What lies in an archive. finished: histories, and segments that do not grow any more, by their names; unfinished:
    the one that grows, if any.
    """

    finished: dict[str, Segment | None]
    unfinished: Segment | None


def look(source: Source) -> Here:
    """Look once; files move from `receiving` to `wal` meanwhile, so that in this order none is missed."""
    finished: dict[str, Segment | None] = {}
    partial_ones: set[Segment] = set()
    size = source.state.segment_bytes
    for place in (source.places.receiving, source.places.wal):
        for name in place.list():
            plain = name.removesuffix(walfile.COMPRESSED)
            if segment := wal.parse_segment(plain, size):
                finished[plain] = segment
            elif timelines.parse_history_name(plain) is not None:
                finished[plain] = None
            elif part := wal.parse_segment(plain.removesuffix(wal.PARTIAL), size):
                if place is source.places.wal:  # nothing more comes into it: the receiver has begun anew
                    finished[plain] = part
                else:
                    partial_ones.add(part)
    newest = max(partial_ones, key=lambda one: (one.number, one.timeline), default=None)
    if newest and wal.segment_name(newest, size) in finished:  # while we looked
        newest = None
    return Here(finished, newest)


def finished(source: Source, here: Here, host: str, has: Callable[[str], bool]) -> list[Item]:
    """What is finished and not copied yet, in the order in which it goes. has: whether an object is there."""
    below = wal_copies.segments(host, source.directory, source.series)
    names = {f"{below}/{wal_copies.packed(name)}": name for name in here.finished}
    missing = {name: here.finished[name] for called, name in names.items() if not has(called)}
    if not missing:
        return []
    bases, _ = base_backups.listing(source.places.base, source.state.segment_bytes)
    begins = max((base.began.number for base, _ in bases.values()), default=None)
    ordered = deciding.ordered(missing, begins)
    return [
        Item(f"{below}/{wal_copies.packed(name)}", _bytes(source, name), partial(_packed, source, name))
        for name in ordered
    ]


def _bytes(source: Source, name: str) -> int:
    """About how much room its copy needs."""
    try:
        return source.places.wal.status(name + walfile.COMPRESSED).st_size
    except OSError:
        return source.state.segment_bytes // 2


def _packed(source: Source, name: str) -> Iterator[bytes]:
    """A segment or history file, compressed, once it has proven to be what its name says.

    Raise BackupBad, FileNotFoundError.
    """
    kept, coming = name + walfile.COMPRESSED, name
    for place, file in ((source.places.wal, kept), (source.places.receiving, coming), (source.places.wal, kept)):
        try:
            _check(source, place, file, name)
        except FileNotFoundError:
            continue
        if file == kept:
            yield from _raw(place, file)
        else:
            yield from _compressed(walfile.pieces(place, file))
        return
    raise FileNotFoundError(name)


def _check(source: Source, place: Folder, file: str, name: str) -> None:
    head, length = bytearray(), 0
    for piece in walfile.pieces(place, file):
        if len(head) < _BLOCK_BYTES:
            head += piece
        length += len(piece)
    if segment := wal.parse_segment(name.removesuffix(wal.PARTIAL), source.state.segment_bytes):
        walfile.check_header(bytes(head), segment, source.state.system, length)
    elif timeline := timelines.parse_history_name(name):
        try:
            timelines.history_of(timeline, bytes(head))
        except ValueError as error:
            raise BackupBad(f"it is damaged here: {error}") from None


def _raw(place: Folder, file: str) -> Iterator[bytes]:
    with open(place.open(file), "rb", buffering=0) as opened:  # noqa: PTH123  a descriptor, not a path
        yield from iter(lambda: opened.read(_BLOCK_BYTES), b"")


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    made = deflate.compressobj(LEVEL, deflate.DEFLATED, GZIP)
    for piece in pieces:
        yield bytes(made.compress(piece))
    yield bytes(made.flush())


def coming(source: Source, segment: Segment, begin: int, host: str) -> tuple[Item, Piece] | None:
    """What has been received of an unfinished segment since its byte `begin`; None for nothing, or hardly anything.

    Raise FileNotFoundError where it was finished in the meantime, OSError.
    """
    confirmed = archive.read_confirmed(source.places)  # before the file, which then has at least that
    name = wal.segment_name(segment, source.state.segment_bytes) + wal.PARTIAL
    first, size = segment.number * source.state.segment_bytes, source.state.segment_bytes
    # The last bytes that have come may be zeros, too.
    sure = min(confirmed.lsn - first, size) if confirmed and confirmed.lsn > first else 0
    end = min(max(_filled(source.places.receiving, name, begin), sure), begin + _LARGEST_PIECE)
    if end <= (begin or _FIRST_PAGE):
        return None
    # Once more: what lies before the last byte that was seen is written for good.
    data = _part(source.places.receiving, name, begin, end)
    if begin == 0:
        walfile.check_header(data, segment, source.state.system, source.state.segment_bytes)
    if confirmed and confirmed.lsn <= first + end:
        made = Piece(begin, end, confirmed.lsn, confirmed.time)
    else:
        made = Piece(begin, end, 0, datetime.now(timezone.utc))
    below = wal_copies.unfinished_of(host, source.directory, source.series, segment)
    content = partial(_compressed, [data])
    return Item(f"{below}/{wal_copies.piece(made)}", end - begin, content, passing=True), made


def _filled(place: Folder, name: str, begin: int) -> int:
    """Up to where an unfinished segment is written: pg_receivewal has filled it with zeros before."""
    end, at = begin, begin
    with open(place.open(name), "rb", buffering=0) as file:  # noqa: PTH123  a descriptor, not a path
        file.seek(begin)
        while block := file.read(_BLOCK_BYTES):
            if filled := len(block.rstrip(b"\0")):
                end = at + filled
            at += len(block)
    return end


def _part(place: Folder, name: str, begin: int, end: int) -> bytes:
    with open(place.open(name), "rb", buffering=0) as file:  # noqa: PTH123  a descriptor, not a path
        file.seek(begin)
        data = bytearray()
        while len(data) < end - begin and (block := file.read(end - begin - len(data))):
            data += block
    return bytes(data)
