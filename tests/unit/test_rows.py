"""Rows of COPY are cut where a row ends, and nowhere else, however they come."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pgbackup.sql.rows import Cutter, Run

FIELDS = st.sampled_from(["", "a", "\\N", "\\\\", "\\.", "\\n", "\\t", "é", "x" * 40, "\\\\N", ".", "-- x", "; \\! id"])
ROWS = st.lists(st.lists(FIELDS, min_size=1, max_size=3).map("\t".join), max_size=25)


def pieces_of(text: bytes, sizes: list[int], piece_bytes: int, *, cuts: bool = True) -> tuple[list[bytes], list[Run]]:
    """The pieces that come out when the text goes in by those sizes again and again."""
    cutter, runs, at = Cutter(piece_bytes, cuts=cuts), [], 0
    for size in itertools.cycle(sizes):
        if at >= len(text):
            break
        runs += list(cutter.take(text[at : at + size]))
        at += size
    runs += list(cutter.finish())
    pieces: list[bytes] = []
    for run in runs:
        assert run.begins == (not pieces or pieces[-1] == b"ended"), runs
        pieces = pieces[:-1] if run.begins and pieces else pieces
        pieces = [*pieces, b"".join(run.texts)] if run.begins else [*pieces[:-1], pieces[-1] + b"".join(run.texts)]
        pieces = [*pieces, b"ended"] if run.ends else pieces
    assert pieces[-1] == b"ended"
    return pieces[:-1], runs


@pytest.mark.fault(240, "rows cut into pieces, any rows, anywhere")
@given(ROWS, st.lists(st.integers(1, 60), min_size=1, max_size=5), st.integers(1, 90), st.booleans())
@example(["\\\\", "\\\\", "\\\\"], [1], 1, False)
def test_every_piece_is_made_of_whole_rows(rows: list[str], sizes: list[int], piece_bytes: int, lone: bool) -> None:
    """lone: a newline in the data that a backslash makes one of a value, as pg_dump never writes it."""
    ends = ["\\\n" if lone and number % 3 == 1 else "\n" for number in range(len(rows))]
    ends[-1:] = ["\n"] * bool(rows)
    text = "".join(row + end for row, end in zip(rows, ends, strict=True)).encode()
    pieces, runs = pieces_of(text, sizes, piece_bytes)
    assert b"".join(pieces) == text
    for piece in pieces[:-1]:
        assert piece.endswith(b"\n") and not piece.endswith(b"\\\n")
        assert len(piece) >= min(piece_bytes, len(text))
    assert not any(run.whole for run in runs if len(pieces) > 1)
    assert runs[0].whole or len(text) >= piece_bytes
    assert b"" not in pieces or len(pieces) == 1


def test_no_more_is_held_than_a_piece() -> None:
    cutter = Cutter(100, cuts=True)
    given = sum(len(text) for _ in range(1000) for run in cutter.take(b"x" * 30) for text in run.texts)
    assert given > 29_800


def test_a_table_with_carriage_returns_stays_whole() -> None:
    text = b"1\r\n" * 500
    pieces, runs = pieces_of(text, [7], 20)
    assert pieces == [text]
    assert all(run.whole for run in runs)
    assert pieces_of(b"1\n" * 500, [7], 20, cuts=False)[0] == [b"1\n" * 500]


def test_an_empty_table_is_one_piece_without_rows() -> None:
    assert pieces_of(b"", [1], 20)[1] == [Run([], begins=True, ends=True, whole=True)]


@pytest.mark.parametrize("size", [1, 3, 64])
def test_pieces_are_about_as_long_as_they_are_to_be(size: int) -> None:
    pieces, _ = pieces_of(b"123456\n" * 1000, [size], 70)
    assert {len(piece) for piece in pieces} == {70}
    assert not re.search(rb"[^\n]\Z", b"".join(pieces))
