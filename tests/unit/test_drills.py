"""What is remembered of drills, when one is due, what is next in turn, and what is too slow."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

from pgbackup.store import folder, retention
from pgbackup.store.state import drills
from pgbackup.store.state.drills import Drills

NOW = datetime(2024, 1, 15, 2, 0, 3, tzinfo=timezone.utc)


def test_the_last_drill_of_a_file_counts(tmp_path: Path) -> None:
    known = Drills().with_one("a" * 64, "", "s1", NOW)
    assert known.state("a" * 64) == f"{NOW.astimezone():%Y-%m-%d}"
    failed = known.with_one("a" * 64, "it broke", "s2", NOW + timedelta(days=1))
    assert (failed.state("a" * 64), failed.schema) == ("FAILED", "s1")
    assert failed.entry("a" * 64) == {"drilled": None, "drill_failed": "2024-01-16T02:00:03+00:00 it broke"}
    assert failed.with_one("a" * 64, "", "s2", NOW).failed == {}
    assert known.entry("b" * 64) == {"drilled": None, "drill_failed": None}
    tmp_path.chmod(0o700)
    with folder.opened(tmp_path, create=False) as place:
        assert drills.read(place, "shop") == Drills()
        drills.write(place, "shop", failed)
        assert drills.look(place, "shop") == (failed, "")
        (tmp_path / ".shop.drills.json").write_text('{"version": 1, "passed": {"a": "yesterday"}}')
        found, problem = drills.look(place, "shop")
        assert (found, "rm " in problem) == (Drills(), True)


def test_the_newest_that_was_drilled_stays_until_a_newer_one_was() -> None:
    class Old:
        manual = False

        def __init__(self, days: int) -> None:
            self.name, self.taken = f"{days} days", NOW - timedelta(days=days)

    backups = [Old(days) for days in (1, 2, 3, 20, 21)]
    policy = retention.Policy(days=7, minimum=2)
    without = retention.decide(backups, policy, NOW, lambda _name: True)
    assert [decision.name for decision in without if not decision.keep] == ["20 days", "21 days"]
    protected = retention.decide(backups, policy, NOW, lambda _name: True, "21 days")
    assert [decision.name for decision in protected if not decision.keep] == ["20 days"]
