"""Where a recovery to a moment stops, found in WAL that is laid out here as PostgreSQL lays it out.

That real WAL is read alike is for test_recovery.py, with pg_waldump as the judge.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup.formats.cluster import wal_records
from pgbackup.formats.cluster.wal_records import Cut, Ending
from pgbackup.wal import Segment

_SEGMENT, _PAGE, _FIRST = 1 << 20, 8192, 3
_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)
_START = datetime(2024, 1, 15, 12, 0, tzinfo=timezone.utc)


@dataclass
class Log:
    """WAL from the beginning of segment _FIRST on. data: what is written so far. ends: what has ended."""

    data: bytearray = field(default_factory=bytearray)
    ends: list[Ending] = field(default_factory=list)

    @property
    def position(self) -> int:
        return _FIRST * _SEGMENT + len(self.data)

    def _page(self, rest: int, flags: int = 0) -> None:
        first = self.position % _SEGMENT == 0
        info = (1 if rest else 0) | (2 if first else 0) | flags
        self.data += struct.pack("<HHIQIxxxx", 0xD110, info, 1, self.position, rest)
        self.data += struct.pack("<QII", 7, _SEGMENT, _PAGE) if first else b""

    def record(self, kind: int, info: int, content: bytes, keep: int | None = None) -> int:
        """Write a record and return its position. keep: only so many bytes of it, for the server crashes."""
        if len(self.data) % _PAGE == 0:
            self._page(0)
        at, total = self.position, 24 + len(content)
        left = struct.pack("<IIQBBxxI", total, 1, 0, info, kind, 0) + content
        left = left[:keep] if keep else left + bytes(-total % 8)
        while left:
            room = _PAGE - len(self.data) % _PAGE
            if room == _PAGE:
                self._page(total - (total + -total % 8 - len(left)))
                continue
            self.data += left[:room]
            left = left[room:]
        return at

    def filler(self, size: int) -> None:
        self.record(10, 0, b"\xff\x10" + bytes(size))

    def end(self, when: datetime, info: int = 0, more: bytes = b"", extra: bytes = b"") -> None:
        """A transaction ends. more: block headers before its data. extra: what its record has besides the time."""
        content = ((when - _EPOCH) // timedelta(microseconds=1)).to_bytes(8, "little", signed=True) + extra
        head = bytes([255, len(content)]) if len(content) < 256 else b"\xfe" + len(content).to_bytes(4, "little")
        self.ends.append(Ending(self.record(1, info, more + head + content), when))

    def switch(self) -> None:
        self.record(0, 0x40, b"")
        self.data += bytes(-len(self.data) % _SEGMENT)

    def crash(self, size: int) -> None:
        """A record was begun on the last page, and never ended: the next page says so (PostgreSQL 14.2 and later)."""
        while len(self.data) % _PAGE < _PAGE - 4096:
            self.filler(64)
        self.record(10, 0, bytes(size), keep=_PAGE - len(self.data) % _PAGE)
        self._page(0, flags=8)

    def segments(self) -> list[bytes]:
        whole = bytes(self.data) + bytes(-len(self.data) % _SEGMENT)
        return [whole[at : at + _SEGMENT] for at in range(0, len(whole), _SEGMENT)]


def _cut(log: Log, until: datetime, guess: int = 0) -> Cut:
    segments = log.segments()
    path = [Segment(1, _FIRST + number) for number in range(len(segments))]
    return wal_records.cut(
        path, _SEGMENT, lambda each: segments[each.number - _FIRST], until, min(guess, len(path) - 1)
    )


def _expected(ends: Sequence[Ending], until: datetime) -> tuple[Ending | None, bool]:
    later = next((at for at, each in enumerate(ends) if each.time > until), None)
    before = ends[:later]
    return (before[-1] if before else None), later is not None


_SIZES = st.lists(st.integers(0, 30_000), min_size=1, max_size=120)


@given(_SIZES, st.integers(-1, 130), st.integers(0, 3))
def test_the_last_end_up_to_the_moment_is_found_wherever_pages_and_segments_cut_records(
    sizes: list[int], number: int, guess: int
) -> None:
    log = Log()
    for at, size in enumerate(sizes):
        log.filler(size)
        log.end(_START + timedelta(seconds=30 * at), extra=bytes(size % 700))
    until = _START + timedelta(seconds=30 * number)
    found = _cut(log, until, guess)
    assert (found.last, found.passed) == _expected(log.ends, until)


@pytest.mark.parametrize("info", [0x00, 0x20, 0x30, 0x40, 0x80, 0x90 & 0x8F])
def test_commits_and_aborts_of_transactions_prepared_or_not_are_ends(info: int) -> None:
    log = Log()
    log.end(_START, info, more=b"\xfd\x01\x00" + b"\xfc\x01\x00\x00\x00")
    assert _cut(log, _START).last == log.ends[0]


@pytest.mark.parametrize("info", [0x10, 0x50, 0x60])
def test_a_prepared_one_has_not_ended(info: int) -> None:
    log = Log()
    log.end(_START, info)
    assert _cut(log, _START) == Cut(None, False, log.position)


def test_one_that_is_longer_than_a_segment_is_passed_over() -> None:
    log = Log()
    log.end(_START)
    log.filler(3 * _SEGMENT)
    log.end(_START + timedelta(hours=1))
    log.end(_START + timedelta(hours=2))
    for guess in range(4):
        assert _cut(log, _START + timedelta(hours=1), guess).last == log.ends[1]
        assert _cut(log, _START + timedelta(minutes=1), guess).last == log.ends[0]


def test_a_segment_that_was_switched_early_leads_to_the_next_one() -> None:
    log = Log()
    log.end(_START)
    log.switch()
    log.end(_START + timedelta(hours=1))
    assert _cut(log, _START + timedelta(hours=1)).last == log.ends[1]


@pytest.mark.parametrize("size", [5000, 20_000])
def test_a_record_that_a_crash_has_cut_off_is_no_record(size: int) -> None:
    log = Log()
    log.end(_START)
    log.crash(size)
    log.end(_START + timedelta(seconds=1))
    assert _cut(log, _START + timedelta(seconds=1)).last == log.ends[1]


def test_where_wal_ends_is_told_also_in_the_middle_of_a_record() -> None:
    log = Log()
    log.end(_START)
    assert _cut(log, _START) == Cut(log.ends[0], False, log.position)
    log.filler(5000)
    log.record(1, 0, b"\xff\x08" + bytes(9000), keep=_PAGE - len(log.data) % _PAGE)
    found = _cut(log, _START + timedelta(days=9999))
    assert (found.last, found.passed) == (log.ends[0], False)
    assert found.end >= log.position


def test_commits_may_stand_in_another_order_than_their_times() -> None:
    """Only up to the first later one, as PostgreSQL itself stops; wherever the search began."""
    log = Log()
    for second in (0, 100, 200, 203, 201, 204):
        log.end(_START + timedelta(seconds=second))
        log.filler(300_000)
    for guess in range(3):
        assert _cut(log, _START + timedelta(seconds=202), guess).last == log.ends[2]


def test_what_is_no_wal_has_no_ends() -> None:
    for data in (b"", bytes(100), bytes(_SEGMENT), b"\xff" * _SEGMENT):
        assert wal_records.cut([Segment(1, _FIRST)], _SEGMENT, lambda _each: data, _START).last is None  # noqa: B023


@given(_SIZES, st.integers(0, 119), st.integers(-8, 8), st.integers(0, 3))
def test_the_record_that_ends_a_recovery_to_a_position_is_the_first_one_there_else_the_last_one_before(
    sizes: list[int], number: int, off: int, first: int
) -> None:
    log = Log()
    begins = [log.record(10, 0, b"\xff\x10" + bytes(size)) for size in sizes]
    segments = log.segments()
    path = [Segment(1, _FIRST + at) for at in range(len(segments))]
    for position in (begins[number % len(begins)] + off, log.position):
        within = min(first, position // _SEGMENT - _FIRST)
        found = wal_records.last(path, _SEGMENT, lambda each: segments[each.number - _FIRST], position, within)
        behind = [begin for begin in begins if begin >= position]
        assert found.record == (behind[0] if behind else begins[-1])
        assert behind or found.end >= log.position
