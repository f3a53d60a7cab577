"""Which copies at a place expire: the newest good ones stay, and no clock or name alone lets one go."""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup.commands.offsite import deciding, judging
from pgbackup.commands.offsite.judging import Seen
from pgbackup.remotes.place import Object
from pgbackup.settings import config
from pgbackup.store.retention import Policy

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
TARGET = config.load({"DATABASES": "auth"}, Path("/nowhere/.env"), {}).targets[0]
DAYS = st.floats(-2, 60, allow_nan=False)


def seen(number: int, taken_days: float, arrived_days: float, problem: str = "", *, manual: bool = False) -> Seen:
    name = f"host-a/dumps/a/{number}.sql.gz.age"
    found = Object(name, 1, NOW - timedelta(days=arrived_days))
    return Seen(TARGET, found, f"{number}.sql.gz", NOW - timedelta(days=taken_days), judging.WHOLE, problem, manual)


def kept(copies: list[Seen], sent: set[str], here: Container[str] = (), minimum: int = 2, days: int = 7) -> list[bool]:
    return [one.keep for one in deciding.expiring(copies, sent, here, Policy(days, minimum), NOW)]


def names(copies: list[Seen]) -> set[str]:
    return {one.found.name for one in copies}


def test_old_ones_go_and_the_newest_stay() -> None:
    copies = [seen(number, number, number) for number in range(12)]
    assert kept(copies, names(copies)) == [True] * 8 + [False] * 4
    old = [seen(number, 5 + number * 3, 5 + number * 3) for number in range(4)]
    assert kept(old, names(old), minimum=3) == [True, True, True, False]


@pytest.mark.fault(188, "forged newer copies, dates in names that the place contradicts, a clock that jumps")
def test_a_date_in_a_name_alone_lets_nothing_go() -> None:
    copies = [seen(0, 0, 0), seen(1, 1, 1), seen(2, 400, 1), seen(3, 400, 400)]
    assert kept(copies, names(copies)) == [True, True, True, False]


@pytest.mark.fault(188, "forged newer copies, dates in names that the place contradicts, a clock that jumps")
def test_forged_newer_ones_protect_nothing_and_are_left() -> None:
    """Somebody who may write puts ten newer ones there, to let the real ones go."""
    forged = [seen(100 + number, 0, 0) for number in range(10)]
    changed = [seen(50, 0.5, 0.5, "its hash is not that of what was sent")]
    real = [seen(number, 1 + number * 6, 1 + number * 6) for number in range(3)]
    copies = [*forged, *changed, *real]
    assert kept(copies, names(real) | names(changed), minimum=3) == [True] * 14


def test_what_is_still_here_stays() -> None:
    copies = [seen(number, number * 4, number * 4) for number in range(5)]
    assert kept(copies, names(copies), here={copies[3].found.name}) == [True, True, False, True, False]


def test_copies_that_were_made_by_hand_do_not_count() -> None:
    copies = [seen(0, 1, 1, manual=True), seen(1, 2, 2, manual=True), seen(2, 20, 20), seen(3, 30, 30), seen(4, 40, 40)]
    assert kept(copies, names(copies)) == [True, True, True, True, False]


@pytest.mark.fault(188, "forged newer copies, dates in names that the place contradicts, a clock that jumps")
def test_with_an_odd_clock_nothing_goes() -> None:
    behind = [seen(number, number * 10 - 2, number * 10 - 2) for number in range(5)]
    assert all(kept(behind, names(behind)))
    ahead = [seen(number, 365 + number, 365 + number) for number in range(10)]
    assert all(kept(ahead, names(ahead)))


@given(
    st.lists(st.tuples(DAYS, DAYS, st.booleans(), st.booleans(), st.booleans(), st.booleans()), max_size=20),
    st.integers(1, 8),
    st.integers(1, 30),
)
def test_whatever_lies_there(what: list[tuple[float, float, bool, bool, bool, bool]], minimum: int, days: int) -> None:
    made = [
        (seen(number, taken, arrived, "bad" if bad else "", manual=manual), is_sent, is_here)
        for number, (taken, arrived, bad, manual, is_sent, is_here) in enumerate(what)
    ]
    made.sort(key=lambda one: one[0].taken, reverse=True)
    copies = [one for one, _, _ in made]
    sent = {one.found.name for one, is_sent, _ in made if is_sent}
    here = {one.found.name for one, _, is_here in made if is_here}
    decisions = deciding.expiring(copies, sent, here, Policy(days, minimum), NOW)
    assert [one.name for one in decisions] == [one.found.name for one in copies]
    gone = {one.name for one in decisions if not one.keep}
    limit = NOW - timedelta(days=days)
    assert all(one.taken < limit and one.found.modified < limit for one in copies if one.found.name in gone)
    assert not gone & here and gone <= sent
    good = [one.found.name for one in copies if not one.problem and one.found.name in sent and not one.manual]
    assert not gone & {one.found.name for one in copies if one.problem}
    assert not gone & set(good[:minimum]), "the newest good ones"
