"""The index of copies at a place: which part comes next, what is signed, and what of it is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pgbackup.store import folder
from pgbackup.store.folder import Folder
from pgbackup.store.offsite import index, parts, signing
from pgbackup.store.offsite.index import Entry

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Folder]:
    with folder.opened(tmp_path / "own", create=True) as made:
        yield made


def entry(number: int) -> Entry:
    return Entry(f"host-a/dumps/a/{number}", number, {"sha256": f"{number:064x}"}, number, "2026-03-01T12:00:00+00:00")


def lines_of(own: Folder, count: int) -> list[bytes]:
    index.extend(own, "dumps", index.read(own, "dumps"), [entry(number) for number in range(count)])
    return index.lines_between(own, "dumps", "", "")


def test_many_lines_are_one_chain_and_what_is_new_is_what_follows(own: Folder) -> None:
    lines = lines_of(own, 5)
    before = index.read(own, "dumps").tip
    index.append(own, "dumps", index.read(own, "dumps"), entry(9))
    assert [index.parsed(line)[0] for line in index.lines_between(own, "dumps", before, "")] == [entry(9)]
    assert len(index.lines_between(own, "dumps", "a hash that is not there", "")) == len(lines) + 1
    tip = index.read(own, "dumps").tip
    assert index.lines_between(own, "dumps", "", before) == lines
    with (own.path / "index-dumps.jsonl").open("ab") as file:
        file.write(b"x" * 5000)  # a line that was cut off
    assert index.tip(own, "dumps") == tip and index.tip(own, "wal") == index.FIRST
    assert list(index.read(own, "dumps").entries) == [entry(number).name for number in (0, 1, 2, 3, 4, 9)]


def test_a_part_holds_what_is_new_and_now_and_then_one_is_whole() -> None:
    assert parts.next_part("dumps", parts.State(), index.FIRST, NOW) is None
    first = parts.next_part("dumps", parts.State(), "aa", NOW)
    assert first == parts.State(1, "aa", 0, NOW)
    assert parts.next_part("dumps", first, "aa", NOW) is None
    state, whole = first, []
    for number in range(120):
        state = parts.next_part("dumps", state, f"tip {number}", NOW + timedelta(hours=number)) or pytest.fail("none")
        whole += [state.number] * (state.since == 0)
    assert state.number == 121 and whole == [52, 103]
    assert (parts.next_part("dumps", first, "bb", NOW + timedelta(days=31)) or first).since == 0
    assert (parts.next_part("dumps", first, "bb", NOW - timedelta(days=1)) or first).since == 0, (
        "a clock that was set back"
    )


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_only_what_follows_from_the_first_line_is_believed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever parts are gone, doubled or come whole again: an entry counts only with all lines before it."""
    with folder.opened(tmp_path_factory.mktemp("index") / "own", create=True) as own:
        lines = lines_of(own, 8)
    spans = data.draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=8))
    given_parts = [(f"{start}-{end}", b"".join(line + b"\n" for line in lines[start:end])) for start, end in spans]
    entries, loose = parts.believed(given_parts)
    reached = 0
    for start, end in spans:
        if start <= reached and end > start:
            reached = max(reached, end)
    assert entries == [entry(number) for number in range(reached)]
    tips = [hashlib.sha256(line).hexdigest() for line in lines]
    given_lines = [data for _, data in given_parts]
    assert [parts.reach(given_lines, tip) for tip in tips] == [number < reached for number in range(8)]
    assert set(loose) <= {f"{start}-{end}" for start, end in spans if end > reached and start < end}


@pytest.mark.fault(187, "parts of the index that are changed, cut, forged, of another key, or gone")
@pytest.mark.parametrize("change", [b"", b"{}\n", b"x", b'{"version": 2}\n', b"\xff\n"])
def test_lines_of_any_other_content_follow_nothing(own: Folder, change: bytes) -> None:
    lines = lines_of(own, 3)
    whole = b"".join(line + b"\n" for line in lines)
    assert len(parts.believed([("a", whole)])[0]) == 3
    changed = whole.replace(b'"bytes":1', b'"bytes":7', 1) if not change else whole + change
    assert parts.believed([("a", changed)]) == ([], ["a"])


@pytest.mark.fault(187, "parts of the index that are changed, cut, forged, of another key, or gone")
def test_a_signature_holds_for_its_key_and_its_bytes_alone(own: Folder, tmp_path: Path) -> None:
    assert signing.public(own) is None
    key = signing.made(own)
    assert signing.made(own) == key == signing.parsed(f"  {key} a comment ") == signing.parsed(key.split()[1])
    assert (own.path / signing.KEY).stat().st_mode & 0o077 == 0
    made = signing.signature(own, b"lines\n")
    assert parts.split(b"lines\n" + made) == (b"lines\n", made)
    assert signing.is_by(key, b"lines\n", made)
    assert not signing.is_by(key, b"lines\nmore\n", made)
    assert not signing.is_by(key, b"lines\n", b"")
    assert not signing.is_by(key, b"lines\n", made[:-60] + made[-40:])
    with folder.opened(tmp_path / "another", create=True) as another:
        other = signing.made(another)
        assert other != key and signing.short(other) != signing.short(key)
        assert not signing.is_by(other, b"lines\n", made)
        assert not signing.is_by(key, b"lines\n", signing.signature(another, b"lines\n"))


@pytest.mark.parametrize(
    "text", ["", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIx"]
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="public half of an ed25519 key"):
        signing.parsed(text)
