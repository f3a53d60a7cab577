"""State files are read as if a stranger had written them: what they say, or one error that names the file and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup.store import folder
from pgbackup.store.folder import Folder
from pgbackup.store.state import journal, statefile
from pgbackup.store.state.journal import Entry
from pgbackup.store.state.statefile import Unreadable
from pgbackup.store.wal import archive, base_backups, window
from pgbackup.store.wal.archive import Receiver, State
from pgbackup.store.wal.base_backups import BaseBackupRecord

NOW = datetime(2026, 1, 15, 2, tzinfo=timezone.utc)
Held = State | Receiver | BaseBackupRecord | Entry
HELD: list[Held] = [
    State("payment", 7123, "sha256:1", 15, 16 << 20, keep_was_set=True, active=True),
    Receiver(NOW, NOW, "0/3018BE8", "away"),
    Receiver(None, None, ""),
    BaseBackupRecord(7123, 1, "0/2000028", "0/2000100", NOW, "", "sha256:1", 15, {"base": "ab"}, 5, proven=True),
    Entry(NOW, "a.sql.gz", "a_restore_1", "", ["service"], "", swapping=False),
]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Folder]:
    with folder.opened(tmp_path / "place", create=True) as opened:
        yield opened


@pytest.mark.parametrize("held", HELD, ids=lambda held: type(held).__name__)
def test_what_was_written_is_read_also_without_a_version(place: Folder, held: Held) -> None:
    statefile.write(place, "x.json", held)
    assert statefile.read(place, "x.json", type(held)) == held
    assert json.loads((place.path / "x.json").read_bytes())["version"] == statefile.VERSION
    said = statefile.written(held)
    del said["version"]
    (place.path / "x.json").write_text(json.dumps(said))
    assert statefile.read(place, "x.json", type(held)) == held
    assert statefile.read(place, "absent.json", type(held)) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("\n", "it is empty"),
        ('{"a"', "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"version": 2, "new": 1}', "a newer version of this suite wrote it"),
        ('{"version": "1"}', "its version is not a number"),
        ('{"version": true}', "its version is not a number"),
        ("{}", "it lacks the field 'checked'"),
        ('{"checked": 1, "confirmed_time": "", "confirmed_lsn": ""}', "'checked' has a value of the wrong type"),
        ('{"checked": "", "confirmed_time": "", "confirmed_lsn": "", "x": 1}', "unknown field 'x'"),
        ('{"checked": "", "confirmed_time": "2026-01-15T02:00:00", "confirmed_lsn": "0/1"}', "no zone"),
        ('{"checked": "", "confirmed_time": "", "confirmed_lsn": "0/1"}', "a time without a position"),
    ],
)
def test_what_cannot_be_understood_is_named_with_the_reason(place: Folder, text: str, why: str) -> None:
    (place.path / "receiver.json").write_text(text)
    with pytest.raises(Unreadable, match=r"receiver\.json") as refused:
        statefile.read(place, "receiver.json", Receiver)
    assert why in refused.value.message


def test_a_link_and_a_fifo_are_not_followed(place: Folder) -> None:
    (place.path / "target").write_text(json.dumps(statefile.written(HELD[1])))
    (place.path / "receiver.json").symlink_to("target")
    with pytest.raises(Unreadable):
        statefile.read(place, "receiver.json", Receiver)


@pytest.mark.fault(88, "state files of any content")
@given(st.binary(max_size=60) | anything.map(lambda value: json.dumps(value).encode()), st.sampled_from(HELD))
def test_nothing_but_a_reason_comes_out_of_any_file(text: bytes, held: Held) -> None:
    try:
        statefile.parsed(text, type(held))
    except ValueError as error:
        assert str(error)


@given(st.sampled_from(HELD), st.data())
def test_one_field_changed_to_anything_is_taken_or_refused(held: Held, data: st.DataObject) -> None:
    raw = statefile.written(held)
    raw[data.draw(st.sampled_from(sorted(raw)))] = data.draw(anything)
    try:
        made = statefile.parsed(json.dumps(raw).encode(), type(held))
    except ValueError as error:
        assert str(error)
    else:
        if isinstance(made, BaseBackupRecord):
            assert made.ended.utcoffset() is not None
        if isinstance(made, Receiver) and made.confirmed:
            assert made.confirmed.time.utcoffset() is not None


def _places(tmp_path: Path) -> Path:
    with archive.opened(tmp_path, "payment", create=True) as places:
        archive.write_state(places, HELD[0])  # type: ignore[arg-type]
    return tmp_path / "pitr" / "payment"


def test_a_receivers_file_that_cannot_be_read_is_its_trouble_and_is_written_anew(tmp_path: Path) -> None:
    path = _places(tmp_path)
    (path / "receiver.json").write_bytes(b"")
    with archive.opened(tmp_path, "payment", create=False) as places:
        told = archive.read_receiver(places)
        assert told is not None
        assert told.confirmed is None
        assert "receiver.json" in told.trouble
        archive.write_receiver(places, HELD[1])  # type: ignore[arg-type]
        assert archive.read_receiver(places) == HELD[1]


def test_base_backups_that_name_each_other_as_parents_open_no_window(tmp_path: Path) -> None:
    path = _places(tmp_path)
    for name, parent in (("20260115T020000Z", "20260116T020000Z"), ("20260116T020000Z", "20260115T020000Z")):
        (path / "base" / name).mkdir(mode=0o700)
        (path / "base" / name / "base.json").write_text(json.dumps({**statefile.written(HELD[3]), "parent": parent}))
    with archive.opened(tmp_path, "payment", create=False) as places:
        found, wrong = base_backups.listing(places.base, 16 << 20)
    assert len(found) == 2
    assert wrong == {}
    assert window.windows([base for base, _ in found.values()], {}, {}, None) == []


def test_a_journal_of_a_newer_version_is_not_taken_for_none(place: Folder) -> None:
    journal.write(place, "owner", HELD[4])  # type: ignore[arg-type]
    (file,) = place.path.iterdir()
    file.write_text(file.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(Unreadable, match="newer version"):
        journal.read(place, "owner")
