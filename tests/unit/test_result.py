"""What people read: sizes, ages and tables."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup.report import result


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (354_012_345, "354 MB"),
        (2 * 10**12, "2.0 TB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_a_size_has_two_or_three_digits_and_its_unit(count: int, text: str) -> None:
    assert result.size(count) == text


@given(st.integers(0, 10**16), st.integers(0, 10**16))
def test_a_larger_size_never_reads_smaller(one: int, other: int) -> None:
    units = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

    def value(text: str) -> float:
        number, unit = text.split()
        return float(number) * units[unit]

    low, high = sorted((one, other))
    assert value(result.size(low)) <= value(result.size(high))


@pytest.mark.parametrize(
    ("seconds", "text"), [(12, "12 s"), (2100, "35 min"), (18720, "5.2 h"), (172_800, "2.0 d"), (86400 * 12, "12.0 d")]
)
def test_an_age_is_told_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert result.age(seconds) == text


def test_an_instant_is_utc_to_the_second() -> None:
    moment = datetime(2024, 1, 15, 5, 0, 0, 999, tzinfo=timezone(timedelta(hours=3)))
    assert result.instant(moment) == "2024-01-15T02:00:00Z"


@given(st.lists(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), min_size=1), min_size=1))
def test_a_table_shows_its_cells_as_they_are_one_row_a_line(cells: list[str]) -> None:
    lines = result.table(["head", "mark"], [[cell, "|"] for cell in cells])
    assert len(lines) == len(cells) + 1
    assert [line.rsplit("|", 1)[0].rstrip() for line in lines[1:]] == [cell.rstrip() for cell in cells]


def test_a_long_line_is_not_broken() -> None:
    assert len(result.table(["head"], [["x" * 5000]])) == 2
