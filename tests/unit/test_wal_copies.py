"""The names of copies of WAL, what goes first, and how the next part of an unfinished segment begins."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup.commands.offsite.wal import deciding
from pgbackup.commands.offsite.wal.deciding import Growing
from pgbackup.errors import IoFailed
from pgbackup.formats import wal_copies
from pgbackup.formats.wal_copies import Piece, Series
from pgbackup.store import folder
from pgbackup.store.offsite import batch, lag
from pgbackup.wal import Segment

NOW = datetime(2026, 1, 31, 2, 0, 5, tzinfo=timezone.utc)
SIZE = 16 << 20
SERIES = Series(7_312_345_678_901_234_567, SIZE, NOW)


def test_names_say_what_they_are_made_of() -> None:
    assert str(SERIES) == "7312345678901234567-16-20260131T020005Z"
    assert wal_copies.parse_series(str(SERIES)) == SERIES
    name = wal_copies.facts(Segment(2, 0x105), SIZE, 0x105000110, NOW, "20260130T020000Z")
    assert wal_copies.parse_facts(name + ".age", SIZE) == wal_copies.Facts(
        Segment(2, 0x105), 0x105000110, NOW, "20260130T020000Z"
    )
    late = wal_copies.parse_facts(wal_copies.facts(Segment(1, 1), SIZE, 1, NOW + timedelta(microseconds=1), ""), SIZE)
    assert late and late.ended == NOW + timedelta(seconds=1) and late.parent == "", "never before it was whole"
    piece = Piece(0, 300, 0x105000100, NOW)
    assert wal_copies.parse_piece(wal_copies.piece(piece) + ".age") == piece
    assert wal_copies.unfinished_of("host", "dir", SERIES, Segment(1, 5)).endswith("/000000010000000000000005")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "7-16",
        "7-17-20260131T020005Z",
        "7-2048-20260131T020005Z",
        "7-16-20261331T020005Z",
        "../7-16-20260131T020005Z",
    ],
)
def test_what_is_no_series_is_passed_over(name: str) -> None:
    assert wal_copies.parse_series(name) is None


@given(st.text(max_size=80))
def test_any_name_is_read_without_a_failure(name: str) -> None:
    wal_copies.parse_series(name)
    wal_copies.parse_piece(name)
    wal_copies.parse_facts(name, SIZE)
    wal_copies.unpacked(name)


def test_what_leads_from_the_newest_base_backup_to_now_goes_first() -> None:
    missing: dict[str, Segment | None] = {f"{number:02}": Segment(1, number) for number in (7, 3, 9, 8, 2)}
    assert deciding.ordered({**missing, "h": None}, 7) == ["h", "07", "08", "09", "03", "02"]
    assert deciding.ordered(missing, None) == ["02", "03", "07", "08", "09"]


@given(st.lists(st.integers(1, 1000), max_size=400))
def test_the_parts_of_a_segment_have_no_gap_and_no_long_chain(more: list[int]) -> None:
    segment, growing, end = Segment(1, 5), None, 0
    chain: list[tuple[int, int]] = []
    for bytes_ in more:
        begin, end = deciding.next_begin(growing, segment), end + bytes_
        assert begin == 0 or begin == chain[-1][1]
        chain = [(begin, end)] if begin == 0 else [*chain, (begin, end)]
        growing = deciding.grown(growing, segment, begin, end)
        assert len(chain) <= 120
    assert deciding.next_begin(growing, Segment(1, 6)) == 0
    assert growing is None or growing == Growing(segment, end, len(chain))


def test_a_place_that_failed_rests_for_seconds_and_never_for_long() -> None:
    pauses = [lag.pause(failures).total_seconds() for failures in range(12)]
    assert pauses[:4] == [0, 5, 10, 20] and pauses == sorted(pauses) and pauses[-1] == 600


def _abc(into: BinaryIO) -> None:
    into.write(b"abc")


def test_a_batch_that_is_not_whole_is_none(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with folder.opened(tmp_path, create=True) as spool:
        made = batch.add(spool, "host/wal/a/b.gz", 3, _abc)
        assert batch.left(spool) == [], "it was not journalled"
        made = batch.add(spool, "host/wal/a/b.gz", 3, _abc)
        batch.journal(spool, [made])
        assert batch.left(spool) == [made] and made.bytes == 3
        (batch.directory(spool) / made.name).write_bytes(b"abd")
        assert batch.left(spool) == [] and [path for path in tmp_path.rglob("*") if path.is_file()] == []
        with pytest.raises(IoFailed, match="no room"):
            batch.add(spool, "host/wal/a/b.gz", 1 << 60, _abc)


@pytest.mark.parametrize("name", ["../x", "a//b", "/etc/x", "a/./b"])
def test_a_journal_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    tmp_path.chmod(0o700)
    with folder.opened(tmp_path, create=True) as spool:
        (tmp_path / "batch.json").write_text(f'{{"version": 1, "objects": {{"{name}": "3 a b 3"}}}}')
        assert batch.left(spool) == []
