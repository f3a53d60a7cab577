"""What is drilled, when, and which time is too long: decided without a server."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pgbackup.commands.drill import choice
from pgbackup.commands.drilling import after_backup, told
from pgbackup.commands.drilling.verdict import Drill
from pgbackup.commands.loading.record import Record
from pgbackup.store.state import drills
from pgbackup.store.state.drills import Drills

NOW = datetime(2024, 1, 15, 2, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("has_older", "has_moments", "turns"),
    [
        (False, False, ["newest"] * 4),
        (True, False, ["newest", "older"] * 2),
        (False, True, ["newest", "moment"] * 2),
        (True, True, ["newest", "older", "moment", "newest"]),
    ],
)
def test_the_schedule_takes_turns_among_what_there_is(has_older: bool, has_moments: bool, turns: list[str]) -> None:
    found = [choice.in_turn(turn, has_older=has_older, has_moments=has_moments) for turn in range(4)]
    assert found == turns


@pytest.mark.parametrize(
    ("size", "schema", "due"),
    [(1_000_000, "a", True), (1_000_001, "a", False), (1_000_001, "b", True), (0, "b", True)],
)
def test_a_night_is_drilled_when_the_database_is_small_or_its_schema_new(size: int, schema: str, due: bool) -> None:
    assert bool(after_backup.due(size, schema, Drills(schema="a"), 1)) is due


def test_a_failed_drill_leaves_the_schema_new() -> None:
    failed = Drills(schema="a").with_one("hash", "it does not load", "b", NOW)
    assert after_backup.due(1 << 40, "b", failed, 1)
    assert not after_backup.due(1 << 40, "b", failed.with_one("other", "", "b", NOW), 1)


def test_the_last_drill_of_a_file_counts() -> None:
    passed = Drills().with_one("hash", "", "a", NOW)
    failed = passed.with_one("hash", "it does not load", "a", NOW + timedelta(days=1))
    again = failed.with_one("hash", "", "a", NOW + timedelta(days=2))
    assert [each.state("hash") for each in (Drills(), passed, failed)] == ["", f"{NOW.astimezone():%Y-%m-%d}", "FAILED"]
    assert failed.entry("hash") == {"drilled": None, "drill_failed": "2024-01-16T02:00:00+00:00 it does not load"}
    assert again.entry("hash") == {"drilled": "2024-01-17T02:00:00+00:00", "drill_failed": None}


def test_only_so_many_are_remembered_and_the_newest_stay() -> None:
    known = Drills()
    for number in range(drills._MOST + 5):
        known = known.with_one(str(number), "", "a", NOW + timedelta(minutes=number))
    assert len(known.passed) == drills._MOST
    assert "4" not in known.passed and "5" in known.passed


def made(seconds: float) -> Drill:
    drill = Drill(Record("auth", "auth_db", "drill"))
    drill.record.seconds = {"finish": 1.0, "server": 50.0, "load": seconds - 1.0, "compare": 50.0}
    return drill


def drilled(seconds: float, **other: Any) -> dict[str, Any]:
    return {"action": "drill", "target": "auth", "verdict": "passed", "restore_seconds": seconds, **other}


@pytest.mark.parametrize(
    ("seconds", "before", "minutes", "said"),
    [
        (61, [], 1, "more than RTO_MINUTES=1"),
        (60, [], 1, ""),
        (600, [], 0, ""),
        (21, [drilled(10)] * 3, 0, "more than twice as long as usual (10.0 s)"),
        (20, [drilled(10)] * 3, 0, ""),
        (21, [drilled(10)] * 2, 0, ""),
        (21, [drilled(10)] * 2 + [drilled(10, target="payment"), drilled(10, verdict="failed")], 0, ""),
        (21, [drilled(10)] * 2 + [{"action": "restore", "target": "auth", "restore_seconds": 1.0}], 0, ""),
        (1.9, [drilled(0.1)] * 3, 0, "more than twice"),
        (1.0, [drilled(0.1)] * 3, 0, ""),
    ],
)
def test_a_restore_that_takes_too_long_is_told(
    seconds: float, before: list[dict[str, Any]], minutes: int, said: str
) -> None:
    found = told.slow(made(seconds), before, minutes)
    assert said in found and bool(found) is bool(said)
