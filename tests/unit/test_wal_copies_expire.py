"""Which base backups and which WAL at a place expire: what the newest proven ones and the window need stays."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup import wal
from pgbackup.commands.offsite.wal import expire
from pgbackup.formats import wal_copies
from pgbackup.formats.wal_copies import Piece, Series
from pgbackup.remotes.place import Object
from pgbackup.store.offsite.index import Entry
from pgbackup.wal import Segment

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
SIZE = 1 << 20
SERIES = Series(7, SIZE, NOW - timedelta(days=90))
HOST, DIRECTORY = "host-a", "a"


def ago(days: float) -> datetime:
    return (NOW - timedelta(days=days)).replace(microsecond=0)


def base(days: float, segment: int, parent: str = "", *, arrived: float | None = None) -> list[Object]:
    """The files of a base backup that is so old by its name, and begins in that segment."""
    when, there = ago(days), ago(days if arrived is None else arrived)
    below = f"{wal_copies.bases(HOST, DIRECTORY, SERIES)}/{when:%Y%m%dT%H%M%SZ}"
    facts = wal_copies.facts(Segment(1, segment), SIZE, segment * SIZE + 0x100, when, parent)
    return [Object(f"{below}/{file}.age", 10, there) for file in ("base.tar.gz", "backup_manifest", facts)]


def name_of(objects: list[Object]) -> str:
    return objects[0].name.split("/")[-2]


def segment(number: int, days: float) -> Object:
    below = wal_copies.segments(HOST, DIRECTORY, SERIES)
    return Object(f"{below}/{wal_copies.packed(wal.segment_name(Segment(1, number), SIZE))}.age", 10, ago(days))


def part(number: int, days: float) -> Object:
    below = wal_copies.unfinished_of(HOST, DIRECTORY, SERIES, Segment(1, number))
    return Object(f"{below}/{wal_copies.piece(Piece(0, 9, 0, ago(days)))}.age", 9, ago(days))


def sent(objects: Iterable[Object]) -> dict[str, Entry]:
    return {one.name: Entry(one.name, one.bytes, {"sha256": "00"}, 1, NOW.isoformat()) for one in objects}


def gone(
    bases: list[list[Object]],
    segments: list[Object],
    known: Mapping[str, Entry],
    here: Container[str] = (),
    parts: Iterable[Object] = (),
) -> list[str]:
    files = [one for each in bases for one in each]
    held = expire.sorted_out(HOST, DIRECTORY, files, segments, [*parts])
    return [one.name for one in expire.expiring(held, known, here, 7, NOW) if not one.keep]


def of(bases: list[list[Object]]) -> set[str]:
    return {one.name for each in bases for one in each}


def test_what_no_moment_of_the_window_needs_goes_with_the_wal_that_only_it_needs() -> None:
    bases = [base(30, 10), base(20, 20), base(9, 30), base(2, 40)]
    segments = [segment(number, 31 - number * 0.7) for number in range(5, 45)]
    parts = [part(12, 28), part(44, 0)]
    names = gone(bases, segments, sent([*segments, *(one for each in bases for one in each)]), parts=parts)
    assert set(names) == of(bases[:2]) | {
        one.name for one in segments if "wal" in one.name and one in segments[:25]
    } | {parts[0].name}
    assert names[0].endswith(".json.age"), "the record first: without it there is no base backup"
    assert [name for name in names if "/wal/" in name] == [one.name for one in segments[:25]], (
        "behind, the oldest first"
    )


def test_what_an_incremental_one_builds_upon_stays_with_its_wal() -> None:
    first = base(30, 10)
    second = base(9, 20, name_of(first))
    third = base(1, 30, name_of(second))
    segments = [segment(number, 20) for number in range(5, 35)]
    known = sent([*first, *second, *third, *segments])
    assert gone([first, second, third], segments, known) == [one.name for one in segments[:5]]


@pytest.mark.fault(291, "dates in names of base backups that the place contradicts, and forged ones")
def test_names_alone_let_nothing_go() -> None:
    """An attacker who may write makes up newer ones, or a name that is old of what has just come."""
    real = [base(30, 10), base(20, 20), base(10, 30)]
    segments = [segment(number, 30) for number in range(5, 35)]
    known = sent([*segments, *(one for each in real for one in each)])
    forged = [base(3, 90), base(1, 95)]
    assert gone([*real, *forged], segments, known) == [], "no proven one of the last days: nothing goes"
    young = base(400, 5, arrived=1)
    with_new = [*real, base(1, 40)]
    known = sent([*segments, *young, *(one for each in with_new for one in each)])
    assert of([young]).isdisjoint(gone([young, *with_new], segments, known)), "it has just come"
    ahead = base(-300, 99, arrived=1)
    assert gone([*real, ahead], segments, sent([*segments, *ahead, *(one for each in real for one in each)])) == []


@pytest.mark.fault(291, "dates in names of base backups that the place contradicts, and forged ones")
def test_what_was_changed_or_not_sent_stays_with_the_wal_it_needs() -> None:
    bases = [base(30, 10), base(20, 20), base(9, 30), base(2, 40)]
    segments = [segment(number, 29) for number in range(5, 45)]
    everything = sent([*segments, *(one for each in bases for one in each)])
    changed = [Object(one.name, 11, one.modified) for one in bases[0]]
    names = gone([changed, *bases[1:]], segments, everything)
    assert set(names) == of(bases[1:2]) | {one.name for one in segments[:5]}
    without = {name: entry for name, entry in everything.items() if segments[0].name != name}
    assert segments[0].name not in gone(bases, segments, without)


def test_what_is_here_or_has_just_come_stays() -> None:
    bases = [base(30, 10), base(20, 20), base(9, 30), base(2, 40)]
    segments = [*(segment(number, 29) for number in range(5, 8)), segment(8, 1)]
    known = sent([*segments, *(one for each in bases for one in each)])
    here = {name_of(bases[1]), wal.segment_name(Segment(1, 6), SIZE)}
    assert set(gone(bases, segments, known, here)) == of(bases[:1]) | {segments[0].name, segments[2].name}


def test_a_deletion_that_was_cut_off_goes_on() -> None:
    bases = [base(30, 10)[:2], base(9, 30), base(2, 40)]
    known = sent(one for each in bases for one in each)
    assert set(gone(bases, [], known)) == of(bases[:1])
    assert gone([base(0, 50)[:2], *bases[1:]], [], known | sent(base(0, 50)[:2])) == [], "one on its way stays"


@given(
    st.lists(st.tuples(st.integers(-3, 60), st.integers(-3, 60), st.integers(0, 50), st.booleans()), max_size=8),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60)), max_size=30, unique_by=lambda pair: pair[0]),
)
def test_whatever_lies_there_each_base_that_stays_keeps_its_wal(
    bases: list[tuple[int, int, int, bool]], segments: list[tuple[int, int]]
) -> None:
    made = {days: (base(days, number, arrived=arrived), number, known) for days, arrived, number, known in bases}
    files = [each for each, _, _ in made.values()]
    lying = [segment(number, days) for number, days in segments]
    known = sent([*lying, *(one for each, _, known in made.values() if known for one in each)])
    names = set(gone(files, lying, known))
    stay = [number for each, number, _ in made.values() if not {one.name for one in each} & names]
    kept = {number for (number, _), one in zip(segments, lying, strict=True) if one.name not in names}
    assert {number for number, _ in segments if stay and number >= min(stay)} <= kept
    assert stay or not made
    assert not names - known.keys()
