"""What expires and what never does: row 25 of the table of faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pgbackup.formats import dumpfile, manifest
from pgbackup.store import catalog, expiry, folder, publish, retention

from tests.support import backup_files, backups, databases, promises
from tests.support.mutants import mutant

Tries = Callable[[int, int], int]
Note = Callable[..., None]
NOW = datetime(2024, 3, 1, 2, tzinfo=timezone.utc)
MEMORY_BYTES = 100 << 20


@pytest.fixture(scope="module")
def sources() -> Iterator[list[backups.Source]]:
    with databases.embedded_sources(rows=20) as found:
        yield found[:1]


@pytest.fixture
def place(sources: list[backups.Source], tmp_path: Path) -> backups.Place:
    return backups.place(tmp_path / "backups", sources)


def test_thirty_days_of_failing_backups_cost_none_of_the_old_ones(
    place: backups.Place, tries: Tries, expected: Note, survived: Note
) -> None:
    fault = "backups fail for 30 days: nothing expires"
    place.plant(place.sources[0], ages=[30 + day for day in range(10)])
    before = place.files()
    for night in range(tries(2, 30)):
        expected(25, fault, 1)
        ended = place.run(AUTH_URL="postgresql://auth_user@127.0.0.1:1/auth_db", WAIT_SECONDS="0")
        assert not promises.failed(place, ended, 69), night
        assert place.files() == before
        survived(25, fault)
    expected(25, "the first good one after it leaves the newest good ones", 1)
    assert place.run().status == 0
    assert len(place.files()) == backups.MINIMUM
    assert place.files()[:-1] == before[-backups.MINIMUM + 1 :], "the newest of the old ones stay"
    survived(25, "the first good one after it leaves the newest good ones")


def test_corrupt_backups_do_not_count_so_the_last_good_one_stays(
    place: backups.Place, expected: Note, survived: Note
) -> None:
    fault = "all that are newer are corrupt: the old good one stays"
    expected(25, fault, 2)
    source = place.sources[0]
    place.plant(source, ages=[60 - day for day in range(10)])
    good, *corrupt = sorted(place.planted)
    for path in corrupt:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1  # in the middle: only reading shows it
        path.write_bytes(data)
    for night in range(1, 3):
        ended = place.run()
        assert ended.status == 0
        assert good.exists()
        assert len(place.files()) == 10 + night, "with too few good ones nothing expires"
        assert sum("event=backup.bad" in line for line in ended.log) == len(corrupt), "each is named"
        survived(25, fault)


def _state(place: backups.Place) -> Path:
    return place.directory() / ".auth_db.verified.json"


def _proven(place: backups.Place) -> dict[str, str]:
    found: dict[str, str] = json.loads(_state(place).read_text())["proven"]
    return found


def test_a_night_reads_what_it_has_to_and_finds_what_has_changed(place: backups.Place) -> None:
    place.plant(place.sources[0], ages=[day + 0.2 for day in range(6)])
    assert place.run().status == 0
    first = _proven(place)
    assert set(first) == {path.name for path in place.files()}
    assert place.run().status == 0
    second = _proven(place)
    assert second.items() > first.items(), "tonight's portion is read already"
    damaged = min(place.planted)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    ended = place.run()
    assert ended.status == 0 and any("event=backup.bad" in line and damaged.name in line for line in ended.log)
    assert damaged.name not in _proven(place)
    assert set(json.loads(_state(place).read_text())["bad"]) == {damaged.name}, "the status tells of it"


STATES = {
    "of the wrong kinds": b'{"version": 1, "at": 1, "proven": []}',
    "cut": b'{"version": 1, "proven": {"auth',
    "with a proof that is none": b'{"version": 1, "proven": {"auth_db_20240101_000000.sql.gz": "now"}}',
    "deleted": None,
    "of a newer version": b'{"version": 99}',
}


@pytest.mark.fault(262, "what is proven is not known: its file is deleted, damaged, forged or of a newer version")
def test_without_knowing_what_is_proven_a_night_reads_more_and_is_as_good(place: backups.Place) -> None:
    place.plant(place.sources[0], ages=[20 + day for day in range(5)])
    corrupt = max(place.planted)
    data = bytearray(corrupt.read_bytes())
    data[len(data) // 2] ^= 1
    corrupt.write_bytes(data)
    assert place.run("--retention-days", "365").status == 0
    for how, state in STATES.items():
        _state(place).unlink()
        if state is not None:
            _state(place).touch(0o600)
            _state(place).write_bytes(state)
        ended = place.run("--retention-days", "365")
        assert ended.status == 0, ended.stderr
        assert not promises.told(ended) and corrupt.exists(), how
        if how == "of a newer version":
            assert _state(place).read_bytes() == state, "it is not ours to replace"
            assert any("event=proofs.unknown" in line for line in ended.log)
        else:
            assert set(_proven(place)) == {path.name for path in place.files()} - {corrupt.name}, how


FAMILY = ["app", "app_1", "app_2", "app_20200101_000000", "app_manual", "app_LATEST", "App", "apps", "my_app"]


def test_of_families_of_names_each_database_has_its_own_backups_only(
    tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "prefix families, and files of others, in one directory"
    tmp_path.chmod(0o700)
    mine = {
        database: {backup_files.place(tmp_path, NOW - timedelta(days=day), database=database) for day in range(20)}
        for database in FAMILY
    }
    others = _foreign_files(tmp_path)
    for database in FAMILY:
        expected(25, fault, 1)
        before = set(tmp_path.iterdir())
        with folder.opened(tmp_path, create=False) as opened:
            known = catalog.listing(opened, database)
            assert {tmp_path / backup.name for backup in known} == mine[database]
            _expire(opened, known, NOW, 7, 3)
        removed = before - set(tmp_path.iterdir())
        assert removed < mine[database]
        assert len(removed) == 20 - 8  # a week and its first day
        survived(25, fault)
    assert all(path.is_symlink() or path.exists() for path in others)


def _foreign_files(directory: Path) -> list[Path]:
    old = "app_20200101_020000.sql.gz"
    files = [
        *(f"{old}{end}" for end in ("~", ".bak", ".part", ".sha256", " ", "\n")),
        *(f"{start}{old}" for start in (" ", "-", ".", "x", "#")),
        "app_20200101_020000.sql",
        "app_20200101.sql.gz",
        "app_20201301_020000.sql.gz",
        "app_20200230_020000.sql.gz",
        "app_20200101_250000.sql.gz",
        "app_00000101_020000.sql.gz",
        "app_2020010١_020000.sql.gz",
        "app_20200101_020000.SQL.GZ",
        "app__20200101_020000.sql.gz",
        "app-20200101_020000.sql.gz",
        "app_manual_x_20200101_020000.sql.gz",
        "app_before_20200101_020000.sql.gz",
        "notes.txt",
    ]
    for name in files:
        (directory / name).write_text("not ours")
    directory.joinpath("app_20200102_020000.sql.gz").mkdir()
    os.mkfifo(directory / "app_20200103_020000.sql.gz")
    directory.joinpath("app_20200104_020000.sql.gz").symlink_to("notes.txt")
    backup_files.place(
        directory, data=backup_files.contents(backup_files.dump(), database="other"), name="app_20200105_020000.sql.gz"
    )
    odd = [f"app_2020010{day}_020000.sql.gz" for day in (2, 3, 4, 5)]
    return [directory / name for name in [*files, *odd]]


def _expire(opened: folder.Folder, known: list[catalog.Backup], now: datetime, days: int, minimum: int) -> None:
    """As a run does."""
    is_good = expiry.Proofs(opened, known, {}, NOW).is_good
    for decision in retention.decide(known, retention.Policy(days, minimum), now, is_good):
        if not decision.keep:
            publish.remove(opened, decision.name)


def test_ten_thousand_backups_are_listed_and_judged_in_proportionate_time_and_in_little_memory(
    tmp_path: Path, expected: Note, survived: Note
) -> None:
    expected(25, "10,000 backups: listed and judged", 1)
    few, all_of_them = tmp_path / "few", tmp_path / "all"
    for place in (few, all_of_them):
        place.mkdir(0o700)
    member, written = backup_files.first_member(backup_files.dump())
    roles = {f"role_{number}": f"CREATE ROLE role_{number} NOLOGIN INHERIT" for number in range(10)}
    for hour in range(10_000):
        facts = backup_files.facts(written, NOW - timedelta(hours=hour), server={"roles": roles})
        path = backup_files.place(all_of_them, NOW - timedelta(hours=hour), data=member + manifest.encoded(facts))
        if hour < 1_000:
            os.link(path, few / path.name)
    seconds = {}
    for place, total in ((few, 1_000), (all_of_them, 10_000)):
        count, expired, seconds[total], peak = _judged(place)
        print(f"{total} backups: listed and judged in {seconds[total]:.2f} s of processor time, {peak >> 20} MB")
        assert count == total
        assert expired == total - 7 * 24 - 1
        assert peak < MEMORY_BYTES
    assert seconds[10_000] < 30 * seconds[1_000], "ten times as many take more than three times ten times as long"
    survived(25, "10,000 backups: listed and judged")


def _judged(place: Path) -> tuple[int, int, float, int]:
    """How many are listed, how many would expire, the processor time in seconds and the peak of memory in bytes."""
    argv = [sys.executable, "-c", _JUDGE, str(Path(dumpfile.__file__).parents[2]), str(place), NOW.isoformat()]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    count, expired, seconds, peak = json.loads(done.stdout)
    return count, expired, seconds, peak


# VmHWM, for ru_maxrss of a child begins with its parent's.
# Processor time: what other work on the machine makes of it is not the promise.
_JUDGE = """
import json, re, sys, time
from datetime import datetime
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pgbackup.store import catalog
from pgbackup.store import expiry
from pgbackup.store import folder
from pgbackup.store import retention
begun = time.process_time()
with folder.opened(Path(sys.argv[2]), create=False) as place:
    known = catalog.listing(place, "auth_db")
    is_good = expiry.Proofs(place, known, {}, datetime.fromisoformat(sys.argv[3]), print).is_good
    decided = retention.decide(known, retention.Policy(7, 7), datetime.fromisoformat(sys.argv[3]), is_good)
peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps([len(known), sum(not one.keep for one in decided), time.process_time() - begun, peak]))
"""


def test_a_rule_that_counts_bad_ones_is_seen_by_these_tests() -> None:
    broken = mutant("pgbackup.store.retention", ("and not backup.manual and is_good(backup.name)", ""))

    known = [
        catalog.Backup(f"b{day}", NOW - timedelta(days=day), manual=False, bytes=1, manifest=None, problem="")
        for day in range(30)
    ]
    decisions = broken.decide(known, retention.Policy(7, 3), NOW, lambda _name: False)
    assert any(not decision.keep for decision in decisions), "no error found: the test is broken"
