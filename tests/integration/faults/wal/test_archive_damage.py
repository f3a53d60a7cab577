"""WAL archives that are damaged, cut off and interrupted in every way: rows 61 to 70 of the table of faults.

A gap that nobody sees would be the worst of all: what cannot be recovered is told, and never silently left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.faults.test_disk import disk
from tests.support import archives, servers
from tests.support.archive_damage import BASE_DAMAGE, SEGMENT_DAMAGE, cut
from tests.support.archives import NAME, Lab
from tests.support.effort import chosen
from tests.support.runs import soon
from tests.support.servers import docker

Tries = Callable[[int, int], int]
Note = Callable[..., None]
ROWS = 500


@pytest.fixture(scope="module")
def lab(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An archive of several segments behind its base backup; the server is not crashed by tests that share it."""
    with archives.archived(18, tmp_path_factory.mktemp("pitr"), durable=False) as made:
        made.server.sql("CREATE TABLE payments (id int PRIMARY KEY)")
        for first in range(0, ROWS, 100):
            made.server.sql(f"INSERT INTO payments SELECT generate_series({first}, {first + 99})")
            made.server.sql("SELECT pg_switch_wal()")
        made.await_confirmed()
        made.until(lambda: len(list((made.archive_path / "wal").glob("*.gz"))) >= 4)
        assert made.run("backup-postgres.sh", "-q").returncode == 0
        yield made


@pytest.fixture
def copy(lab: Lab, tmp_path: Path) -> Lab:
    """A copy of the archive, to be damaged."""
    shutil.copytree(lab.place, tmp_path / "backups", ignore=shutil.ignore_patterns("*.pipes"))
    return Lab(lab.server, tmp_path / "backups")


def rows(lab: Lab, *to: str) -> int:
    """Recover beside the live database, and count."""
    done = lab.restore(*to, "--into", "beside", "--yes")
    assert done.returncode == 0, done.stderr
    try:
        with lab.server.connect(database="beside") as session:
            ((count,),) = session.execute("SELECT count(*) FROM payments").fetchall()
            return int(count)
    finally:
        lab.server.sql("DROP DATABASE beside")


def found(lab: Lab, *said: str, statuses: tuple[int, ...] = (65,)) -> str:
    done = lab.run("verify-backups.sh")
    assert done.returncode in statuses, done.stdout + done.stderr
    assert all(text in done.stderr for text in said), done.stderr
    return done.stderr


# --- segments


# Of each kind of damage verification finds all; to recover from each takes long: make faults.
SEGMENTS_RECOVERED = chosen({"truncated", "of another cluster", "a record overwritten"}, set(SEGMENT_DAMAGE))
# The identifier is of base.json alone, which recovery does not ask.
BASES_RECOVERED = chosen({"missing file", "bad manifest", "cut off"}, set(BASE_DAMAGE) - {"another system identifier"})


@pytest.mark.parametrize("damage", SEGMENT_DAMAGE)
def test_a_damaged_segment_is_named_and_never_ends_a_recovery_in_silence(
    copy: Lab, damage: str, expected: Note, survived: Note
) -> None:
    expected(61, f"WAL segment: {damage}", 1)
    victim = sorted((copy.archive_path / "wal").glob("*.gz"))[-2]
    SEGMENT_DAMAGE[damage](victim)
    found(copy, victim.name.removesuffix(".gz"))
    if damage in SEGMENTS_RECOVERED:
        done = copy.restore("--latest", "--into", "beside", "--yes")
        assert done.returncode == 65, done.stdout + done.stderr
        assert copy.server.sql("SELECT count(*) FROM pg_database WHERE datname = 'beside'") == [(0,)]
    survived(61, f"WAL segment: {damage}")


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


@pytest.mark.parametrize("damage", BASE_DAMAGE)
def test_a_mutilated_base_backup_is_found_by_verification_and_by_recovery(
    copy: Lab, damage: str, expected: Note, survived: Note
) -> None:
    expected(63, f"base backup: {damage}", 1)
    (base,) = (copy.archive_path / "base").iterdir()
    BASE_DAMAGE[damage](base)
    found(copy, f"base backup '{base}'")
    if damage in BASES_RECOVERED:
        done = copy.restore("--latest", "--into", "beside", "--yes")
        assert done.returncode == 65, done.stdout + done.stderr
    survived(63, f"base backup: {damage}")


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


# --- killed


def test_a_recovery_that_is_killed_at_any_moment_leaves_nothing(
    lab: Lab, tries: Tries, expected: Note, survived: Note
) -> None:
    count, fault = tries(2, 60), "restore --latest killed -9 at a random moment"
    expected(65, fault, count)
    for _ in range(count):
        words = ("restore-postgres.sh", NAME, "--latest", "--into", "beside", "--yes")
        lab.signalled(signal.SIGKILL, random.uniform(0.3, 6), *words)
        lab.server.sql("DROP DATABASE IF EXISTS beside")
        assert lab.run("backup-postgres.sh", "-q").returncode == 0
        assert soon(lambda: archives.leftovers(lab) == []), archives.leftovers(lab)
        assert lab.server.sql("SELECT count(*) FROM payments") == [(ROWS,)]
        assert lab.server.sql("SELECT datname FROM pg_database WHERE datname LIKE '%restor%'") == []
        survived(65, fault)
    assert rows(lab, "--latest") == ROWS


def test_a_base_backup_that_is_killed_at_any_moment_leaves_nothing(
    lab: Lab, tries: Tries, expected: Note, survived: Note
) -> None:
    count, fault = tries(2, 60), "backup-postgres.sh killed -9 in a base backup"
    expected(66, fault, count)
    for _ in range(count):
        lab.make_base_old(2)
        lab.signalled(signal.SIGKILL, random.uniform(0.5, 3), "backup-postgres.sh", "-q")
        done = lab.run("backup-postgres.sh", "-q")
        assert done.returncode == 0, done.stderr
        assert soon(lambda: archives.leftovers(lab) == []), archives.leftovers(lab)
        assert list(lab.look().wrong) == []
        survived(66, fault)
    assert rows(lab, "--latest") == ROWS


# --- the receiver and its server, on servers of their own


def test_whatever_restarts_nothing_is_lost(
    engine: str, tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    blows: dict[str, Callable[[Lab], object]] = {
        "receiver killed -9": lambda lab: (lab.stop(9), lab.start()),
        "database restarted": lambda lab: docker("restart", "-t", "10", lab.server.id),
        "database killed -9": lambda lab: (docker("kill", lab.server.id), docker("start", lab.server.id)),
        "database paused": lambda lab: (docker("pause", lab.server.id), docker("unpause", lab.server.id)),
        "walsender ended": lambda lab: lab.server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name LIKE 'pgbackup_wal_%'"
        ),
    }
    rounds = tries(1, 10)
    with archives.archived(15, tmp_path) as lab:
        lab.server.sql("CREATE TABLE payments (id serial PRIMARY KEY)")
        for fault, blow in list(blows.items()) * rounds:
            expected(67, fault, 1)
            lab.server.sql("INSERT INTO payments DEFAULT VALUES")
            blow(lab)
            lab.server.wait()
            lab.server.sql("INSERT INTO payments DEFAULT VALUES")
            lab.await_received()
            survived(67, fault)
        lab.await_confirmed()
        assert lab.window()["problems"] == []
        count = lab.server.sql("SELECT count(*) FROM payments")[0][0]
        assert rows(lab, "--latest") == count == 2 * len(blows) * rounds


BLANK = {"0 bytes": 0, "cut off": 14_819_328, "a whole segment": 16 << 20}


@pytest.mark.parametrize("blank", BLANK)
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
    if blank in chosen({"cut off"}, set(BLANK)):
        assert rows(copy, "--latest") == ROWS
    survived(81, fault)


def test_a_receiver_that_is_killed_while_it_begins_a_segment_goes_on(
    engine: str, tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "receiver killed while it fills a segment with zeros"
    expected(81, fault, 1)
    with archives.archived(15, tmp_path) as lab:
        lab.server.sql("CREATE TABLE payments (id serial PRIMARY KEY)")
        lab.await_received()
        lab.stop(9)
        (partial,) = (lab.archive_path / "receiving").glob("*.partial")
        partial.write_bytes(bytes(14_819_328))
        lab.start()
        lab.server.sql("INSERT INTO payments DEFAULT VALUES")
        lab.await_received()
        lab.await_well()
        assert rows(lab, "--latest") == 1
    survived(81, fault)


def test_lost_wal_is_a_gap_told_at_once_and_a_new_base_backup_closes_it(
    engine: str, tmp_path: Path, expected: Note, survived: Note
) -> None:
    with archives.archived(15, tmp_path, settings={"max_wal_size": "64MB"}) as lab:
        lab.server.sql("CREATE TABLE payments (id serial PRIMARY KEY)")
        for fault, how in {
            "slot dropped": "SELECT pg_drop_replication_slot('pgbackup_payment')",
            "slot limit reached": "ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'",
        }.items():
            expected(68, fault, 1)
            before = len(lab.look().bases)
            lab.stop()
            lab.server.sql(how)
            lab.server.sql("SELECT pg_reload_conf()")
            for _ in range(6):
                lab.server.sql("INSERT INTO payments DEFAULT VALUES")
                lab.server.sql("SELECT pg_switch_wal()")
            lab.server.sql("CHECKPOINT")
            lab.start()
            lab.until(lambda: len(lab.look().bases) > before, 60)  # noqa: B023
            lab.await_well()
            assert "event=wal.gap" in lab.log()
            for done in (lab.restore("--window"), lab.run("verify-backups.sh")):
                assert done.returncode == 66
                assert "can be recovered: WAL is missing" in done.stderr
            assert "GAP" in lab.restore("--window").stdout
            assert rows(lab, "--latest") == lab.server.sql("SELECT count(*) FROM payments")[0][0]
            survived(68, fault)


def test_a_container_made_anew_goes_on_with_the_same_data_and_is_refused_with_other_data(
    engine: str, tmp_path: Path, expected: Note, survived: Note
) -> None:
    expected(69, "container made anew", 2)
    (tmp_path / "a").mkdir()
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    name, inside, kept = f"pgbackup-test-anew-{os.getpid()}", {"PGDATA": "/kept/pgdata"}, {data: "/kept"}
    with archives.archived(15, tmp_path / "a", name=name, password="x", environment=inside, mounts=kept) as lab:
        lab.server.sql("CREATE TABLE payments AS SELECT generate_series(1, 10) AS id")
        lab.await_confirmed()
        docker("stop", lab.server.id)
        docker("rm", lab.server.id)
        with servers.running(
            15,
            name=name,
            database="payment_db",
            user="payment_user",
            password="x",
            environment=inside,
            mounts=kept,
            durable=True,
        ) as again:
            lab.server = again
            again.sql("INSERT INTO payments VALUES (11)")
            lab.await_received()
            survived(69, "container made anew")
        with servers.running(15, database="payment_db", user="payment_user", name=name) as other:
            lab.server = other
            assert lab.receivers.pop().wait(60) == 78
            assert "is not the archive's" in lab.said()
            assert rows(lab, "--latest") == 11
            survived(69, "container made anew")


def test_a_full_disk_makes_the_receiver_wait_and_nothing_is_lost(
    engine: str, tmp_path: Path, expected: Note, survived: Note
) -> None:
    expected(70, "BACKUP_DIR full while receiving", 1)
    place = tmp_path / "backups"
    with disk(place, size=150 << 20), archives.archived(15, tmp_path) as lab:
        lab.server.sql("CREATE TABLE payments (id serial PRIMARY KEY)")
        filler = place / "filler"
        with suppress(OSError):  # until nothing more goes in
            filler.write_bytes(bytes(150 << 20))
        for _ in range(4):
            lab.server.sql("INSERT INTO payments DEFAULT VALUES")
            lab.server.sql("SELECT pg_switch_wal()")
        lab.until(lambda: "wal.waiting" in lab.log(), 60)
        filler.unlink()
        lab.await_confirmed(90)
        assert lab.window()["problems"] == []
        assert rows(lab, "--latest") == 4
        survived(70, "BACKUP_DIR full while receiving")
