"""docs/promises.md and the tests speak of the same faults: by number, and by words where a test has them as text."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.faults import Use

TESTS = Path(__file__).resolve().parents[1]
PAGE = faults.PAGE.read_text(encoding="utf-8")


@cache
def named() -> list[Use]:
    """What the tests name: when it is asked for, as each process that runs tests reads this file."""
    return list(faults.uses(TESTS))


def test_page_and_tests_have_the_same_rows_in_the_same_words() -> None:
    assert faults.differences(PAGE, named()) == []


def test_all_promises_are_made_and_rows_name_the_most_of_them() -> None:
    assert "".join(faults.promises(PAGE)) == "ABCDEFGHIJKLMNO"
    assert {letter for row in faults.rows(PAGE) for letter in row.promises} >= set("ABCDEFGHIMNO")


def test_every_way_to_name_a_row_is_seen(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(
        '@pytest.mark.fault(1, "a")\n'
        "def test_a(expected, survived):\n"
        '    expected(2, f"b {kind}", 1)\n'
        "    survived(3, fault)\n"
        '    note(expected, survived, 4, "d", 1, [])\n'
        "    expected(row, fault, 5)\n"
        "    other(6, fault)\n"
        'pytestmark = pytest.mark.fault(7, "g")\n'
    )
    found = sorted((use.number, use.words) for use in faults.uses(tmp_path))
    assert found == [(1, "a"), (2, None), (3, None), (4, "d"), (7, "g")]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("| 99 | a standby", "| 118 | a standby", "names row 99, which the page lacks"),
        ("| 99 | a standby", "| 118 | a standby", "row 118 is tried by no test"),
        ("| 62 | WAL segment: missing", "| 62 | WAL segment: gone", "row 62 lacks the words 'WAL segment: missing'"),
        ("| 62 | WAL segment: missing", "| 62 | WAL segment: missing<br>or empty", "row 62: no test says 'or empty'"),
        ("<br>login triggers that write or refuse", "", "row 112 lacks the words 'login triggers"),
        ("| backups are made and expire as always", "| backups are made", ""),
        (" | C M |", " | C Z |", "row 62: there is no promise Z"),
        (" | C M |", " |  |", "row 62 has an empty cell"),
        ("- **F. No secret**", "- **No secret**", "there is no promise F"),
        ("| 2 | a backup", "| 1 | a backup", "not in the order of their numbers, each once"),
    ],
)
def test_a_difference_is_seen(before: str, after: str, said: str) -> None:
    assert before in PAGE
    found = faults.differences(PAGE.replace(before, after), named())
    assert any(said in one for one in found) if said else found == []


def test_a_new_test_of_an_unknown_row_is_seen() -> None:
    more = [*named(), Use(999, "something new", "test_new.py:1")]
    assert faults.differences(PAGE, more) == ["test_new.py:1 names row 999, which the page lacks"]
