"""A WAL archive with anything in its files: whoever looks at it is told, in words that name the file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pgbackup import wal
from pgbackup.commands import base_backup
from pgbackup.errors import BackupBad, SuiteError
from pgbackup.formats.cluster import timelines
from pgbackup.report import history
from pgbackup.store.state import statefile
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal import base_backups, receiving, recoverable, segments
from pgbackup.store.wal.archive import Places, Receiver, State
from pgbackup.store.wal.base_backups import BaseBackupRecord

from tests.unit.test_statefile import anything

NOW = datetime(2026, 1, 31, 2, tzinfo=timezone.utc)
STATE = State("payment", 7, "sha256:1", 15, 16 << 20, keep_was_set=False, active=True)
SAID = b"1\t0/5000000\tno recovery target specified\n"
SECOND = "00000002.history"


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    with walarchive.opened(tmp_path, "payment", create=True) as opened:
        _fill(opened)
        yield opened


def _fill(places: Places) -> None:
    walarchive.write_state(places, STATE)
    walarchive.write_receiver(places, Receiver(NOW, NOW, "0/5000010"))
    for day in (1, 2):
        ended = NOW - timedelta(days=3 - day)
        record = BaseBackupRecord(
            7, 1, f"0/{day}000028", f"0/{day}000100", ended, "", "sha256:1", 15, {"base": "ab"}, 5, proven=True
        )
        path = places.base.path / f"2026013{day}T020000Z"
        path.mkdir(mode=0o700, exist_ok=True)
        (path / "base.json").write_text(json.dumps(statefile.written(record)))
    for number in range(1, 6):
        (places.wal.path / (wal.segment_name(wal.Segment(1, number)) + ".gz")).touch()


def _told(places: Places) -> list[str]:
    archive = recoverable.look(places)
    return [*recoverable.described(archive.windows), *recoverable.complaints(archive, 1, NOW)]


FILES = ["archive.json", "receiver.json", "base/20260131T020000Z/base.json", "base/20260132T020000Z/base.json"]
HOSTILE: list[Any] = [
    None,
    True,
    -1,
    0,
    1 << 30,
    1 << 64,
    1.5,
    [],
    {},
    {"base": 1},
    {"a/b": "c"},
    "",
    "-x",
    "\ud800",
    "0/0",
]
HOSTILE += ["FFFFFFFF/FFFFFFFF", "20260131T020000Z", "20260132T020000Z", "../20260131T020000Z", "2026-01-30T02:00:00"]
HOSTILE += ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "3000-01-01T00:00:00+00:00"]


def _only_words_come_out(places: Places, file: str) -> None:
    try:
        told = _told(places)
    except SuiteError as error:
        told = [error.message, error.hint or ""]
        assert file.rpartition("/")[2] in error.message
    assert "\n".join(told).encode()


@pytest.mark.fault(88, "state files of an archive, each field with a hostile value")
@pytest.mark.parametrize("file", FILES)
def test_only_words_come_out_of_an_archive_with_any_value_in_any_field(places: Places, file: str) -> None:
    path = places.top.path / file
    whole = json.loads(path.read_text())
    for field in [*whole, "version", "more"]:
        for value in HOSTILE:
            path.write_text(json.dumps({**whole, field: value}))
            _only_words_come_out(places, file)


@pytest.mark.fault(88, "state files of an archive with any bytes in them")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(FILES), st.binary(max_size=40) | anything.map(lambda value: json.dumps(value).encode()))
def test_only_words_come_out_of_an_archive_with_any_file_in_it(places: Places, file: str, content: bytes) -> None:
    _fill(places)
    (places.top.path / file).write_bytes(content)
    _only_words_come_out(places, file)


# --- histories


def _flipped(data: bytes) -> bytes:
    return data[:12] + bytes([data[12] ^ 8]) + data[13:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _data: b"",
    "cut": lambda data: data[:-5],
    "a bit flipped": _flipped,
    "holds nothing": lambda _data: gzip.compress(b""),
    "holds something else": lambda _data: gzip.compress(b"hello\n"),
    "is its own parent": lambda _data: gzip.compress(SAID.replace(b"1\t", b"2\t")),
}


@pytest.mark.fault(90, "a history file that is damaged")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_history_is_named_and_a_whole_one_beside_it_is_used(places: Places, damage: str) -> None:
    archived = places.wal.path / f"{SECOND}.gz"
    archived.write_bytes(DAMAGES[damage](gzip.compress(SAID)))
    for ask in (lambda: recoverable.look(places), lambda: walarchive.hand_out(places, STATE, SECOND)):
        with pytest.raises(BackupBad, match=SECOND):
            ask()
    (places.receiving.path / SECOND).write_bytes(SAID)
    assert walarchive.histories(places) == {2: timelines.parse_history(SAID.decode())}
    assert walarchive.hand_out(places, STATE, SECOND) == SAID
    receiving.put_away(places, STATE)
    assert gzip.decompress(archived.read_bytes()) == SAID


def test_a_damaged_history_with_the_receiver_is_fetched_anew_and_spoils_no_other(places: Places) -> None:
    segments.store(places.wal, SECOND, lambda: [SAID])
    (places.receiving.path / SECOND).write_bytes(b"")
    receiving.put_away(places, STATE)
    assert walarchive.hand_out(places, STATE, SECOND) == SAID
    receiving.drop_blank(places, STATE.segment_bytes)
    assert list(places.receiving.path.iterdir()) == []


def test_a_damaged_segment_is_not_replaced_by_an_unfinished_one(places: Places) -> None:
    name = wal.segment_name(wal.Segment(1, 3))
    (places.wal.path / f"{name}.gz").write_bytes(b"\x1f\x8b damaged")
    (places.receiving.path / f"{name}.partial").write_bytes(b"x" * 100)
    with pytest.raises(BackupBad, match=f"{name}.gz' is bad"):
        walarchive.hand_out(places, STATE, name)


# --- what may be in the way


def test_an_expired_base_backup_goes_though_an_earlier_one_could_not_be_removed_whole(places: Places) -> None:
    left = places.base.path / ".new-expired-20260131T020000Z"
    left.mkdir()
    (left / "held").touch()
    base_backups.remove(places.base, "20260131T020000Z")
    assert not (places.base.path / "20260131T020000Z").exists()


def test_lines_of_the_history_of_restores_that_are_none_are_passed_over(places: Places) -> None:
    whole = '{"target": "payment"}'
    (places.top.path / history.NAME).write_text(f'{whole}\n\n{{"a"\n[1]\n{"[" * 100_000}\n{whole}\n')
    assert history.newest(places.top, bool, 9) == [{"target": "payment"}] * 2


# --- clocks


@pytest.mark.parametrize(
    ("checked", "confirmed", "said"),
    [
        (NOW, NOW, ""),
        (NOW, NOW - timedelta(seconds=30), ""),
        (NOW, NOW + timedelta(hours=1), ""),
        (NOW, NOW - timedelta(seconds=90), "nothing was received since"),
        (NOW - timedelta(seconds=90), NOW + timedelta(days=400), "nothing was received since"),
        (NOW + timedelta(days=400), NOW + timedelta(days=400), "later than now"),
    ],
)
def test_a_receiver_that_is_away_is_told_whatever_the_clocks_said(
    places: Places, checked: datetime, confirmed: datetime, said: str
) -> None:
    walarchive.write_receiver(places, Receiver(checked, confirmed, "0/5000010"))
    found = recoverable.behind(recoverable.look(places), NOW)
    assert [said in one for one in found] == [True] * bool(said)


def test_a_base_backup_that_is_dated_later_than_now_keeps_no_other_from_being_made(places: Places) -> None:
    archive = recoverable.look(places)
    assert base_backup.is_due(archive, 7, NOW) == ""
    for earlier in (NOW - timedelta(days=30), NOW - timedelta(days=4)):
        assert "later than now" in base_backup.is_due(archive, 7, earlier)
        assert any("later than now" in one for one in recoverable.complaints(archive, 7, earlier))
    assert base_backup.is_due(archive, None, NOW - timedelta(days=30)) == ""
