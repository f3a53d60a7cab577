"""What segments and timelines mean, and where a gap is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup import wal
from pgbackup.formats.cluster import timelines
from pgbackup.formats.cluster.timelines import Switch
from pgbackup.wal import Segment

_SIZES = [1 << 20, 16 << 20, 1 << 30]
_MIB16 = 16 << 20


@given(st.integers(0, (1 << 64) - 1))
def test_a_position_reads_back_as_it_was_written(lsn: int) -> None:
    assert wal.parse_lsn(wal.format_lsn(lsn)) == lsn


@pytest.mark.parametrize(("text", "lsn"), [("0/3018BE8", 0x3018BE8), ("1A/ff", (0x1A << 32) | 0xFF)])
def test_a_position_is_two_hexadecimal_halves(text: str, lsn: int) -> None:
    assert wal.parse_lsn(text) == lsn


@pytest.mark.parametrize("text", ["", "0", "0/", "/1", "g/0", "0/123456789", "0/1/2", "-1/0", "0x1/2"])
def test_anything_else_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="is not an LSN"):
        wal.parse_lsn(text)


@given(st.integers(1, (1 << 32) - 1), st.integers(0, 1 << 32), st.sampled_from(_SIZES))
def test_a_segment_is_found_by_its_name(timeline: int, number: int, size: int) -> None:
    number %= (1 << 64) // size
    segment = Segment(timeline, number)
    name = wal.segment_name(segment, size)
    assert wal.parse_segment(name, size) == segment
    assert wal.segment_at(number * size, timeline, size) == segment
    assert wal.segment_at(number * size + size - 1, timeline, size) == segment


def test_a_name_is_as_the_manual_has_it() -> None:
    # SELECT pg_walfile_name('2A/FE000028') says so on timeline 1
    assert wal.segment_name(wal.segment_at(wal.parse_lsn("2A/FE000028"), 1)) == "000000010000002A000000FE"


@pytest.mark.parametrize(
    "name",
    [
        "000000010000000000000001.partial", "000000010000000000000001.gz", "00000001.history",
        "00000000000000000000000A",
        "00000001000000000000000g", "000000010000000000000100", "0000000100000000000000001", "archive.json", "",
        "000000010000000000000002.00000028.backup",
    ],
)  # fmt: skip
def test_other_files_are_no_segments(name: str) -> None:
    assert wal.parse_segment(name) is None


def test_a_history_tells_every_switch() -> None:
    text = "1\t0/5000098\tno recovery target specified\n\n# a comment\n2\t0/7000000\tbefore 2024-01-15 13:37:00+03\n"
    assert timelines.parse_history(text) == (Switch(1, 0x5000098), Switch(2, 0x7000000))
    assert timelines.parse_history_name("0000001A.history") == 0x1A
    assert timelines.parse_history_name("000000010000000000000001") is None


@pytest.mark.parametrize(
    "text", ["x\t0/1\n", "1\n", "1\tnowhere\n", "2\t0/1\n1\t0/2\n", "1\t0/5\n2\t0/4\n", "1\t0/1\n1\t0/2\n"]
)
def test_a_damaged_history_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"history|LSN"):
        timelines.parse_history(text)


def _segments(timeline: int, *numbers: int) -> set[Segment]:
    return {Segment(timeline, number) for number in numbers}


def test_segments_reach_to_the_first_that_is_missing() -> None:
    present = _segments(1, 3, 4, 5, 7, 8)
    assert timelines.reach(Segment(1, 3), present) == Segment(1, 5)
    assert timelines.reach(Segment(1, 7), present) == Segment(1, 8)
    assert timelines.reach(Segment(1, 6), present) is None
    assert timelines.reach(Segment(2, 3), present) is None


@given(st.sets(st.integers(0, 30)), st.integers(0, 30))
def test_what_is_reached_is_there_and_what_follows_is_not(numbers: set[int], begun: int) -> None:
    found = timelines.reach(Segment(1, begun), _segments(1, *numbers))
    last = begun - 1 if found is None else found.number
    assert all(number in numbers for number in range(begun, last + 1))
    assert last + 1 not in numbers


# Timeline 2 leaves 1 in the middle of segment 5.
_SWITCH = (Switch(1, 5 * _MIB16 + 100),)


@pytest.mark.parametrize(
    ("present", "last"),
    [
        (_segments(1, 3, 4, 5) | _segments(2, 5, 6), Segment(2, 6)),
        (_segments(1, 3, 4) | _segments(2, 5, 6), Segment(2, 6)),
        (_segments(1, 3, 4, 5) | _segments(2, 6), Segment(2, 6)),
        (_segments(1, 3, 4, 5, 6, 7), Segment(1, 5)),  # what 1 went on with is another story
        (_segments(1, 3, 5) | _segments(2, 4, 5, 6), Segment(1, 3)),  # 2 has no segment 4 of its own
    ],
)
def test_a_switch_of_timelines_is_followed(present: set[Segment], last: Segment) -> None:
    assert timelines.reach(Segment(1, 3), present, _SWITCH, 2) == last


def test_a_switch_at_the_end_of_a_segment_needs_nothing_of_the_old_one_after_it() -> None:
    switches = (Switch(1, 5 * _MIB16),)
    assert timelines.reach(Segment(1, 4), _segments(1, 4) | _segments(2, 5), switches, 2) == Segment(2, 5)


def test_two_switches_in_one_segment() -> None:
    switches = (Switch(1, 5 * _MIB16 + 100), Switch(2, 5 * _MIB16 + 900))
    for owner in (1, 2, 3):
        present = _segments(1, 4) | _segments(owner, 5) | _segments(3, 6)
        assert timelines.reach(Segment(1, 4), present, switches, 3) == Segment(3, 6)


def test_recovery_follows_the_newest_heir() -> None:
    histories = {2: _SWITCH, 3: (Switch(1, 2 * _MIB16),), 4: (*_SWITCH, Switch(2, 9 * _MIB16))}
    assert timelines.newest_timeline(Segment(1, 3), {}) == 1
    assert timelines.newest_timeline(Segment(1, 3), histories) == 4
    # 3 left before the base began
    assert timelines.newest_timeline(Segment(1, 3), {2: histories[2], 3: histories[3]}) == 2
    assert timelines.newest_timeline(Segment(1, 6), histories) == 1
