"""When transactions ended, as WAL itself has it: where a recovery to a moment has to stop. Pure.

A recovery to a time stops at the first later end of a transaction, and by then all has been replayed that is no part of
one: the files of a dropped database are gone. So the position is needed behind the last end that is not later.

WAL is a stream of records, cut into pages with a header each (access/xlog_internal.h, XLogPageHeaderData; xlogrecord.h,
XLogRecord; xact.h, xl_xact_commit), as little-endian machines write it. What is read here is alike since 9.5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from pgbackup.wal import Segment

_CHUNK_PAGES = 128
_LONG_PAGE = struct.Struct("<HHIQIxxxxQII")
_PAGE = struct.Struct("<HHIQI")  # xlp_magic, xlp_info, xlp_tli, xlp_pageaddr, xlp_rem_len
_PAGE_BYTES, _LONG_BYTES = 24, 40
_IS_LONG, _OVERWRITES = 0x0002, 0x0008
_RECORD_BYTES = 24  # xl_tot_len is at 0, xl_info at 16, xl_rmid at 17
_OF_WAL, _OF_TRANSACTIONS = 0, 1
_SWITCH = 0x40
_ENDS = {0x00, 0x20, 0x30, 0x40}  # COMMIT, ABORT, COMMIT PREPARED, ROLLBACK PREPARED
_FURTHER = {253: 3, 252: 5}  # origin, transaction that this one is a part of: bytes
_DATA = {255: 2, 254: 5}  # short, long
_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)
# Commits stand in WAL nearly in the order of their times; a clock that was set back by more is nobody's moment.
_DISORDER = timedelta(minutes=1)


@dataclass(frozen=True)
class Ending:
    """A transaction has ended. lsn: of the first byte of the record. time: by the server's clock."""

    lsn: int
    time: datetime


@dataclass(frozen=True)
class Cut:
    """Where to stop for a moment. last: the last end of a transaction up to it, before the first later one; None where
    there is none. passed: there is a later one. end: how far WAL was read.
    """

    last: Ending | None
    passed: bool
    end: int


def cut(
    path: Sequence[Segment],
    segment_bytes: int,
    read: Callable[[Segment], bytes],
    until: datetime,
    guess: int = 0,
) -> Cut:
    """Find where to stop for the moment `until`. path: segments that follow each other. read: gives one's content.

    guess: the index of a segment not far from it, so that not all of them need be read. Raise what `read` raises.
    """
    first = guess
    while first > 0:
        ending = next(_Reader().endings(path[first].number * segment_bytes, read(path[first])), None)
        if ending and ending.time <= until - _DISORDER:
            break
        first -= 1
    reader, last = _Reader(), None
    for segment in path[first:]:
        for ending in reader.endings(segment.number * segment_bytes, read(segment)):
            if ending.time > until:
                return Cut(last, True, reader.end)
            last = ending
        if reader.over:
            break
    return Cut(last, False, reader.end)


@dataclass(frozen=True)
class Last:
    """Where to stop for a position. record: the first one that begins there or behind it, else the last one before it;
    None where there is none. end: how far WAL was read.
    """

    record: int | None
    end: int


def last(
    path: Sequence[Segment], segment_bytes: int, read: Callable[[Segment], bytes], position: int, first: int = 0
) -> Last:
    """Find where to stop for `position`. path, read: as for cut(). first: the index of the segment that it lies in.

    A server that is to stop at a position waits for a record that begins there or behind it (xlogrecovery.c,
    recoveryStopsAfter). In an idle database there is none. Raise what `read` raises.
    """
    for begin in range(min(first, len(path) - 1), -1, -1):
        reader, found = _Reader(), None
        for segment in path[begin:]:
            for found, _ in reader.records(segment.number * segment_bytes, read(segment)):
                if found >= position:
                    return Last(found, reader.end)
            if reader.over:
                break
        if found is not None:
            return Last(found, reader.end)
    return Last(None, 0)


class _Reader:
    """Reads segments that follow each other. end: how far there is WAL. over: it has met the end of all WAL."""

    def __init__(self) -> None:
        self.end, self.over = 0, False
        self._begun, self._begun_at = b"", 0  # a record of which only the beginning was read
        self._switched = False

    def endings(self, position: int, content: bytes) -> Iterator[Ending]:
        """Yield what has ended. position: of the first byte of `content`, a segment or the first pages of one."""
        for lsn, record in self.records(position, content):
            if record:
                yield from _ending(lsn, record)

    def records(self, position: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield where each whole record begins, and those of transactions themselves. position: as for endings()."""
        page_bytes = _LONG_PAGE.unpack_from(content)[7] if len(content) >= _LONG_PAGE.size else 0
        step = _CHUNK_PAGES * page_bytes
        self.over = not step
        for at in range(0, len(content) if step else 0, step or 1):
            yield from self._chunk(position + at, content[at : at + step], page_bytes)
            if self._switched:  # nothing more is in this segment
                self.end, self._switched, self.over = position + len(content), False, False
                return
            if self.over:
                return

    def _chunk(self, position: int, data: bytes, page_bytes: int) -> Iterator[tuple[int, bytes]]:
        pages = Pages(position, data, page_bytes)
        self.over = pages.cut
        stream, at = pages.stream, 0
        begun, self._begun = self._begun, b""
        if begun and pages.rest:
            needed = int.from_bytes(begun[:4], "little") - len(begun)
            begun += stream[:needed]
            if len(stream) < needed:
                self._begun, self.end = begun, pages.lsn(len(stream))
                return
            yield self._begun_at, begun if begun[17] == _OF_TRANSACTIONS else b""
        if pages.rest:
            at = aligned(pages.rest)
        for limit in [*pages.restarts, len(stream)]:
            while at < limit:
                total = int.from_bytes(stream[at : at + 4], "little")
                if total < _RECORD_BYTES:
                    self.over, self.end = True, pages.lsn(at)
                    return
                if at + total > limit:
                    break
                of_transactions = stream[at + 17] == _OF_TRANSACTIONS
                yield pages.lsn(at), stream[at : at + total] if of_transactions else b""
                if stream[at + 17] == _OF_WAL and stream[at + 16] & 0xF0 == _SWITCH:
                    self._switched = True
                    return
                at = aligned(at + total)
            if limit < len(stream):
                at = limit  # the record before it was never finished, for the server crashed
        self._begun, self._begun_at, self.end = stream[at:], pages.lsn(at), pages.lsn(len(stream))


class Pages:
    """Pages without their headers. stream: what is in them; it ends before a page that is not of this place, which sets
    `cut`. rest: how much of it belongs to a record that began before. restarts: where in `stream` records begin anew.
    """

    def __init__(self, position: int, data: bytes, page_bytes: int) -> None:
        parts: list[bytes] = []
        self._position, self._page_bytes, self._first, self.rest, length = position, page_bytes, 0, 0, 0
        self.cut, self.restarts = not data, list[int]()
        for at in range(0, len(data), page_bytes or 1):
            if at + page_bytes > len(data):
                self.cut = True
                break
            _magic, info, _timeline, address, rest = _PAGE.unpack_from(data, at)
            if address != position + at:
                self.cut = True
                break
            header = _LONG_BYTES if info & _IS_LONG else _PAGE_BYTES
            if at == 0:
                self._first, self.rest = page_bytes - header, rest
            elif info & _OVERWRITES:
                self.restarts.append(length)
            parts.append(data[at + header : at + page_bytes])
            length += page_bytes - header
        self.stream = b"".join(parts)

    def lsn(self, at: int) -> int:
        """The position of a byte of the stream."""
        if at < self._first or not self._first:
            return self._position + (self._page_bytes - self._first if self._first else 0) + at
        page, offset = divmod(at - self._first, self._page_bytes - _PAGE_BYTES)
        return self._position + (page + 1) * self._page_bytes + _PAGE_BYTES + offset


def pages_of(position: int, content: bytes) -> Pages:
    """Given the position of a segment's first byte and its content, return what is in its pages."""
    return Pages(position, content, _LONG_PAGE.unpack_from(content)[7] if len(content) >= _LONG_PAGE.size else 0)


def aligned(at: int) -> int:
    """Where the next record begins, if the one before has ended at `at`."""
    return (at + 7) & ~7


def _ending(lsn: int, record: bytes) -> Iterator[Ending]:
    """What a whole record of any kind says of the end of a transaction."""
    if record[17] != _OF_TRANSACTIONS or record[16] & 0x70 not in _ENDS:
        return
    at = _RECORD_BYTES
    while at < len(record) and record[at] in _FURTHER:
        at += _FURTHER[record[at]]
    if at < len(record) and record[at] in _DATA:
        at += _DATA[record[at]]
        if at + 8 <= len(record):
            microseconds = int.from_bytes(record[at : at + 8], "little", signed=True)
            yield Ending(lsn, _EPOCH + timedelta(microseconds=microseconds))
