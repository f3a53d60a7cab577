"""Files that were damaged, cut or lengthened: rows 21 and 22 of the table of faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from tests.integration.faults.conftest import Dumps
from tests.support import backup_files, damage
from tests.support.backup_files import rejected
from tests.support.effort import FULL
from tests.support.mutants import mutant

Tries = Callable[[int, int], int]
Note = Callable[..., None]
PROCESSES = len(os.sched_getaffinity(0))
READERS = ["isal", "standard library"]
EVERYTHING = 10**9


@pytest.fixture(scope="module")
def small(dumps: Dumps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "backup"
    path.write_bytes(backup_files.contents(dumps.small))
    assert path.stat().st_size <= 4096
    return path


@pytest.fixture(scope="module")
def large(dumps: Dumps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "backup"
    path.write_bytes(backup_files.contents(dumps.large))
    assert path.stat().st_size >= (50_000_000 if FULL else 2_500_000)
    return path


def undetected(
    path: Path, kind: str, count: int, reader: str = "isal", *, exhaustive: bool = False
) -> tuple[int, list[str]]:
    """Try damages of a kind in one process for each processor; return how many were tried and which were not found."""
    without = ["--without-isal"] if reader != "isal" else []
    share = [-(-count // PROCESSES), *([PROCESSES] if exhaustive else [])]
    running = []
    for number in range(PROCESSES):
        words = [kind, 0 if exhaustive else 1000 + number, *share, *([number] if exhaustive else [])]
        command = [sys.executable, damage.__file__, str(path), *map(str, words), *without]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    said = [json.loads(process.communicate()[0]) for process in running]
    assert {one["module"] for one in said} == {"zlib" if without else "isal.isal_zlib"}
    return sum(one["tried"] for one in said), [what for one in said for what in one["missed"]]


def note(expected: Note, survived: Note, row: int, fault: str, tried: int, missed: list[str]) -> None:
    expected(row, fault, tried)
    survived(row, fault, tried - len(missed))
    assert tried, "nothing was tried"
    assert not missed, f"{len(missed)} of {tried} damages were not found: {missed[:5]}"


@pytest.mark.parametrize("reader", READERS)
def test_every_flipped_bit_of_a_small_backup_is_found(small: Path, reader: str, expected: Note, survived: Note) -> None:
    tried, missed = undetected(small, "every-bit", EVERYTHING, reader, exhaustive=True)
    assert tried == small.stat().st_size * 8
    note(expected, survived, 21, f"every bit of a small backup flipped ({reader})", tried, missed)


@pytest.mark.parametrize(("reader", "short", "full"), [(READERS[0], 60, 10_000), (READERS[1], 10, 1_000)])
def test_a_flipped_bit_of_a_large_backup_is_found(
    large: Path, reader: str, short: int, full: int, tries: Tries, expected: Note, survived: Note
) -> None:
    tried, missed = undetected(large, "random-bits", tries(short, full), reader)
    note(expected, survived, 21, f"a random bit of a large backup flipped ({reader})", tried, missed)


@pytest.mark.parametrize(("reader", "short", "full"), [(READERS[0], 60, 2_000), (READERS[1], 10, 200)])
def test_blocks_zeroed_swapped_doubled_or_missing_are_found(
    large: Path, reader: str, short: int, full: int, tries: Tries, expected: Note, survived: Note
) -> None:
    tried, missed = undetected(large, "blocks", tries(short, full), reader)
    note(expected, survived, 21, f"4 KiB blocks zeroed, swapped, doubled, missing ({reader})", tried, missed)


@pytest.mark.parametrize("reader", READERS)
def test_every_length_that_a_small_backup_can_be_cut_to_is_found(
    small: Path, reader: str, expected: Note, survived: Note
) -> None:
    tried, missed = undetected(small, "every-length", EVERYTHING, reader, exhaustive=True)
    assert tried == small.stat().st_size
    note(expected, survived, 22, f"a small backup cut to every length ({reader})", tried, missed)


@pytest.mark.parametrize(("reader", "short", "full"), [(READERS[0], 60, 2_000), (READERS[1], 10, 200)])
def test_a_large_backup_cut_anywhere_is_found(
    large: Path, reader: str, short: int, full: int, tries: Tries, expected: Note, survived: Note
) -> None:
    tried, missed = undetected(large, "random-lengths", tries(short, full), reader)
    note(expected, survived, 22, f"a large backup cut to random lengths ({reader})", tried, missed)


@pytest.mark.parametrize("reader", READERS)
def test_a_large_backup_cut_at_an_edge_is_found(
    large: Path, reader: str, tries: Tries, expected: Note, survived: Note
) -> None:
    tried, missed = undetected(large, "edges", tries(60, EVERYTHING), reader, exhaustive=True)
    note(expected, survived, 22, f"cut at member, block and marker edges ({reader})", tried, missed)


@pytest.mark.parametrize("reader", READERS)
def test_anything_behind_the_end_is_found(
    small: Path, large: Path, reader: str, expected: Note, survived: Note
) -> None:
    for path in (small, large):
        tried, missed = undetected(path, "tails", EVERYTHING, reader, exhaustive=True)
        note(expected, survived, 22, f"zeros, noise or text behind the end ({reader})", tried, missed)


def test_empty_and_tiny_files_are_rejected(dumps: Dumps, expected: Note, survived: Note) -> None:
    nothing = [b"", backup_files.by_hand(b"")[:20], backup_files.by_hand(b""), bytes(20), b"\x1f\x8b", dumps.small]
    expected(22, "0 B, 20 B, an empty dump compressed, no gzip", len(nothing))
    for data in nothing:
        assert rejected(data)
        survived(22, "0 B, 20 B, an empty dump compressed, no gzip")


def test_a_file_made_by_hand_is_good_whole_and_rejected_at_every_other_length(
    dumps: Dumps, expected: Note, survived: Note
) -> None:
    data = backup_files.by_hand(dumps.small)
    assert rejected(data) == ""
    for fault, cut in (
        ("a file made by hand cut to every length", [data[:length] for length in range(len(data))]),
        (
            "a dump cut to every length, then compressed by hand",
            [backup_files.by_hand(dumps.small[:length]) for length in range(len(dumps.small))],
        ),
        (
            "a dump cut to every length, with a manifest that fits",
            [backup_files.contents(dumps.small[:length]) for length in range(len(dumps.small))],
        ),
    ):
        expected(22, fault, len(cut))
        for piece in cut:
            assert rejected(piece), f"{len(piece)} bytes of it are good"
            survived(22, fault)


MUTANTS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "compares no hash": ("every-bit", [("said.gzip_bytes != dump_bytes or said.sha256 != sha256", "False")]),
    "asks for no promised manifest": (
        "every-length",
        [("if not found and manifest.is_promised(descriptor):", "if False:")],
    ),
    "does not ask whether the dump ended": (
        "every-length",
        [
            ("if not found and manifest.is_promised(descriptor):", "if False:"),
            ("if not inflater.eof:", "if False:"),
            ("if not self.scanner.complete:", "if False:"),
        ],
    ),
    "reads the first member only": (
        "tails",
        [
            ("if not found and manifest.is_promised(descriptor):", "if False:"),
            ("inflater.unused_data if inflater.eof", "b'' if inflater.eof"),
        ],
    ),
    "hashes the first part only": (
        "random-bits",
        [
            ("self._digest.update(data)", "position == len(data) and self._digest.update(data)"),
            ("said.gzip_bytes != dump_bytes or said.sha256 != sha256", "False"),
        ],
    ),
}


# What stands in gzipped.py.
INFLATING = ("if not inflater.eof:", "inflater.unused_data if inflater.eof")


@pytest.mark.parametrize("bug", MUTANTS if FULL else ["compares no hash", "asks for no promised manifest"])
def test_a_broken_reader_is_seen_by_these_tests(bug: str, small: Path) -> None:
    kind, changes = MUTANTS[bug]
    inner = [change for change in changes if change[0] in INFLATING]
    broken = mutant("pgbackup.formats.dumpfile", *(change for change in changes if change not in inner))
    vars(broken)["inflated"] = mutant("pgbackup.formats.gzipped", *inner).inflated
    original = small.read_bytes()
    _, written = backup_files.first_member(backup_files.dump())
    told = damage.damages(kind, original, 1, written.gzip_bytes)
    tried, missed = damage.missed(original, islice(told, 20_000), broken.check)
    assert missed, f"no error found in {tried} tries: the test is broken"
