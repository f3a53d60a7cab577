"""WAL and base backups go elsewhere: each whole and once, what is unfinished in parts; nothing here waits for it."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from pgbackup.formats import wal_copies

from tests.support import killing
from tests.support.copies import DIRECTORY, HOST, Copier
from tests.support.effort import wide
from tests.support.elsewhere import own_rclone
from tests.support.wal_there import SIZE, Planted, content, name_of


@pytest.fixture
def planted(disk_host: Copier) -> Planted:
    """A host with a dump, a base backup, two finished segments and one that grows."""
    disk_host.plant(0)
    return filled(Planted(disk_host).begin())


def filled(planted: Planted) -> Planted:
    planted.base()
    planted.grow(SIZE)
    planted.grow(SIZE)
    planted.grow(300_000)
    return planted


def until(happened: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def versions(host: Copier) -> list[str]:
    """All copies of WAL that were ever put there, also what has been replaced since."""
    remote = host.elsewhere.remote.replace("s3:", "owner:")
    words = ["lsjson", "-R", "--files-only", "--s3-versions", "--config", str(host.elsewhere.config), remote]
    said = subprocess.run([str(own_rclone()), *words], capture_output=True, check=True, timeout=60)
    return [re.sub(r"-v\d{4}-\d\d-\d\d-\d{6}-\d{3}", "", one["Path"]) for one in json.loads(said.stdout)]


def test_all_that_a_recovery_needs_is_there_and_nothing_twice(host: Copier) -> None:
    host.plant(0)
    planted = filled(Planted(host).begin())
    before = sorted(host.path.rglob("*"))
    would = planted.run("--dry-run", "--json")
    assert sorted(host.path.rglob("*")) == before
    ended = planted.run("--json")
    assert ended.status == 0, ended.stderr
    assert planted.problems() == []
    named = sorted(one["object"].split("/", 4)[4] for one in would.document["places"][0]["would_copy"][1:])
    assert named == sorted(name.partition("/")[2] for name in planted.there("base") + planted.there("wal"))
    assert planted.run("--dry-run", "--json").document["places"][0]["would_copy"] == []
    (base,) = (planted.path / "base").iterdir()
    there = {name.removeprefix(f"{planted.series}/{base.name}/"): name for name in planted.there("base")}
    facts = [wal_copies.parse_facts(name, SIZE) for name in there if name.endswith(".json.age")]
    assert [(one.began.number, one.parent) for one in facts if one] == [(5, "")]
    for file in ("base.tar.gz", "backup_manifest"):
        assert planted.opened("base", there[f"{file}.age"]) == (base / file).read_bytes()
    ((piece, data),) = planted.parts(7)
    assert (piece.begin, piece.end, piece.lsn, len(data)) == (0, 300_000, 7 * SIZE + 300_000, 300_000)
    assert b"Anna" not in data
    assert ended.document["places"][0]["archived_objects"] == 2 + 3 + 1
    again = planted.run("--json")
    assert again.document["places"][0]["archived_objects"] == 0
    state = json.loads((host.own / "wal.json").read_text())
    assert state["lsn"] == {DIRECTORY: f"0/{7 * SIZE + 300_000:X}"}
    assert state["until"][DIRECTORY] and state["status"] == 0
    assert json.loads((host.own / "base.json").read_text())["newest"] == {DIRECTORY: base.name}
    written = [path for path in host.path.rglob("*") if path.is_file() and path.name != "backup.log"]
    assert {oct(path.stat().st_mode & 0o077) for path in written if "pitr" not in path.parts} == {"0o0"}
    assert f"{HOST}/unfinished" not in (host.own / "index-wal.jsonl").read_text()


def test_an_unfinished_segment_goes_in_parts_and_whole_when_it_is_finished(planted: Planted) -> None:
    for to in (300_000, 700_000):
        planted.grow(to)
        assert planted.run().status == 0
    spans = [(piece.begin, piece.end) for piece, _ in planted.parts(7)]
    assert spans == [(0, 300_000), (300_000, 700_000)]
    assert planted.reached(7) == 700_000
    planted.grow(SIZE)
    planted.grow(10)
    assert planted.run().status == 0
    assert planted.problems() == []
    assert planted.segment(7) == content(7)
    assert [(piece.begin, piece.end) for piece, _ in planted.parts(8)] == []  # not even a header


def test_what_is_damaged_here_does_not_go_and_stops_nothing_else(planted: Planted) -> None:
    bad = planted.path / "wal" / f"{name_of(5)}.gz"
    bad.write_bytes(bad.read_bytes()[:-100])
    newest = planted.base(timedelta(0))
    archive = planted.path / "base" / newest / "base.tar.gz"
    archive.write_bytes(archive.read_bytes() + b"x")
    ended = planted.run("--json")
    assert ended.status == 65
    problems = {one["name"].rpartition("/")[2]: one["problem"] for one in ended.document["places"][0]["problems"]}
    assert set(problems) == {f"{name_of(5)}.gz", "base.tar.gz"}, problems
    names = planted.there("wal") + planted.there("base")
    assert f"{planted.series}/{name_of(6)}.gz.age" in names and f"{planted.series}/{name_of(5)}.gz.age" not in names
    assert not [name for name in names if newest in name and name.endswith(".json.age")], "it is no base backup there"


def test_what_lies_there_is_compared_with_what_was_sent(planted: Planted) -> None:
    assert planted.run().status == 0
    good = planted.run("--at", "disk", "--json", script="verify-backups.sh")
    (archive,) = good.document["archives"]
    assert (good.status, archive["segments"], archive["damage"], archive["complaints"]) == (0, 2, [], []), good.stderr
    assert good.document["index_damage"] == []
    wal, base = (planted.host.elsewhere.directory / HOST / top / DIRECTORY for top in ("wal", "base"))
    (first, second), (manifest,) = sorted(wal.rglob("*.age")), base.rglob("backup_manifest.age")
    first.write_bytes(first.read_bytes()[::-1])
    manifest.write_bytes(manifest.read_bytes() + b"x")
    second.rename(second.with_name(f"{name_of(8)}.gz.age"))
    bad = planted.run("--at", "disk", script="verify-backups.sh")
    assert bad.status == 65
    for name, what in ((first, "its hash is not"), (manifest, "bytes, and"), (second, "was copied and is gone")):
        assert any(name.name in line and what in line for line in bad.stderr.splitlines()), bad.stderr
    assert f"{name_of(8)}.gz.age' is bad: this host has not sent it" in bad.stderr
    assert f"WAL is missing after '{name_of(5)}', but '{name_of(8)}' is there" in bad.stderr


@pytest.mark.fault(290, "the signed index of WAL or base backups changed or gone at the place")
def test_the_index_of_wal_is_signed_a_part_for_each_run_and_compared(planted: Planted) -> None:
    assert planted.run().status == 0
    there = planted.host.elsewhere.directory / HOST / "index"
    assert {path.name for path in there.rglob("*.jsonl") if path.name.startswith(("wal", "base"))} == {
        "wal-000001.jsonl", "base-000001.jsonl"
    }  # fmt: skip
    planted.grow(SIZE)
    planted.grow(SIZE)
    assert planted.run().status == 0
    (second,) = there.rglob("wal-000002.jsonl")
    assert second.read_bytes().count(b'"previous"') == 2, "one part, however many segments"
    assert planted.run().status == 0 and not [*there.rglob("wal-000003.jsonl")], "none where nothing is new"
    whole = second.read_bytes()
    for changed in (whole.replace(b'"bytes":', b'"bytes":1', 1), None):
        second.unlink()
        if changed:
            second.write_bytes(changed)
        ended = planted.run("--at", "disk", "--json", script="verify-backups.sh")
        assert ended.status == 65 and "the signed index of wal in" in ended.stderr
        assert len(ended.document["index_damage"]) == 1
        second.write_bytes(whole)
    assert planted.run("--at", "disk", script="verify-backups.sh").status == 0


@pytest.mark.fault(187, "what this host knows of its copies is lost: the signed index comes back with the key on paper")
def test_the_index_of_wal_comes_back_with_the_key_on_paper(planted: Planted) -> None:
    key = planted.run("--json").document["places"][0]["verification_key"]
    before = planted.indexed("wal"), planted.indexed("base")
    shutil.rmtree(planted.host.own)
    (planted.path).rename(planted.path.with_name("aside"))
    assert planted.run("--now", "--verification-key", key).status == 0
    assert (planted.indexed("wal"), planted.indexed("base")) == before


def test_another_archive_of_the_same_cluster_has_names_of_its_own(planted: Planted) -> None:
    assert planted.run().status == 0
    before = planted.there("wal")
    time.sleep(1)  # a series is named by the second
    planted.path.rename(planted.path.with_name("aside"))
    other = filled(Planted(planted.host).begin())
    assert other.run().status == 0
    after = other.there("wal")
    assert set(before) < set(after) and len(after) == 2 * len(before)
    assert {name.rpartition("/")[2] for name in after} == {name.rpartition("/")[2] for name in before}


def test_the_follower_copies_as_it_comes_and_a_second_one_is_told(planted: Planted) -> None:
    following = planted.follow()
    try:
        until(lambda: planted.host.own.joinpath("series.json").exists() and bool(planted.parts(7)))
        planted.grow(500_000)
        until(lambda: planted.reached(7) == 500_000)
        assert planted.run("--follow").status == 75
        assert planted.run("--follow", "--watchdog", "-q").status == 0
        assert planted.run().status == 0, "a run of the schedule leaves WAL to it"
        planted.grow(SIZE)
        planted.grow(100_000)
        until(lambda: planted.reached(8) == 100_000)
    finally:
        following.send_signal(signal.SIGTERM)
        _, said = following.communicate(timeout=30)
    assert following.returncode == 143, said
    assert planted.problems() == []


@pytest.mark.fault(191, "a place that is away while WAL is made")
def test_a_place_that_is_away_while_wal_is_made(planted: Planted) -> None:
    following = planted.follow()
    try:
        until(lambda: planted.host.own.joinpath("series.json").exists() and bool(planted.parts(7)))
        planted.host.elsewhere.break_off()
        planted.grow(SIZE)
        planted.grow(SIZE)
        planted.grow(400_000)
        until(lambda: json.loads((planted.host.own / "wal.json").read_text())["failures"] > 0)
        planted.host.elsewhere.mend()
        until(lambda: planted.reached(9) == 400_000)
    finally:
        following.send_signal(signal.SIGTERM)
        _, said = following.communicate(timeout=30)
    assert planted.problems() == []
    assert said.count("copy-backups.sh: disk: wal: ") == 1, "told once"
    assert "event=copy.going-on" in planted.host.log()
    assert json.loads((planted.host.own / "wal.json").read_text())["failures"] == 0


def test_one_that_is_asked_for_nonsense_says_so(planted: Planted) -> None:
    assert planted.run("--follow", "--now").status == 64
    assert planted.run("--watchdog").status == 64


@pytest.mark.timeout(3600)
@wide("where", ["s3_host"], ["s3_host", "disk_host"])
def test_a_follower_that_is_killed_at_any_moment(
    request: pytest.FixtureRequest,
    where: str,
    tries: Callable[[int, int], int],
    expected: Callable[[int, str, int], None],
    survived: Callable[..., None],
) -> None:
    host: Copier = request.getfixturevalue(where)
    fault, count = "kill -9 of the follower at a random moment", tries(4, 100)
    expected(190, fault, count)
    chance, stopping = random.Random(4711), threading.Event()
    planted = filled(Planted(host).begin())

    def write() -> None:
        """WAL comes in, a segment in half a second."""
        to = planted.filled
        while not stopping.wait(0.05):
            to += SIZE // 10
            planted.grow(to)
            to = 0 if to >= SIZE else to

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(count):
            following = planted.follow()
            time.sleep(chance.uniform(0.1, 3))  # the moment is what is tried, nothing is waited for
            (killing.kill_everything if number % 2 else killing.kill_process)(following.pid)
            following.communicate()
            survived(190, fault)
    finally:
        stopping.set()
        writer.join()
    following = planted.follow()
    try:
        until(lambda: len(planted.there("wal")) == len(planted.finished))
        until(lambda: planted.reached(planted.number) == planted.filled)
    finally:
        following.send_signal(signal.SIGTERM)
        following.communicate(timeout=30)
    assert planted.problems() == []
    if where == "s3_host":
        there = versions(host)
        assert len(there) == len(set(there)), "no object twice"
    (base,) = (planted.path / "base").iterdir()
    assert len([name for name in planted.there("base") if base.name in name]) == 3
