"""Where WAL archives end: cut off at the end, before a gap, on a new timeline, in mid-work: rows 71 to 79.

Whoever asks for the latest commit gets it, or is told that there are later ones.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support import archives
from tests.support.archives import NAME, Lab, copied, found, rows
from tests.support.effort import FULL, chosen, only_in_full, wide
from tests.support.runs import soon
from tests.support.servers import docker

Tries = Callable[[int, int], int]
Note = Callable[..., None]
BACKUP = "backup-postgres.sh"
STAMPS = {"track_commit_timestamp": "on"}


@pytest.fixture(scope="module")
def lab(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Five rows, each in a segment of its own, and the last one in a segment that is not finished."""
    with archives.archived(15, tmp_path_factory.mktemp("pitr"), durable=False, settings=STAMPS) as made:
        made.server.sql("CREATE TABLE payments (id serial PRIMARY KEY)")
        for _ in range(4):
            made.server.sql("INSERT INTO payments DEFAULT VALUES")
            made.server.sql("SELECT pg_switch_wal()")
        made.server.sql("INSERT INTO payments DEFAULT VALUES")
        made.await_confirmed()
        made.until(lambda: len(segments(made)) >= 5)
        assert made.run(BACKUP, "-q").returncode == 0
        yield made


@pytest.fixture
def copy(lab: Lab, tmp_path: Path) -> Lab:
    """A copy of the archive, which nobody receives into."""
    return copied(lab, tmp_path)


def segments(lab: Lab) -> list[Path]:
    """The files of segments, in the order of WAL, wherever they are."""
    there = [path for part in ("wal", "receiving") for path in (lab.archive_path / part).iterdir()]
    return sorted((path for path in there if re.match("[0-9A-F]{24}", path.name)), key=lambda path: path.name)


def refused(lab: Lab, *words: str) -> str:
    """No database is there that lacks commits of which the archive knows. Return what was said."""
    done = lab.restore(*words, "--into", "beside", "--yes")
    made = lab.server.sql("SELECT count(*) FROM pg_database WHERE datname = 'beside'") == [(1,)]
    if made:
        lab.server.sql("DROP DATABASE beside")
    assert done.returncode in (65, 66), done.stdout + done.stderr
    assert not made
    return done.stderr


# --- cut off at the end


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 8 << 20])


def _zeros(path: Path) -> None:
    """Behind the first page's header; as a disk does that lost its newest writes."""
    with path.open("r+b") as file:
        file.seek(40)
        file.write(bytes((16 << 20) - 40))


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()


CUTS: dict[str, Callable[[Lab], object]] = {
    "unfinished segment missing": lambda lab: segments(lab)[-1].unlink(),
    "last two segments missing": lambda lab: _remove(segments(lab)[-2:]),
    "unfinished segment cut": lambda lab: _cut(segments(lab)[-1]),
    "unfinished segment zeroed": lambda lab: _zeros(segments(lab)[-1]),
}


@wide("cut", ["unfinished segment missing", "unfinished segment zeroed"], CUTS)
def test_an_archive_without_its_newest_wal_is_not_taken_for_whole(
    copy: Lab, cut: str, expected: Note, survived: Note
) -> None:
    expected(71, f"WAL archive: {cut}", 1)
    assert segments(copy)[-1].name.endswith(".partial")
    CUTS[cut](copy)
    refused(copy, "--latest")
    if "zeroed" not in cut:  # zeros are what an unfinished segment ends with
        found(copy, statuses=(65, 66))
    survived(71, f"WAL archive: {cut}")


def test_before_missing_wal_all_that_is_there_can_be_had(copy: Lab, expected: Note, survived: Note) -> None:
    """By the position that the refusal names; the latest commit, or the moment when WAL ended, is not there."""
    fault = "WAL archive: a segment missing, and what is before it"
    expected(72, fault, 1)
    segments(copy)[-2].unlink()  # the one with the fourth row
    said = refused(copy, "--latest")
    assert "the latest commit cannot be recovered: WAL is missing after" in said
    (position,) = re.findall(r"--to-lsn ([0-9A-F]+/[0-9A-F]+)", said)
    (window,) = json.loads(copy.restore("--window", "--json").stdout)["windows"]
    assert position == window["lsn"]
    assert rows(copy, "--to-lsn", position) == 3
    if FULL:
        assert f"--to-lsn {position}" in refused(copy, "--to-time", window["until"])
    assert "is after the last WAL" in refused(copy, "--to-time", copy.confirmed()[0])
    survived(72, fault)


def test_a_moment_in_a_gap_is_told_to_be_there(copy: Lab, expected: Note, survived: Note) -> None:
    fault = "WAL archive: a moment in a gap between two base backups"
    expected(72, fault, 1)
    victims = segments(copy)[-3:-1]
    first = next((copy.archive_path / "base").iterdir())
    later = first.with_name("99990101T000000Z")
    shutil.copytree(first, later)
    told = json.loads((later / "base.json").read_text())
    newest = int(segments(copy)[-1].name[16:24], 16)
    told |= {"start": f"0/{newest:X}000028", "stop": f"0/{newest:X}000100", "ended": copy.confirmed()[0]}
    (later / "base.json").write_text(json.dumps(told))
    for victim in victims:
        victim.unlink()
    window = json.loads(copy.restore("--window", "--json").stdout)
    assert window["status"] == 66 and len(window["windows"]) == 2
    assert any("WAL is missing" in problem for problem in window["problems"])
    assert "  GAP  " in copy.restore("--window").stdout
    gone = datetime.fromisoformat(window["windows"][0]["until"]) + timedelta(milliseconds=1)
    said = refused(copy, "--to-time", gone.isoformat())
    assert "is in a gap, for which there is no WAL" in said and "  GAP  " in said
    lsn = f"0/{newest - 1:X}000100"
    assert "is in a gap, for which there is no WAL" in refused(copy, "--to-lsn", lsn)
    survived(72, fault)


# --- unreadable


def _as_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _as_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


UNREADABLE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "its archive unreadable": ("base.tar.gz", _as_a_directory),
    "its archive a link": ("base.tar.gz", _as_a_link),
    "its manifest unreadable": ("backup_manifest", _as_a_directory),
    "base.json unreadable": ("base.json", _as_a_directory),
    "base.json cut off": ("base.json", lambda path: path.write_text(path.read_text()[:50])),
    "base.json missing": ("base.json", lambda path: path.unlink()),
}


def test_a_base_backup_that_cannot_be_read_is_told_and_passed_over_for_an_older_one(
    copy: Lab, expected: Note, survived: Note
) -> None:
    """Each of those that can be told by reading only is the newest one for a while: make faults."""
    (good,) = (copy.archive_path / "base").iterdir()
    bad = [good.with_name(f"9999010{number + 1}T000000Z") for number in range(len(UNREADABLE))]
    for number, (newer, (fault, (name, harm))) in enumerate(zip(bad, UNREADABLE.items(), strict=True)):
        expected(77, f"base backup: {fault}", 1)
        shutil.copytree(good, newer)
        harm(newer / name)
        if FULL and number < 3:
            passed_over(copy, newer)
            shutil.move(newer, newer.with_name(f"00010101T00000{number}Z"))
    found(copy, *(path.name for path in good.parent.iterdir() if path != good))
    passed_over(copy, *(path for path in bad[:3] if path.exists()))
    for fault in UNREADABLE:
        survived(77, f"base backup: {fault}")


def passed_over(lab: Lab, *bad: Path) -> None:
    """All five rows are recovered, from an older base backup."""
    done = lab.restore("--latest", "--into", "beside", "--yes")
    assert done.returncode == 0, done.stderr
    assert lab.server.sql("SELECT count(*) FROM payments", "beside") == [(5,)]
    lab.server.sql("DROP DATABASE beside")
    assert all(f"'{path}' is bad" in done.stderr for path in bad)
    assert not bad or "using an older one" in done.stderr


# --- another timeline


def _promote(lab: Lab) -> None:
    """As a failover does: the server becomes a standby, and then a primary again, on a timeline of its own."""
    folder = lab.server.sql("SHOW data_directory")[0][0]
    docker("exec", "--user", "postgres", lab.server.id, "touch", f"{folder}/standby.signal")
    lab.server.restart()
    assert lab.server.sql("SELECT pg_is_in_recovery()") == [(True,)]
    lab.server.sql("SELECT pg_promote()")


def _promote_unseen(lab: Lab) -> None:
    lab.stop()
    _promote(lab)
    lab.start()


def test_the_timelines_of_a_server_that_was_promoted_are_followed(
    engine: str, tmp_path: Path, expected: Note, survived: Note
) -> None:
    blows = {"promoted": _promote, "promoted without a receiver": _promote_unseen}
    with archives.archived(15, tmp_path, durable=False, settings=STAMPS) as lab:
        lab.server.sql("CREATE TABLE payments (id serial PRIMARY KEY)")
        lab.server.sql("INSERT INTO payments DEFAULT VALUES")
        first = lab.server.sql("SELECT pg_xact_commit_timestamp(xmin)::text FROM payments")[0][0]
        for number, (fault, blow) in enumerate(blows.items(), 2):
            expected(73, f"timeline: {fault}", 1)
            blow(lab)
            lab.server.sql("INSERT INTO payments DEFAULT VALUES")
            lab.server.sql("SELECT pg_switch_wal()")
            lab.server.sql("INSERT INTO payments DEFAULT VALUES")
            lab.await_confirmed()
            assert max(lab.look().segments).timeline == number
            assert lab.window()["problems"] == []
            survived(73, f"timeline: {fault}")
        assert len(lab.look().bases) == 1, "no base backup had to be made: there was no gap"
        if FULL:
            assert rows(lab, "--to-time", first) == 1
        assert rows(lab, "--latest") == 5
        assert lab.run(BACKUP, "-q").returncode == 0
        done = lab.run("verify-backups.sh")
        assert done.returncode == 0, done.stderr


# --- in mid-work


@contextmanager
def writers(lab: Lab, count: int = 2) -> Iterator[None]:
    """Commit row after row for the length of the block."""
    stop = threading.Event()

    def write() -> None:
        with lab.server.connect() as session:
            while not stop.is_set():
                session.execute("INSERT INTO payments DEFAULT VALUES")

    threads = [threading.Thread(target=write) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_base_backup_under_load_leads_exactly_to_each_moment_after_it(
    lab: Lab, expected: Note, survived: Note
) -> None:
    fault = "base backup under writers, and the first commit after it"
    expected(74, fault, 1)
    lab.make_base_old(2)
    before = sorted(lab.look().bases)
    with writers(lab):
        assert lab.run(BACKUP, "-q").returncode == 0
    (made,) = sorted(set(lab.look().bases) - set(before))
    ended = lab.look().bases[made][1].ended
    stamps = "SELECT pg_xact_commit_timestamp(xmin) AS at FROM payments"
    (moment, among), *_ = lab.server.sql(
        f"SELECT min(at)::text, (SELECT count(*) FROM ({stamps}) AS a WHERE at <= '{ended}') + 1"
        f" FROM ({stamps}) AS b WHERE at > '{ended}'"
    )
    lab.await_confirmed()
    assert rows(lab, "--to-time", moment) == among
    if FULL:
        assert rows(lab, "--latest") == lab.server.sql("SELECT count(*) FROM payments")[0][0]
    survived(74, fault)


@pytest.mark.parametrize("what", ["restore --latest", "backup-postgres.sh in a base backup"])
def test_what_is_stopped_at_any_moment_is_clean_at_once(
    lab: Lab, tries: Tries, expected: Note, survived: Note, what: str
) -> None:
    count, fault = tries(1, 40), f"{what}: SIGTERM at a random moment"
    expected(75, fault, count)
    restoring = what.startswith("restore")
    words = ["restore-postgres.sh", NAME, "--latest", "--into", "beside", "--yes"] if restoring else [BACKUP, "-q"]
    present = lab.server.sql("SELECT count(*) FROM payments")
    for _ in range(count):
        if not restoring:
            lab.make_base_old(2)
        bases = sorted(lab.look().bases)
        status = lab.signalled(signal.SIGTERM, random.uniform(0.2, 5), *words)
        assert status in (0, 143, -15), status  # it may have ended before, or not have begun
        # The engine removes a volume a moment after its container.
        assert soon(lambda: archives.leftovers(lab) == []), archives.leftovers(lab)
        assert lab.look().wrong == {}
        assert set(lab.look().bases) >= set(bases) or status == 0, "nothing expires but after a success"
        names = [name for (name,) in lab.server.sql("SELECT datname FROM pg_database")]
        assert not [name for name in names if "_restor" in name]
        lab.server.sql("DROP DATABASE IF EXISTS beside")
        assert lab.server.sql("SELECT count(*) FROM payments") == present
        survived(75, fault)
    if not restoring:
        assert lab.run(BACKUP, "-q").returncode == 0
    assert lab.window()["problems"] == []


def test_a_receiver_that_ends_in_its_base_backup_leaves_nothing_and_makes_it_anew(
    lab: Lab, expected: Note, survived: Note
) -> None:
    base = lab.archive_path / "base"
    for number in chosen([signal.SIGKILL], [signal.SIGKILL, signal.SIGTERM] * 20):
        fault = f"receiver: {number.name} in its base backup"
        expected(76, fault, 1)
        lab.stop()
        shutil.rmtree(base)
        base.mkdir(mode=0o700)
        lab.start()
        lab.until(lambda: any(name.startswith(".new-") for name in os.listdir(base)))
        time.sleep(random.uniform(0, 2))  # the moment is what is tried, nothing is waited for
        status = lab.stop(number)
        assert status == (143 if number == signal.SIGTERM else -9)
        if number == signal.SIGTERM:
            assert soon(lambda: archives.leftovers(lab) == []), archives.leftovers(lab)
        lab.start()
        lab.await_well()
        lab.until(lambda: archives.leftovers(lab) == [])
        assert lab.look().wrong == {}
        assert lab.window()["problems"] == []
        survived(76, fault)
    if FULL:
        lab.await_received()
        assert rows(lab, "--latest") == lab.server.sql("SELECT count(*) FROM payments")[0][0]


def test_an_archive_that_is_written_to_is_verified_without_false_alarms(
    lab: Lab, tries: Tries, expected: Note, survived: Note
) -> None:
    count, fault = tries(1, 8), "verify-backups.sh while segment after segment arrives"
    expected(78, fault, count)
    stop = threading.Event()

    def switch() -> None:
        with lab.server.connect() as session:
            while not stop.wait(0.3):
                session.execute("SELECT pg_switch_wal() FROM (SELECT pg_logical_emit_message(false, '', '')) AS a")

    thread = threading.Thread(target=switch)
    thread.start()
    try:
        for _ in range(count):
            done = lab.run("verify-backups.sh")
            assert done.returncode == 0, done.stderr
            survived(78, fault)
    finally:
        stop.set()
        thread.join()


@only_in_full
def test_a_database_that_is_paused_for_long_is_waited_for(lab: Lab, expected: Note, survived: Note) -> None:
    fault = "database paused until the receiver tells it"
    expected(79, fault, 1)
    lab.stop()
    lab.settings |= {"COMMAND_SECONDS": "2", "WAIT_SECONDS": "2"}
    try:
        lab.start()
        lab.await_confirmed()
        before = len(lab.log())
        docker("pause", lab.server.id)
        try:
            lab.until(lambda: "event=wal.waiting" in lab.log()[before:])
        finally:
            docker("unpause", lab.server.id)
        lab.server.sql("INSERT INTO payments DEFAULT VALUES")
        lab.await_confirmed()
    finally:
        lab.settings.clear()
    assert "event=wal.gap" not in lab.log()[before:]
    assert lab.window()["problems"] == []
    survived(79, fault)
