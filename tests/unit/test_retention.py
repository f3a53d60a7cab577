"""The retention rule, stated as what must hold of every answer, for any backups, policy and clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pgbackup.store import retention
from pgbackup.store.retention import Decision, Policy

from tests.support import speed
from tests.support.mutants import mutant

Decide = Callable[..., list[Decision]]
NOW = datetime(2024, 3, 31, 1, 30, tzinfo=timezone.utc)


@dataclass(frozen=True)
class One:
    """A backup as the rule sees it, and what the rule may only ask for: whether it is good."""

    name: str
    taken: datetime
    manual: bool
    good: bool


@st.composite
def directories(draw: st.DrawFn) -> list[One]:
    hours = draw(st.lists(st.integers(0, 24 * 40), max_size=30))
    kinds = st.tuples(st.sampled_from([False, False, True]), st.sampled_from([True, True, False]))
    found = [One(f"b{number}", NOW - timedelta(hours=hour), *draw(kinds)) for number, hour in enumerate(hours)]
    return sorted(found, key=lambda one: (one.taken, one.name), reverse=True)


POLICIES = st.builds(Policy, st.integers(1, 30), st.integers(1, 10))


def decided(decide: Decide, backups: Sequence[One], policy: Policy, now: datetime = NOW) -> dict[str, bool]:
    good = {one.name: one.good for one in backups}
    found = decide(backups, policy, now, good.__getitem__)
    assert [decision.name for decision in found] == [one.name for one in backups], "one decision each, in order"
    assert all(decision.reason for decision in found)
    return {decision.name: decision.keep for decision in found}


def check_minimum(decide: Decide, backups: list[One], policy: Policy) -> None:
    keep = decided(decide, backups, policy)
    newest_good = [one for one in backups if one.good and not one.manual][: policy.minimum]
    assert all(keep[one.name] for one in newest_good), "of the newest good ones none expires"
    for number, one in enumerate(backups):
        if not keep[one.name]:
            newer = [other for other in backups[:number] if other.good and not other.manual]
            assert len(newer) >= policy.minimum, "what expires leaves as many newer good ones"


def check_age(decide: Decide, backups: list[One], policy: Policy) -> None:
    keep = decided(decide, backups, policy)
    assert all(keep[one.name] for one in backups if NOW - one.taken <= timedelta(days=policy.days))


def check_expiry(decide: Decide, backups: list[One], policy: Policy) -> None:
    """What is old enough and has its newer good ones does expire: a disk does not fill up for ever."""
    keep = decided(decide, backups, policy)
    for number, one in enumerate(backups):
        newer = [other for other in backups[:number] if other.good and not other.manual]
        if NOW - one.taken > timedelta(days=policy.days) and len(newer) >= policy.minimum:
            assert not keep[one.name]


def check_order(decide: Decide, backups: list[One], policy: Policy) -> None:
    """Where one expires all that are older do; a stricter policy, or a later day, never brings one back."""
    keep = decided(decide, backups, policy)
    flags = [keep[one.name] for one in backups]
    assert flags == sorted(flags, reverse=True)
    laxer = decided(decide, backups, Policy(policy.days + 1, policy.minimum + 1))
    later = decided(decide, backups, policy, NOW + timedelta(days=1))
    for one in backups:
        if not keep[one.name]:
            assert not later[one.name]
        if not laxer[one.name]:
            assert not keep[one.name]


def check_clock(decide: Decide, backups: list[One], policy: Policy) -> None:
    """A clock that stands before the newest backup expires nothing."""
    if backups:
        assert all(decided(decide, backups, policy, backups[0].taken - timedelta(seconds=1)).values())


def check_frugal(decide: Decide, backups: list[One], policy: Policy) -> None:
    """Reading a backup is dear: none is read where nothing is old enough, no more than are needed, none twice."""
    asked: list[str] = []

    def is_good(name: str) -> bool:
        asked.append(name)
        return next(one.good for one in backups if one.name == name)

    decide(backups, policy, NOW, is_good)
    assert len(asked) == len(set(asked))
    assert sum(one.good for one in backups if one.name in asked) <= policy.minimum
    if all(NOW - one.taken <= timedelta(days=policy.days) for one in backups):
        assert not asked


Check = Callable[[Decide, list[One], Policy], None]


def try_out(check: Check, decide: Decide, phases: Sequence[Phase] = tuple(Phase), examples: int = 200) -> None:
    @settings(max_examples=examples, deadline=None, database=None, report_multiple_bugs=False, phases=phases)
    @given(directories(), POLICIES)
    def holds(backups: list[One], policy: Policy) -> None:
        check(decide, backups, policy)

    holds()


CHECKS = [check_minimum, check_age, check_expiry, check_order, check_clock, check_frugal]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_rule_holds(check: Check) -> None:
    try_out(check, retention.decide)


MUTANTS: dict[str, tuple[Check, str, str]] = {
    "one too few remain": (check_minimum, "good >= policy.minimum:", "good + 1 >= policy.minimum:"),
    "one good one is enough": (check_minimum, "elif good >=", "elif good >= 1 or good >="),
    "bad ones count": (check_minimum, "and is_good(backup.name):", "and (is_good(backup.name) or True):"),
    "those made by hand count": (check_minimum, "and not backup.manual and", "and"),
    "a day too early": (check_age, "timedelta(days=policy.days)", "timedelta(days=policy.days - 1)"),
    "nothing expires": (check_expiry, "keep=False", "keep=True"),
    "a clock that is behind is not seen": (check_clock, "if backups and now < backups[0].taken:", "if False:"),
    "every backup is read": (check_frugal, "may_protect = young < len(backups) and", "may_protect ="),
    "more are read than are needed": (
        check_frugal,
        "if may_protect and good < policy.minimum and",
        "if may_protect and",
    ),
}


@pytest.mark.parametrize("bug", MUTANTS)
def test_a_broken_rule_is_seen_by_these_checks(bug: str) -> None:
    check, old, new = MUTANTS[bug]
    with pytest.raises(AssertionError):
        # Far more than it takes: the first one that is seen ends it, and chance must not decide a test.
        try_out(check, mutant("pgbackup.store.retention", (old, new)).decide, [Phase.generate], examples=10_000)


def test_the_zone_of_the_host_and_its_summer_time_change_nothing() -> None:
    backups = [One(f"b{hour}", NOW - timedelta(hours=hour), manual=False, good=True) for hour in range(24 * 20)]
    answers = set()
    before = os.environ.get("TZ")
    try:
        for zone in ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"):
            os.environ["TZ"] = zone
            time.tzset()
            answers.add(tuple(decided(retention.decide, backups, Policy(7, 7)).values()))
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()
    assert len(answers) == 1
    assert answers.pop().count(True) == 7 * 24 + 1


def test_the_minimum_survives_a_clock_that_jumps_ten_years_ahead() -> None:
    backups = [One(f"b{day}", NOW - timedelta(days=day), manual=False, good=True) for day in range(20)]
    keep = decided(retention.decide, backups, Policy(7, 7), NOW + timedelta(days=3650))
    assert [name for name, kept in keep.items() if kept] == [f"b{day}" for day in range(7)]


def test_the_time_to_judge_backups_grows_as_they_do() -> None:
    many = [One(f"b{hour}", NOW - timedelta(hours=hour), manual=False, good=True) for hour in range(10_000)]

    def judged(count: int) -> None:
        decided(retention.decide, many[:count], Policy(7, 7))

    assert speed.times(lambda: judged(10_000), lambda: judged(1_000)) < 30, "each one is compared with each other"
