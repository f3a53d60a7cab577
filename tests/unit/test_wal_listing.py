"""What a place lists of WAL is sorted out by names, and nothing that a stranger wrote there is taken for more."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup.commands.elsewhere.wal import listing
from pgbackup.commands.elsewhere.wal.listing import Part
from pgbackup.errors import NoBackup
from pgbackup.formats import wal_copies
from pgbackup.formats.wal_copies import Piece, Series
from pgbackup.remotes.place import Object
from pgbackup.wal import Segment

NOW = datetime(2026, 1, 31, 2, tzinfo=timezone.utc)
SIZE = 16 << 20
SERIES = Series(7, SIZE, NOW)
BASES, SEGMENTS = wal_copies.bases("h", "d", SERIES), wal_copies.segments("h", "d", SERIES)


def there(name: str, size: int = 10, modified: datetime = NOW) -> Object:
    return Object(name, size, modified)


def part(begin: int, end: int) -> Part:
    name = wal_copies.piece(Piece(begin, end, 0, NOW))
    return Part(Piece(begin, end, 0, NOW), there(name))


def base(name: str = "20260131T010000Z") -> list[Object]:
    facts = wal_copies.facts(Segment(1, 5), SIZE, 5 * SIZE + 99, NOW, "")
    return [there(f"{BASES}/{name}/{file}.age") for file in ("base.tar.gz", "backup_manifest", facts)]


def test_a_base_backup_without_its_record_or_manifest_is_none() -> None:
    whole, second = base(), base("20260131T013000Z")
    found = listing.listed("h", "d", SERIES, [*whole, *second[:2]], [])
    assert list(found.bases) == ["20260131T010000Z"]
    assert "not copied whole" in found.wrong["20260131T013000Z"]
    assert found.bases["20260131T010000Z"].facts.began == Segment(1, 5)
    lacking = listing.listed("h", "d", SERIES, [whole[0], whole[2]], [])
    assert lacking.bases == {} and "backup_manifest" in lacking.wrong["20260131T010000Z"]
    twice = there(whole[2].name.replace("-full", "-20260130T010000Z"))
    assert "several records" in listing.listed("h", "d", SERIES, [*whole, twice], []).wrong["20260131T010000Z"]


def test_what_is_no_segment_or_too_large_is_passed_over() -> None:
    names = ["000000010000000000000005.gz.age", "00000002.history.gz.age", "x", "000000010000000000000005.age"]
    objects = [there(f"{SEGMENTS}/{name}") for name in names]
    objects.append(there(f"{SEGMENTS}/000000010000000000000006.gz.age", size=1 << 40))
    found = listing.listed("h", "d", SERIES, [], objects)
    assert list(found.segments) == [Segment(1, 5)] and list(found.histories) == [2]
    assert len(found.passed_over) == 3


def test_a_series_that_says_it_is_newer_than_it_can_be_is_not_the_newest() -> None:
    forged = Series(7, SIZE, NOW + timedelta(days=300))
    older = Series(7, SIZE, NOW - timedelta(days=30))
    objects = [there(f"{wal_copies.bases('h', 'd', one)}/20260131T010000Z/x") for one in (SERIES, forged, older)]
    known = listing.series_of("h", "d", [*objects, there("h/base/d/nonsense/x")])
    assert list(known) == [forged, older, SERIES]
    assert listing.chosen(known, None, "s3", "auth") == SERIES
    assert listing.chosen(known, str(older), "s3", "auth") == older
    for asked in ("another", None):
        with pytest.raises(NoBackup, match="there is no"):
            listing.chosen(known if asked else {}, asked, "s3", "auth")


def test_parts_lead_as_far_as_they_go_on() -> None:
    parts = [part(0, 100), part(100, 200), part(200, 300), part(400, 500), part(0, 150), part(150, 160)]
    assert [one.piece.end for one in listing.chain(parts)] in ([150, 200, 300], [100, 200, 300], [150, 160, 200, 300])
    assert listing.chain([part(100, 200)]) == []
    assert listing.chain([]) == []


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=30))
def test_a_chain_has_no_gap_and_nothing_leads_further(spans: list[tuple[int, int]]) -> None:
    parts = [part(begin, begin + length) for begin, length in spans]
    found = listing.chain(parts)
    end = 0
    for one in found:
        assert one.piece.begin <= end < one.piece.end or one.piece.begin == 0
        end = one.piece.end
    reach = 0
    while further := [one.piece.end for one in parts if one.piece.begin <= reach < one.piece.end]:
        reach = max(further)
    assert end == reach
