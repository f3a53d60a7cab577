"""Which backups are read anew tonight: each in time, in portions that are equal."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pgbackup.store.reproving import File, tonight

NOW = datetime(2026, 3, 1, 2, tzinfo=timezone.utc)
DAY = timedelta(days=1)
LONG = 36500


def file(name: object, taken: float, proven: float | None, size: int = 100) -> File:
    return File(str(name), size, NOW - taken * DAY, None if proven is None else NOW - proven * DAY)


def test_a_hundredth_night_reads_one_file_and_it_is_the_one_whose_time_has_come() -> None:
    """Fourteen days of backups, each proven when it was made and a week later."""
    files = [file(age, age, age if age < 7 else age - 7 if age > 7 else 7) for age in range(14)]
    assert tonight(files, NOW, 7, 14) == ["7"]


def test_files_that_all_were_read_in_one_night_are_spread_over_the_next_ones() -> None:
    files = [file(number, 30 + number, 1.0) for number in range(14)]
    assert len(tonight(files, NOW, 7, LONG)) == 2


def test_what_can_wait_waits() -> None:
    assert tonight([file("alone", 0.01, 0.005)], NOW, 7, LONG) == []
    assert tonight([file(number, 30, 2.0) for number in range(4)], NOW, 7, LONG) == []
    assert tonight([file("due", 30, 6.9)], NOW, 7, LONG) == ["due"]


def test_of_what_nothing_is_known_all_is_read_the_oldest_first() -> None:
    files = [*(file(number, 30 + number, None) for number in range(3)), file("known", 40, 1.0)]
    assert tonight(files, NOW, 7, LONG) == ["2", "1", "0"]


def test_the_large_ones_make_portions_of_bytes() -> None:
    files = [file("large", 30, 3.0, 700), *(file(number, 30, 3.1) for number in range(7))]
    assert tonight(files, NOW + 2 * DAY, 7, LONG) == []
    assert tonight(files, NOW + 3 * DAY, 7, LONG) == [str(number) for number in range(7)], "the large one has its own"


def test_a_second_run_in_one_night_reads_no_second_portion() -> None:
    files = [file(number, 30 + number, 0.05 if number < 2 else 1.05) for number in range(14)]
    assert tonight(files, NOW, 7, LONG) == []


def test_what_has_waited_too_long_is_read_at_once() -> None:
    files = [file(number, 30, 9.0) for number in range(5)]
    assert len(tonight(files, NOW, 7, LONG)) == 5


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 40), st.integers(1, 60), st.randoms(use_true_random=False))
def test_over_many_nights_each_is_read_in_time_and_no_night_reads_much_more_than_its_part(
    days: int, count: int, retention: int, chance: random.Random
) -> None:
    """Nights begin up to half an hour early or late; one file is added each night; what is too old goes."""
    files = {
        str(n): (NOW - n * DAY, None if chance.random() < 0.3 else NOW - chance.random() * days * DAY)
        for n in range(count)
    }
    for night in range(3 * days + 3):
        now = NOW + night * DAY + timedelta(minutes=chance.uniform(-30, 30))
        files = {name: found for name, found in files.items() if now - found[0] <= retention * DAY}
        known = [File(name, 1, taken, proven) for name, (taken, proven) in files.items()]
        chosen = tonight(known, now, days, retention)
        assert chosen == sorted(set(chosen), key=chosen.index)
        if night > days:
            assert len(chosen) <= len(files) / days + 3
        for name in chosen:
            files[name] = files[name][0], now
        for name, (_taken, proven) in files.items():
            assert proven is not None and now - proven < (days + 0.6) * DAY, (name, night)
        files[f"new {night}"] = now, now


@pytest.mark.parametrize("days", [1, 7])
def test_of_ten_thousand_a_part_is_chosen(days: int) -> None:
    files = [file(number, number / 2, 1 + number % days) for number in range(10_000)]
    assert 10_000 // days <= len(tonight(files, NOW, days, LONG)) <= 10_000 // days + 2
