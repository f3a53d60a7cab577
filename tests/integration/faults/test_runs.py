"""Runs beside each other, clocks and locks: rows 13 to 15 of the table of faults."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest

from tests.support import backups, promises
from tests.support.backups import Place, Source
from tests.support.effort import chosen, only_in_full, wide
from tests.support.runs import soon

Tries = Callable[[int, int], int]
Note = Callable[..., None]
WAITING = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'pgbackup-%' AND wait_event_type = 'Lock'"


@contextlib.contextmanager
def locked(source: Source) -> Iterator[None]:
    """Let every dump wait for a table until the block is left."""
    with psycopg.connect(source.values["URL"]) as holder:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        yield


# ------------------------------------------------------------------------------------------------ row 13


def test_of_many_runs_of_one_database_at_once_one_wins(
    place: Place, tries: Tries, expected: Note, survived: Note
) -> None:
    fault, count = "32 runs of one database at once", tries(4, 32)
    expected(13, fault, count)
    with locked(place.sources[0]):
        runs = [place.start() for _ in range(count)]
        assert soon(lambda: sum(run.poll() is not None for run in runs) == count - 1, 100)
        done = [place.end(run) for run in runs if run.returncode is not None]
    won = [place.end(run) for run in runs if run.returncode is None or run.poll() == 0]
    assert [ended.status for ended in done] == [75] * (count - 1)
    assert [ended.status for ended in won][-1:] == [0]
    assert all("another run" in ended.stderr for ended in done)
    assert len(place.fresh()) == 1
    log = place.log()
    assert sum("run.start" in line for line in log) == sum("run.finish" in line for line in log) == count
    assert not promises.settled(place)
    survived(13, fault, count)


def test_many_runs_of_different_databases_at_once_all_succeed(
    small: list[Source], tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    fault, count = "32 runs of different databases at once", tries(3, 32)
    expected(13, fault, count)
    url = small[0].values["URL"]
    fresh = [f"copy_{number}" for number in range(count)]
    for name in fresh:
        small[0].sql(f"CREATE DATABASE {name} TEMPLATE auth_db")
    try:
        sources = [
            Source(
                name,
                name,
                small[0].text,
                {**small[0].values, "DIR": name, "DATABASE": name, "URL": url.replace("/auth_db?", f"/{name}?")},
                small[0].sql,
                small[0].said,
            )
            for name in fresh
        ]
        place = backups.place(tmp_path / "backups", sources)
        runs = [place.start(name) for name in fresh]
        done = [place.end(run) for run in runs]
        assert [ended.status for ended in done] == [0] * count, [ended.stderr for ended in done if ended.status]
        assert len(place.fresh()) == count
        assert not promises.settled(place)
    finally:
        for name in fresh:
            small[0].sql(f"DROP DATABASE {name} WITH (FORCE)")
    survived(13, fault, count)


def test_cron_and_timer_at_the_same_time_make_one_backup_of_each_database(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "cron and timer both on"
    expected(13, fault, 1)
    place = backups.place(tmp_path / "backups", small)
    with locked(small[0]):
        first = place.start()
        assert soon(lambda: bool(small[0].sql(WAITING)), 30)
        second = place.run()
        assert second.status == (1 if len(place.fresh(small[1])) == 2 else 75)
    assert place.end(first).status == 0
    assert len(place.fresh(small[0])) == 1
    assert not promises.settled(place)
    survived(13, fault)


# ------------------------------------------------------------------------------------------------ row 14


def test_two_runs_in_one_second_make_two_backups(place: Place, expected: Note, survived: Note) -> None:
    fault = "runs in one second"
    expected(14, fault, 3)
    moment = datetime.now(timezone.utc)
    for number in range(3):
        ended = backups.run_at(place, moment)
        assert ended.status == 0, ended.stderr
        assert len(place.fresh()) == number + 1
        survived(14, fault)
    assert not promises.settled(place)


# In Berlin one hour comes twice on the first day, and one never on the second.
CHANGES = {
    "summer time ends": datetime(2025, 10, 26, 0, 0, 1, tzinfo=timezone.utc),
    "summer time begins": datetime(2025, 3, 30, 0, 0, 1, tzinfo=timezone.utc),
}


@wide("change", ["summer time ends"], CHANGES)
def test_a_change_of_summer_time_loses_no_backup_and_keeps_their_order(
    place: Place, expected: Note, survived: Note, change: str
) -> None:
    """The same local time comes twice; names stay different, and the manifest knows the instants."""
    fault = f"{change}: one run each half hour"
    expected(14, fault, 5)
    place.reset()
    for number in range(5):
        ended = backups.run_at(place, CHANGES[change] + timedelta(minutes=30 * number), TZ="Europe/Berlin")
        assert ended.status == 0, ended.stderr
        assert len(place.fresh()) == number + 1
        survived(14, fault)
    assert not promises.settled(place)
    started = [line for line in place.log() if "run.start" in line]
    assert len({line[:24] for line in started}) == 5, "the clock did not move: the test proves nothing"
    assert len({line[19:24] for line in started}) == 2, "summer time did not change: the test proves nothing"


def test_another_time_zone_loses_no_backup(place: Place, expected: Note, survived: Note) -> None:
    zones = ("Pacific/Kiritimati", "America/Adak", "Asia/Kathmandu", "UTC")[: chosen(2, 4)]
    fault = "another TZ at each run"
    expected(14, fault, len(zones))
    for number, zone in enumerate(zones, 1):
        ended = place.run("-q", TZ=zone)
        assert ended.status == 0, ended.stderr
        assert len(place.fresh()) == number
        assert not promises.problems(place, sweep=True)
        survived(14, fault)


CLOCKS: dict[str, datetime | str] = {
    "a year ahead": "+366d",
    "a year behind": "-366d",
    "1970": datetime(1970, 1, 2, tzinfo=timezone.utc),
    "2038": datetime(2038, 1, 20, tzinfo=timezone.utc),
}


@wide("clock", ["a year ahead", "1970"], CLOCKS)
def test_a_clock_that_is_wrong_never_costs_the_newest_good_backups(
    place: Place, expected: Note, survived: Note, clock: str
) -> None:
    fault = f"clock: {clock}"
    expected(14, fault, 1)
    assert place.run("-q").status == 0
    right = place.fresh()[0]
    here = set(place.files())
    ended = backups.run_at(place, CLOCKS[clock])
    assert ended.status == 0, ended.stderr
    assert right.exists(), "the backup from before the jump is gone"
    assert len(place.files()) >= backups.MINIMUM
    assert not promises.problems(place, sweep=True) or clock in ("a year ahead", "2038")
    if clock in ("a year behind", "1970"):
        assert here < set(place.files()), "a clock that stands behind expires nothing"
        assert any("WARNING" in line and "clock" in line for line in ended.log), "and says so"
    else:
        assert here - set(place.files()) <= set(place.planted), "only what is old by the right clock too"
    here = set(place.files())
    assert place.run("-q").status == 0, "the clock is right again"
    assert right.exists()
    if clock in ("a year ahead", "2038"):
        assert here < set(place.files()), "now the clock stands behind"
    survived(14, fault)


# ------------------------------------------------------------------------------------------------ row 15


LOCKS = {"live": f"{os.getpid()}\n", "empty": "", "1": "1\n", "odd": "garbage \0 \n"}


@wide("content", ["live"], LOCKS)
def test_a_lock_file_without_its_process_is_free(place: Place, expected: Note, survived: Note, content: str) -> None:
    """No pid is read from it, so no pid that is used again can hold it."""
    fault = "stale lock file, with the pid of a live process too"
    expected(15, fault, 1)
    lock = place.directory() / ".auth_db.lock"
    lock.write_text(LOCKS[content])
    lock.chmod(0o600)
    assert not promises.after(place)
    survived(15, fault)


def test_a_lock_file_deleted_in_mid_run_costs_no_backup(place: Place, expected: Note, survived: Note) -> None:
    """The second run cannot know of the first one; whatever it does to it, both tell the truth."""
    fault = "lock file deleted while a run holds it"
    expected(15, fault, 1)
    with locked(place.sources[0]):
        first = place.start()
        assert soon(lambda: bool(place.sources[0].sql(WAITING)), 30)
        (place.directory() / ".auth_db.lock").unlink()
        second = place.start()
        assert soon(
            lambda: len(list(place.directory().glob(".pgbackup-*.partial"))) == 2 or first.poll() is not None, 30
        )
    done = [place.end(first), place.end(second)]
    assert len(place.fresh()) == sum(ended.status == 0 for ended in done) >= 1
    assert done[1].status == 0, done[1].stderr
    assert not promises.settled(place)
    assert not promises.after(place)
    survived(15, fault)


# ------------------------------------------------------------------------------------- tests of these tests

BUGS = {
    "no lock": [
        ("store/lock.py", "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", "            pass\n")
    ],
    "a final name replaced": [
        (
            "store/publish.py",
            "        os.link(partial_name, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)\n",
            "        os.rename(partial_name, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)\n",
        )
    ],
}


@only_in_full
@pytest.mark.parametrize("bug", BUGS)
def test_a_suite_with_a_bug_is_caught(place: Place, tmp_path: Path, bug: str) -> None:
    """Each bug makes that test fail which looks for it."""
    place.root = backups.mutated(tmp_path / "copy", *BUGS[bug])

    def quiet(*_: object) -> None:
        """Nothing is noted of a try that has to fail."""

    tests: dict[str, Callable[[], object]] = {
        "no lock": lambda: test_of_many_runs_of_one_database_at_once_one_wins(place, lambda a, _b: 2, quiet, quiet),
        "a final name replaced": lambda: test_two_runs_in_one_second_make_two_backups(place, quiet, quiet),
    }
    with pytest.raises(AssertionError):
        tests[bug]()
