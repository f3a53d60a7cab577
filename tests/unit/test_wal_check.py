"""Up to where an unfinished segment holds WAL is known from its records, and nothing else is taken for one."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup.formats.cluster import wal_check

SIZE, PAGE, FIRST = 1 << 20, 8192, 5
POSITION = FIRST * SIZE


def segment(lengths: list[int], rest: int = 0) -> tuple[bytes, list[int]]:
    """A segment with records of these lengths, and where each begins; the last element is where they end."""
    stream, starts, before = bytearray(rest + (-rest) % 8), [], 0
    for length in lengths:
        starts.append(_lsn(len(stream)))
        body = random.Random(len(stream)).randbytes(length - 24)
        head = struct.pack("<IIQBBxx", length, 7, before, 0, 10)
        checksum = wal_check.crc32c(head, wal_check.crc32c(body))
        stream += head + checksum.to_bytes(4, "little") + body
        stream += bytes(-len(stream) % 8)
        before = starts[-1]
    made = bytearray()
    at = 0
    while at < len(stream):
        first = not made
        here = POSITION + len(made)
        left = max(0, rest - at)
        made += struct.pack("<HHIQI4x", 0xD110, 2 if first else 0, 1, here, left)
        made += struct.pack("<QII", 1, SIZE, PAGE) if first else b""
        room = PAGE - (40 if first else 24)
        made += stream[at : at + room]
        at += room
    return bytes(made).ljust(SIZE, b"\0"), [*starts, _lsn(len(stream))]


def _lsn(at: int) -> int:
    if at < PAGE - 40:
        return POSITION + 40 + at
    page, offset = divmod(at - (PAGE - 40), PAGE - 24)
    return POSITION + (page + 1) * PAGE + 24 + offset


def test_the_checksum_is_castagnolis() -> None:
    assert wal_check.crc32c(b"123456789") == 0xE3069283


@given(st.lists(st.integers(26, 20_000), min_size=1, max_size=12), st.integers(0, 9000), st.randoms())
def test_whole_records_count_wherever_it_is_cut(lengths: list[int], rest: int, chance: random.Random) -> None:
    data, starts = segment(lengths, rest)
    whole = wal_check.check(POSITION, data, starts[-1] - POSITION)
    assert whole.wrong == -1 and whole.lsn in (starts[-1], starts[-1] - 24)
    cut = chance.randrange(64, starts[-1] - POSITION)
    found = wal_check.check(POSITION, data[:cut].ljust(SIZE, b"\0"), cut)
    assert found.wrong == -1
    assert found.lsn <= max(POSITION + cut, starts[0]) + 24
    assert found.lsn >= max([one for one in starts if one <= POSITION + cut], default=0) - 24


@given(st.lists(st.integers(40, 20_000), min_size=2, max_size=12), st.randoms())
def test_a_changed_record_is_told_and_those_before_it_count(lengths: list[int], chance: random.Random) -> None:
    data, starts = segment(lengths)
    number = chance.randrange(len(lengths) - 1)
    changed = bytearray(data)
    changed[starts[number] - POSITION + 4] ^= 0x40
    found = wal_check.check(POSITION, bytes(changed), starts[-1] - POSITION)
    assert (found.lsn, found.wrong) == (starts[number], starts[number])


@pytest.mark.parametrize("junk", [random.Random(number).randbytes(4096) for number in range(4)] + [b"\xff" * 4096])
def test_what_is_no_wal_is_told(junk: bytes) -> None:
    data, starts = segment([100, 200, 300])
    end = starts[-1] - POSITION
    found = wal_check.check(POSITION, data[:end] + junk + data[end + len(junk) :], end + len(junk))
    assert (found.lsn, found.wrong) == (starts[-1], starts[-1])
