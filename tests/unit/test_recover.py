"""Where a recovery is to go, how a moment may be typed, and what is said when it cannot be had."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pgbackup.cli import moments
from pgbackup.commands import base_backup
from pgbackup.commands.recover import recover, stopping
from pgbackup.commands.recover.aim import Aim
from pgbackup.commands.recover.stopping import Stop
from pgbackup.database.cluster.recovery import Reached
from pgbackup.errors import BackupBad, NoBackup, UsageError
from pgbackup.formats.cluster.backup_manifest import MAIN
from pgbackup.store.folder import Folder
from pgbackup.store.wal import recoverable
from pgbackup.store.wal.archive import Places, Receiver, State
from pgbackup.store.wal.base_backups import BaseBackupRecord
from pgbackup.store.wal.files import OnDisk
from pgbackup.store.wal.recoverable import Archive
from pgbackup.store.wal.window import BaseBackup, windows
from pgbackup.wal import SEGMENT_BYTES, Segment

_START = datetime(2024, 1, 15, 10, 0, tzinfo=timezone.utc)
_HOUR = timedelta(hours=1)
_STATE = State("payment", 7, "sha256:1", 15, SEGMENT_BYTES, keep_was_set=True, active=True)


def _archive(bases: list[int], numbers: list[int], confirmed: datetime | None, **receiver: str) -> Archive:
    """Each segment took an hour; a base backup was taken in each of the segments `bases`."""
    made = {
        f"base{number}": BaseBackup(
            f"base{number}", Segment(1, number), number * SEGMENT_BYTES + 9, _START + number * _HOUR
        )
        for number in bases
    }
    times = {Segment(1, number): _START + (number + 1) * _HOUR for number in numbers}
    told = Receiver(None, confirmed, f"0/{numbers[-1]:X}000100" if confirmed else "", **receiver)
    record = BaseBackupRecord(7, 1, "0/0", "0/0", _START, "", "", 15, {MAIN: ""}, 5, proven=True)
    place = Folder(Path("/archive"), -1)
    places = Places(place, place, place, place)
    found = windows(list(made.values()), times, {}, told.confirmed)
    known = {name: (each, record) for name, each in made.items()}
    return Archive(OnDisk(places, _STATE), _STATE, known, {}, times, found, told)


WHOLE = _archive([1, 4], [1, 2, 3, 4, 5], _START + 6 * _HOUR)
GAP = _archive([1, 5], [1, 2, 3, 5, 6], _START + 7 * _HOUR)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three hours east of Greenwich."""
    monkeypatch.setenv("TZ", "UTC-3")
    time.tzset()
    yield
    monkeypatch.undo()
    os.environ.pop("TZ", None)
    time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-15 13:37:00+03",
        "2024-01-15 13:37:00 +03",
        "2024-01-15 13:37:00+03:00",
        "2024-01-15 13:37:00+0300",
        "2024-01-15T10:37:00Z",
        "2024-01-15 10:37:00 UTC",
        "2024-01-15 13:37",
        "2024-01-15 13:37:00",
        "2024-01-15 13:37:00.000",
        " 2024-01-15 08:07:00-02:30 ",
    ],
)
def test_a_moment_as_people_and_postgresql_write_it(zone: None, text: str) -> None:
    assert moments.moment(text) == datetime(2024, 1, 15, 10, 37, tzinfo=timezone.utc)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clocks that go an hour forward in March, at 2 o'clock, and back in October, at 3 o'clock."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_time_that_clocks_show_twice_or_never_is_refused_with_what_could_be_meant(berlin: None) -> None:
    with pytest.raises(UsageError, match=r"occurred twice: .* from \+0200 to \+0100") as caught:
        moments.moment("2024-10-27 02:30:00")
    for text in ("2024-10-27 02:30:00+0200", "2024-10-27 02:30:00+0100"):
        assert f"--to-time '{text}'" in str(caught.value.hint)
    with pytest.raises(UsageError, match="never existed"):
        moments.moment("2024-03-31 02:30:00")
    assert moments.moment("2024-10-27 02:30:00+0200") == datetime(2024, 10, 27, 0, 30, tzinfo=timezone.utc)
    assert moments.moment("2024-10-27 02:30:00+0100") == datetime(2024, 10, 27, 1, 30, tzinfo=timezone.utc)
    assert moments.moment("2024-10-27 01:59:59") == datetime(2024, 10, 26, 23, 59, 59, tzinfo=timezone.utc)
    assert moments.moment("2024-10-27 03:00:00") == datetime(2024, 10, 27, 2, 0, tzinfo=timezone.utc)


def test_a_fraction_of_a_second_is_kept() -> None:
    assert moments.moment("2024-01-15 10:37:00.12+00").microsecond == 120_000
    assert moments.moment("2024-01-15 10:37:00.123456+00").microsecond == 123_456


@pytest.mark.parametrize(
    "text", ["", "yesterday", "13:37", "2024-13-15 13:37", "2024-01-15 13:37:00+99", "0001-01-01 00:00+20"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        moments.moment(text)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("lsn", "0/XY"), ("xid", "-4"), ("xid", "12a"), ("name", ""), ("name", "a\nb"), ("name", "x" * 64)],
)
def test_a_malformed_aim_is_refused_before_anything_is_begun(kind: str, value: str) -> None:
    with pytest.raises(UsageError):
        moments.aim(kind, value)


def _bases(archive: Archive, kind: str, value: str = "") -> list[str]:
    return [attempt.base.name for attempt in recover.attempts(archive, moments.aim(kind, value))]


def test_the_newest_base_backup_before_the_target_is_taken_and_older_ones_should_it_be_bad() -> None:
    assert _bases(WHOLE, "time", "2024-01-15 13:30+00") == ["base1"]
    assert _bases(WHOLE, "time", "2024-01-15 14:00+00") == ["base4", "base1"]
    assert _bases(WHOLE, "lsn", "0/3000000") == ["base1"]
    assert _bases(WHOLE, "lsn", "0/5000000") == ["base4", "base1"]
    assert _bases(WHOLE, "latest") == ["base4", "base1"]
    assert _bases(GAP, "latest") == ["base5"]


def test_for_what_has_no_known_moment_all_are_tried_from_the_newest_on() -> None:
    assert _bases(WHOLE, "name", "before") == ["base4", "base1"]
    assert _bases(WHOLE, "xid", "700") == ["base4", "base1"]


@pytest.mark.parametrize(
    ("archive", "kind", "value", "said"),
    [
        (WHOLE, "time", "2024-01-15 10:59:59+00", "is before the first base backup"),
        (WHOLE, "time", "2024-01-15 16:00:01+00", "is after the last WAL"),
        (GAP, "time", "2024-01-15 14:30+00", "is in a gap"),
        (WHOLE, "lsn", "0/1000000", "is before the first base backup"),
        (WHOLE, "lsn", "0/9000000", "is after the last WAL"),
        (GAP, "lsn", "0/4800000", "is in a gap"),
    ],
)
def test_outside_of_all_windows_the_error_names_them(archive: Archive, kind: str, value: str, said: str) -> None:
    with pytest.raises(NoBackup) as caught:
        recover.attempts(archive, moments.aim(kind, value))
    assert said in caught.value.message
    for line in recoverable.described(archive.windows):
        assert line in caught.value.message


def test_an_archive_that_reaches_to_now_has_nothing_to_complain_of() -> None:
    assert recoverable.complaints(WHOLE, 1, _START + 6 * _HOUR + timedelta(seconds=59)) == []


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (GAP, "between 2024-01-15"),
        (_archive([1], [1, 2, 4], _START + 6 * _HOUR), "WAL is missing after '000000010000000000000002'"),
        (_archive([], [1, 2], _START + 6 * _HOUR), "there is no base backup"),
        (_archive([1], [2, 3], _START + 6 * _HOUR), "there is no base backup with its WAL"),
        (_archive([1], [1, 2], None), "nothing was received yet"),
        (_archive([1], [1, 2], None, trouble="it is paused"), "it is paused"),
        (_archive([1], [1, 2], _START + 3 * _HOUR), "nothing was received since"),
        (_archive([1], [1, 2], _START + 6 * _HOUR, base_trouble="no room"), "no base backup could be made: no room"),
    ],
)
def test_what_is_wrong_is_said(archive: Archive, said: str) -> None:
    now = _START + 6 * _HOUR + timedelta(seconds=61)
    assert any(said in text for text in recoverable.complaints(archive, 1, now))


@pytest.mark.parametrize(("every", "days", "told"), [(1, 2, False), (1, 2.01, True), (7, 8, False), (7, 8.01, True)])
def test_that_nobody_makes_base_backups_is_said_a_day_after_one_was_due(every: int, days: float, told: bool) -> None:
    now = list(WHOLE.names.values())[-1].ended + timedelta(days=days)
    said = [text for text in recoverable.complaints(WHOLE, every, now) if "the newest base backup is from" in text]
    assert len(said) == told


def test_a_base_backup_is_due_when_the_newest_is_old_or_no_use() -> None:
    ended = _START + 4 * _HOUR
    assert base_backup.is_due(WHOLE, 1, ended + timedelta(hours=23)) == ""
    assert base_backup.is_due(WHOLE, 1, ended + timedelta(hours=23, minutes=50))
    assert base_backup.is_due(WHOLE, 2, ended + timedelta(hours=25)) == ""
    assert "WAL is missing" in base_backup.is_due(_archive([1], [1, 2, 4], ended), 1, ended)
    assert base_backup.is_due(_archive([], [1, 2], ended), 1, ended) == "there is no base backup"


@pytest.mark.parametrize(
    ("stop", "aim", "reached", "said"),
    [
        (Stop({"recovery_target_lsn": "0/5"}, 5), moments.aim("lsn", "0/5"), Reached(None, 4), "at 0/4, before 0/5"),
        (Stop(least=9), Aim("latest"), Reached(_START, 8), "WAL is damaged"),
        (Stop(seen=True), moments.aim("time", "2024-01-15 09:59+00"), Reached(_START, 9), "recovery went too far"),
    ],
)
def test_a_recovery_that_has_ended_elsewhere_is_refused(stop: Stop, aim: Aim, reached: Reached, said: str) -> None:
    with pytest.raises(BackupBad) as caught:
        stopping.check(stop, aim, reached)
    assert said in caught.value.message


def test_a_recovery_that_has_ended_where_it_was_to_is_taken() -> None:
    stopping.check(
        Stop({"recovery_target_lsn": "0/5"}, 5, _START, seen=True), moments.aim("time", str(_START)), Reached(None, 6)
    )
    stopping.check(Stop(least=9), Aim("latest"), Reached(_START, 9))
