"""Which moments can be recovered, from where; and that nothing of the last days is thrown away."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st
from pgbackup import wal
from pgbackup.formats.cluster.timelines import Switch
from pgbackup.store.wal import window
from pgbackup.store.wal.window import BaseBackup, Confirmed
from pgbackup.wal import Segment

_SIZE = wal.SEGMENT_BYTES
_START = datetime(2024, 1, 1, 2, tzinfo=timezone.utc)
_HOUR = timedelta(hours=1)
NOW = _START + 100 * _HOUR


def _base(number: int, parent: str = "", timeline: int = 1) -> BaseBackup:
    """One that was taken in segment `number`, which took an hour like every other one."""
    ended = _START + number * _HOUR
    return BaseBackup(f"base{number}", Segment(timeline, number), number * _SIZE + 300, ended, parent)


def _times(*numbers: int, timeline: int = 1) -> dict[Segment, datetime]:
    return {Segment(timeline, number): _START + (number + 1) * _HOUR for number in numbers}


def test_one_window_from_the_first_base_to_what_is_confirmed() -> None:
    confirmed = Confirmed(_START + 9.5 * _HOUR, 9 * _SIZE + 4000)
    (found,) = window.windows([_base(6), _base(3)], _times(*range(3, 10)), {}, confirmed)
    assert [base.name for base in found.bases] == ["base3", "base6"]
    assert (found.since, found.until, found.lsn) == (_START + 3 * _HOUR, confirmed.time, confirmed.lsn)
    assert found.current
    assert found.last == Segment(1, 9)


def test_an_idle_database_stays_recoverable_up_to_now() -> None:
    """Nothing was written for days, and the receiver has confirmed that there was nothing."""
    confirmed = Confirmed(NOW, 9 * _SIZE)
    (found,) = window.windows([_base(3)], _times(*range(3, 9)), {}, confirmed)
    assert found.until == NOW
    assert window.base_at([found], NOW) == (found, _base(3))


def test_without_a_confirmation_it_ends_with_the_last_segment() -> None:
    (found,) = window.windows([_base(3)], _times(*range(3, 9)), {}, None)
    assert (found.until, found.lsn, found.current) == (_START + 9 * _HOUR, 9 * _SIZE, False)


def test_a_confirmation_from_before_a_gap_says_nothing_of_what_comes_after_it() -> None:
    first, second = window.windows(
        [_base(1), _base(6)], _times(1, 2, 3, 6, 7), {}, Confirmed(_START + 3.5 * _HOUR, 3 * _SIZE + 9)
    )
    assert first.current
    assert not second.current


def test_a_gap_parts_two_windows_and_no_moment_in_it_is_offered() -> None:
    found = window.windows([_base(1), _base(6)], _times(1, 2, 3, 5, 6, 7), {}, None)
    assert [(each.since, each.until) for each in found] == [
        (_START + _HOUR, _START + 4 * _HOUR),
        (_START + 6 * _HOUR, _START + 8 * _HOUR),
    ]
    for hour, expected in (
        (0.9, None),
        (1, "base1"),
        (4, "base1"),
        (4.1, None),
        (5.9, None),
        (6, "base6"),
        (8.1, None),
    ):
        at = window.base_at(found, _START + hour * _HOUR)
        assert (at[1].name if at else None) == expected


def test_a_base_whose_own_wal_is_not_there_opens_no_window() -> None:
    long_one = BaseBackup("long", Segment(1, 3), 5 * _SIZE + 1, _START + 6 * _HOUR)
    assert window.windows([long_one], _times(3, 4), {}, None) == []
    assert window.windows([long_one], _times(4, 5, 6), {}, None) == []
    assert len(window.windows([long_one], _times(3, 4, 5), {}, None)) == 1


def test_an_incremental_base_without_its_parents_opens_no_window() -> None:
    times = _times(*range(1, 9))
    assert window.windows([_base(3, "base2"), _base(2, "base1")], times, {}, None) == []
    (found,) = window.windows([_base(3, "base2"), _base(2, "base1"), _base(1)], times, {}, None)
    assert len(found.bases) == 3


def test_a_switch_of_timelines_is_no_gap() -> None:
    times = {**_times(1, 2, 3), **_times(3, 4, timeline=2)}
    (found,) = window.windows([_base(1)], times, {2: (Switch(1, 3 * _SIZE + 70),)}, None)
    assert found.last == Segment(2, 4)


def test_a_position_is_recovered_from_the_newest_base_before_it() -> None:
    found = window.windows([_base(1), _base(3)], _times(1, 2, 3, 4), {}, None)
    for lsn, expected in (
        (_SIZE + 299, None), (_SIZE + 300, "base1"), (3 * _SIZE + 299, "base1"),
        (3 * _SIZE + 300, "base3"), (5 * _SIZE, "base3"), (5 * _SIZE + 1, None),
    ):  # fmt: skip
        at = window.base_before(found, lsn)
        assert (at[1].name if at else None) == expected


@given(st.sets(st.integers(0, 130), min_size=1), st.integers(1, 4))
def test_every_moment_of_the_last_days_that_could_be_recovered_still_can(numbers: set[int], days: int) -> None:
    bases = [_base(number) for number in sorted(numbers)]
    gone = window.expired(bases, days, NOW)
    kept = [base for base in bases if base not in gone]
    times = _times(*range(150))
    for segment in window.unneeded(sorted(times), kept):
        del times[segment]
    before, after = (window.windows(of, _times(*range(150)), {}, None) for of in (bases, kept))
    assert kept
    assert bases[-1] in kept
    assert len(window.windows(kept, times, {}, None)[0].bases) == len(kept)
    moment = NOW - timedelta(days=days)
    while moment <= NOW:
        assert (window.base_at(after, moment) is None) == (window.base_at(before, moment) is None)
        moment += _HOUR
    # And no more than that is kept: at most one base is older than the last days.
    assert len([base for base in kept if base.ended <= NOW - timedelta(days=days)]) <= 1


def test_what_an_incremental_base_builds_upon_stays_with_it() -> None:
    bases = [_base(1), _base(2, "base1"), _base(3, "base2"), _base(40), _base(60), _base(90, "base40")]
    assert [base.name for base in window.expired(bases, 2, NOW)] == ["base1", "base2", "base3"]
    assert window.expired([_base(1), _base(90, "base1")], 2, NOW) == []


def test_the_last_base_stays_whatever_its_age() -> None:
    assert window.expired([_base(1)], 1, NOW + 1000 * _HOUR) == []
    assert window.expired([], 1, NOW) == []
    assert window.unneeded([Segment(1, 1)], []) == []


def test_segments_go_by_their_number_on_every_timeline() -> None:
    segments = [Segment(1, 4), Segment(2, 3), Segment(1, 5), Segment(2, 5), Segment(3, 4)]
    assert window.unneeded(segments, [_base(5), _base(9)]) == [Segment(1, 4), Segment(2, 3), Segment(3, 4)]


def test_behind_an_unfinished_segment_is_a_gap_even_if_the_next_one_is_there() -> None:
    """The slot was dropped in the middle of segment 3, and made anew when the server had come to segment 4."""
    first, second = window.windows(
        [_base(1), _base(4)], _times(1, 2, 3, 4, 5), {}, None, unfinished={Segment(1, 3), Segment(1, 5)}
    )
    assert (first.last, second.last) == (Segment(1, 3), Segment(1, 5))
    assert window.base_at([first, second], _START + 4 * _HOUR + timedelta(minutes=1)) == (second, _base(4))


class _Counting(dict[Segment, datetime]):
    """Counts how often it is asked for a segment."""

    asked = 0

    def __contains__(self, key: object) -> bool:
        self.asked += 1
        return super().__contains__(key)


def test_the_work_of_finding_windows_does_not_grow_with_bases_times_segments() -> None:
    asked = []
    for bases in (1, 50):
        times = _Counting(_times(*range(3, 3003)))
        (found,) = window.windows([_base(3 + number * 50) for number in range(bases)], times, {}, None)
        assert len(found.bases) == bases
        asked.append(times.asked)
    assert asked[1] < asked[0] * 1.1, f"{asked} questions"
