"""What is told: a change, once; what is still broken, daily; one message for all of it, with what to type."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pgbackup.report.alarms import decision, wording
from pgbackup.report.promises.promise import BROKEN, KEPT, NOT_WANTED, Promise
from pgbackup.report.promises.status import Status
from pgbackup.report.typeable import absolute

from tests.support import examples
from tests.support.examples import NOW

MINUTES = timedelta(minutes=5)


def promise(subject: str, state: str, **more: object) -> Promise:
    one = Promise("backup", subject, state, None, None, None, 0.0, "the reason", "the remedy")
    return replace(one, **more)  # type: ignore[arg-type]


def status(*promises: Promise, now: datetime = NOW) -> Status:
    return replace(examples.all_kept(), promises=promises, now=now)


def test_a_change_is_told_once_and_what_stays_broken_once_a_day() -> None:
    told: decision.Told = {}
    said = []
    for step in range(0, 3 * 288):
        state = BROKEN if 10 <= step < 10 + 2 * 288 + 5 else KEPT
        told, notice = decision.decide(told, status(promise("auth", state), now=NOW + step * MINUTES))
        said += [(step, notice.level)] if notice else []
    assert said == [(10, "broken"), (298, "reminder"), (586, "reminder"), (591, "kept")]
    assert told == {}


def test_all_changes_of_one_evaluation_are_one_message() -> None:
    broken = examples.several_broken()
    told, notice = decision.decide({}, broken)
    assert notice and set(notice.broken) == set(broken.broken) and len(told) == len(broken.broken) > 5
    again, same = decision.decide(told, broken)
    assert same is None and again == told
    _, kept = decision.decide(told, examples.all_kept())
    assert kept and {one.key for one in kept.kept} == set(told) and not kept.broken


def test_what_breaks_beside_what_is_known_is_told_alone() -> None:
    told, _ = decision.decide({}, status(promise("auth", BROKEN)))
    later = status(promise("auth", BROKEN), promise("payment", BROKEN), now=NOW + MINUTES)
    told, notice = decision.decide(told, later)
    assert notice and [one.subject for one in notice.broken] == ["payment"] and not notice.still


def test_a_reminder_names_all_that_is_broken_so_that_there_is_one_a_day() -> None:
    told, _ = decision.decide({}, status(promise("auth", BROKEN)))
    told, _ = decision.decide(
        told, status(promise("auth", BROKEN), promise("pay", BROKEN), now=NOW + 12 * 12 * MINUTES)
    )
    day = NOW + timedelta(days=1)
    told, notice = decision.decide(told, status(promise("auth", BROKEN), promise("pay", BROKEN), now=day))
    assert notice and [one.subject for one in notice.still] == ["auth", "pay"]
    assert decision.decide(told, status(promise("auth", BROKEN), promise("pay", BROKEN), now=day + MINUTES))[1] is None


def test_what_a_run_may_mend_in_a_moment_is_no_change() -> None:
    waits = promise("auth", BROKEN, tell_from=NOW + timedelta(hours=2))
    told, notice = decision.decide({}, status(waits))
    assert (told, notice) == ({}, None)
    told, notice = decision.decide({}, status(waits, now=NOW + timedelta(hours=2)))
    assert notice and notice.broken
    told, notice = decision.decide(told, status(replace(waits, tell_from=NOW + timedelta(hours=9))))
    assert notice is None and set(told) == {"backup:auth"}


@pytest.mark.parametrize("now", [status(), status(promise("auth", NOT_WANTED))])
def test_what_nobody_asks_for_any_more_is_told(now: Status) -> None:
    told, _ = decision.decide({}, status(promise("auth", BROKEN)))
    told, notice = decision.decide(told, now)
    assert notice and told == {}
    assert "now nobody asks for it any more" in wording.body(notice, now)


@pytest.mark.fault(229, "a clock that was a year ahead when an alarm was told")
def test_a_clock_that_was_ahead_delays_no_reminder() -> None:
    told, _ = decision.decide({}, status(promise("auth", BROKEN), now=NOW + timedelta(days=365)))
    told, notice = decision.decide(told, status(promise("auth", BROKEN)))
    assert notice is None
    _, notice = decision.decide(told, status(promise("auth", BROKEN), now=NOW + timedelta(days=1)))
    assert notice and notice.level == "reminder"


_STATES = some.lists(some.sampled_from([BROKEN, KEPT, NOT_WANTED]), min_size=3, max_size=3)


@given(some.lists(some.tuples(_STATES, some.integers(1, 2000)), max_size=30))
def test_whatever_happens_each_change_is_told_and_nothing_else(history: list[tuple[list[str], int]]) -> None:
    told: decision.Told = {}
    known: set[str] = set()
    now = NOW
    for states, minutes in history:
        now += timedelta(minutes=minutes)
        there = status(*(promise(name, state) for name, state in zip("abc", states, strict=True)), now=now)
        broken = {one.key for one in there.broken}
        told, notice = decision.decide(told, there)
        assert set(told) == broken
        assert ({one.key for one in notice.broken} if notice else set()) == broken - known
        assert ({one.key for one in notice.kept} if notice else set()) == known - broken
        assert not notice or {one.key for one in notice.still} in (set(), broken & known)
        known = broken


@pytest.mark.parametrize("one", [examples.several_broken(), examples.never_backed_up()])
def test_the_text_has_what_since_when_the_newest_backup_and_what_to_type(one: Status) -> None:
    _, notice = decision.decide({}, one)
    assert notice
    text = wording.body(notice, one)
    for promise in one.broken:
        assert promise.reason[:60] in text and absolute(promise.remedy) in text
        assert not promise.since or f"since {promise.since.astimezone():%Y-%m-%d %H:%M}" in text
    for database in one.facts.databases:
        assert f"- {database.name}: " in text.partition("NEWEST GOOD BACKUPS")[2]
    assert one.host in wording.subject(notice, one.host) and "BROKEN" in wording.subject(notice, one.host)


def test_names_that_are_hostile_make_neither_a_line_nor_a_colour() -> None:
    one = examples.hostile_names()
    _, notice = decision.decide({}, one)
    assert notice
    subject, text = wording.subject(notice, one.host), wording.body(notice, one)
    assert subject.isprintable() and all(line.isprintable() for line in text.split("\n"))


def test_no_value_that_a_server_has_quoted_is_told() -> None:
    said = 'the last run failed with 69: ERROR:  invalid input syntax for type money: "4711-secret"'
    one = status(promise("auth", BROKEN, reason=said))
    _, notice = decision.decide({}, one)
    assert notice and "4711-secret" not in wording.body(notice, one)


def test_hundreds_of_broken_promises_fit_into_a_message() -> None:
    one = status(*(promise(f"database_{number}", BROKEN, reason="x" * 5000) for number in range(300)))
    _, notice = decision.decide({}, one)
    assert notice
    text = wording.body(notice, one)
    assert "and 288 more" in text and len(text) < 8000
