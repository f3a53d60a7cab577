"""WAL archives that are damaged in every way: rows 61 to 64, 80 and 81 of the table of faults.

A gap that nobody sees would be the worst of all: what cannot be recovered is told, and never silently left out.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support import archives
from tests.support.archive_damage import BASE_DAMAGE, SEGMENT_DAMAGE, cut
from tests.support.archives import Lab, found, rows
from tests.support.effort import chosen, wide

Note = Callable[..., None]
ROWS = 500
SEGMENTS = 10


@pytest.fixture(scope="module")
def lab(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An archive of several segments behind its base backup."""
    with archives.archived(18, tmp_path_factory.mktemp("pitr"), durable=False) as made:
        made.server.sql("CREATE TABLE payments (id int PRIMARY KEY)")
        each = ROWS // SEGMENTS
        for first in range(0, ROWS, each):
            made.server.sql(f"INSERT INTO payments SELECT generate_series({first}, {first + each - 1})")
            made.server.sql("SELECT pg_switch_wal()")
        made.await_confirmed()
        made.until(lambda: len(list((made.archive_path / "wal").glob("*.gz"))) >= SEGMENTS)
        assert made.run("backup-postgres.sh", "-q").returncode == 0
        yield made


@pytest.fixture
def copy(lab: Lab, tmp_path: Path) -> Lab:
    """A copy of the archive, to be damaged."""
    return archives.copied(lab, tmp_path)


def refused(lab: Lab) -> None:
    """No database is made of what is damaged."""
    done = lab.restore("--latest", "--into", "beside", "--yes")
    assert done.returncode == 65, done.stdout + done.stderr
    assert lab.server.sql("SELECT count(*) FROM pg_database WHERE datname = 'beside'") == [(0,)]


# --- segments


@wide(
    "damages",
    [tuple(SEGMENT_DAMAGE)],
    [(damage,) for damage in SEGMENT_DAMAGE],
    ids=chosen(["all at once"], [*SEGMENT_DAMAGE]),
)
def test_a_damaged_segment_is_named(copy: Lab, damages: Sequence[str], expected: Note, survived: Note) -> None:
    victims = sorted((copy.archive_path / "wal").glob("*.gz"))[1:][-len(damages) - 1 : -1]
    for damage, victim in zip(damages, victims, strict=True):
        expected(61, f"WAL segment: {damage}", 1)
        SEGMENT_DAMAGE[damage](victim)
    found(copy, *(victim.name.removesuffix(".gz") for victim in victims))
    for damage in damages:
        survived(61, f"WAL segment: {damage}")


@wide("damage", ["a record overwritten"], SEGMENT_DAMAGE)
def test_a_damaged_segment_never_ends_a_recovery_in_silence(
    copy: Lab, damage: str, expected: Note, survived: Note
) -> None:
    fault = f"WAL segment, recovered: {damage}"
    expected(61, fault, 1)
    SEGMENT_DAMAGE[damage](sorted((copy.archive_path / "wal").glob("*.gz"))[-2])
    refused(copy)
    survived(61, fault)


def test_a_missing_segment_is_a_gap_that_everybody_tells(copy: Lab, expected: Note, survived: Note) -> None:
    expected(62, "WAL segment: missing", 1)
    victim = sorted((copy.archive_path / "wal").glob("*.gz"))[-2]
    victim.unlink()
    found(copy, "WAL is missing after", statuses=(66,))
    done = copy.restore("--window")
    assert done.returncode == 66
    assert "WAL is missing after" in done.stderr
    moment = datetime.fromisoformat(copy.confirmed()[0])
    done = copy.restore("--to-time", str(moment), "--into", "beside", "--yes")
    assert done.returncode == 66
    assert "recoverable" in done.stderr
    survived(62, "WAL segment: missing")


# --- base backups


@wide(
    "damages", [tuple(BASE_DAMAGE)], [(damage,) for damage in BASE_DAMAGE], ids=chosen(["all at once"], [*BASE_DAMAGE])
)
def test_a_mutilated_base_backup_is_found_by_verification(
    copy: Lab, damages: Sequence[str], expected: Note, survived: Note
) -> None:
    (base,) = (copy.archive_path / "base").iterdir()
    victims = [base.with_name(f"999901{number:02}T000000Z") for number in range(1, len(damages) + 1)]
    for damage, victim in zip(damages, victims, strict=True):
        expected(63, f"base backup: {damage}", 1)
        shutil.copytree(base, victim)
        BASE_DAMAGE[damage](victim)
    found(copy, *(f"base backup '{victim}'" for victim in victims))
    for damage in damages:
        survived(63, f"base backup: {damage}")


# The identifier is of base.json alone, which recovery does not ask.
@wide("damage", ["missing file"], [damage for damage in BASE_DAMAGE if damage != "another system identifier"])
def test_a_mutilated_base_backup_is_found_by_recovery(copy: Lab, damage: str, expected: Note, survived: Note) -> None:
    fault = f"base backup, recovered: {damage}"
    expected(63, fault, 1)
    (base,) = (copy.archive_path / "base").iterdir()
    BASE_DAMAGE[damage](base)
    refused(copy)
    survived(63, fault)


def test_a_bad_base_backup_is_passed_over_for_an_older_one(copy: Lab, expected: Note, survived: Note) -> None:
    expected(63, "base backup: cut off, and an older one is there", 1)
    (base,) = (copy.archive_path / "base").iterdir()
    shutil.copytree(base, newer := base.with_name("99990101T000000Z"))
    cut(newer)
    done = copy.restore("--latest", "--into", "beside", "--yes")
    assert done.returncode == 0, done.stderr
    assert "is bad" in done.stderr and "using an older one" in done.stderr
    copy.server.sql("DROP DATABASE beside")
    survived(63, "base backup: cut off, and an older one is there")


def test_a_cluster_larger_than_dockers_disk_is_refused_before_anything_is_unpacked(
    copy: Lab, expected: Note, survived: Note
) -> None:
    fault = "recovery: no room on Docker's disk"
    expected(80, fault, 1)
    (base,) = (copy.archive_path / "base").iterdir()
    manifest = base / "backup_manifest"
    listed = manifest.read_bytes().replace(b'"Size": 3,', b'"Size": 1125899906842624,', 1)
    listed = listed[: listed.rindex(b'"Manifest-Checksum"')]
    manifest.write_bytes(listed + f'"Manifest-Checksum": "{hashlib.sha256(listed).hexdigest()}"}}\n'.encode())
    done = copy.restore("--latest", "--into", "beside", "--yes")
    assert done.returncode == 74, done.stdout + done.stderr
    assert "too little space on Docker's disk" in done.stderr and "docker system df" in done.stderr
    assert archives.leftovers(copy) == []
    survived(80, fault)


def test_a_receiver_that_is_away_is_complained_of_after_a_minute(copy: Lab, expected: Note, survived: Note) -> None:
    expected(64, "nobody receives", 1)
    path = copy.archive_path / "receiver.json"
    told = json.loads(path.read_text())
    told["confirmed_time"] = (datetime.fromisoformat(told["confirmed_time"]) - timedelta(seconds=90)).isoformat()
    path.write_text(json.dumps(told))
    found(copy, "nothing was received since", statuses=(66,))
    assert copy.restore("--window").returncode == 66
    survived(64, "nobody receives")


BLANK = {"0 bytes": 0, "cut off": 14_819_328, "a whole segment": 16 << 20}


@wide("blank", ["cut off"], BLANK)
def test_a_segment_that_was_only_begun_holds_no_wal_and_nothing_up(
    copy: Lab, blank: str, expected: Note, survived: Note
) -> None:
    fault = f"unfinished segment of zeros: {blank}"
    expected(81, fault, 1)
    newest = max((copy.archive_path / "receiving").glob("*.partial"), default=None)
    known = max(path.name[:24] for part in ("wal", "receiving") for path in (copy.archive_path / part).iterdir())
    assert newest is None or newest.name.startswith(known)
    begun = copy.archive_path / "receiving" / f"{int(known, 16) + 1:024X}.partial"
    begun.write_bytes(bytes(BLANK[blank]))
    found(copy, statuses=(0, 66))  # the receiver of a copy is away
    assert rows(copy, "--latest") == ROWS
    survived(81, fault)
