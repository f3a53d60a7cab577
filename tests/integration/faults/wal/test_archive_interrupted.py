"""Archiving and recovering that are killed, and servers that restart: rows 65 to 70 and 81 of the table of faults."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.faults.test_disk import disk
from tests.support import archives, servers
from tests.support.archives import NAME, Lab, rows
from tests.support.effort import FULL
from tests.support.runs import soon
from tests.support.servers import docker

Tries = Callable[[int, int], int]
Note = Callable[..., None]


@pytest.fixture(scope="module")
def lab(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server that may be crashed, with few rows."""
    with archives.archived(15, tmp_path_factory.mktemp("pitr"), settings={"max_wal_size": "64MB"}) as made:
        made.server.sql("CREATE TABLE payments (id serial PRIMARY KEY)")
        made.server.sql("INSERT INTO payments DEFAULT VALUES")
        made.await_confirmed()
        yield made


def live(lab: Lab) -> int:
    return int(lab.server.sql("SELECT count(*) FROM payments")[0][0])


# --- killed


def test_a_recovery_that_is_killed_at_any_moment_leaves_nothing(
    lab: Lab, tries: Tries, expected: Note, survived: Note
) -> None:
    count, fault = tries(1, 60), "restore --latest killed -9 at a random moment"
    expected(65, fault, count)
    before = live(lab)
    for _ in range(count):
        words = ("restore-postgres.sh", NAME, "--latest", "--into", "beside", "--yes")
        lab.signalled(signal.SIGKILL, random.uniform(0.3, 6), *words)
        lab.server.sql("DROP DATABASE IF EXISTS beside")
        assert lab.run("backup-postgres.sh", "-q").returncode == 0
        assert soon(lambda: archives.leftovers(lab) == []), archives.leftovers(lab)
        assert live(lab) == before
        assert lab.server.sql("SELECT datname FROM pg_database WHERE datname LIKE '%restor%'") == []
        survived(65, fault)


def test_a_base_backup_that_is_killed_at_any_moment_leaves_nothing(
    lab: Lab, tries: Tries, expected: Note, survived: Note
) -> None:
    count, fault = tries(1, 60), "backup-postgres.sh killed -9 in a base backup"
    expected(66, fault, count)
    for _ in range(count):
        lab.make_base_old(2)
        lab.signalled(signal.SIGKILL, random.uniform(0.5, 3), "backup-postgres.sh", "-q")
        done = lab.run("backup-postgres.sh", "-q")
        assert done.returncode == 0, done.stderr
        assert soon(lambda: archives.leftovers(lab) == []), archives.leftovers(lab)
        assert list(lab.look().wrong) == []
        survived(66, fault)
    if FULL:
        assert rows(lab, "--latest") == live(lab)


# --- the receiver and its server


def test_a_receiver_that_is_killed_while_it_begins_a_segment_goes_on(lab: Lab, expected: Note, survived: Note) -> None:
    fault = "receiver killed while it fills a segment with zeros"
    expected(81, fault, 1)
    lab.server.sql("INSERT INTO payments DEFAULT VALUES")  # a base backup may have ended the segment before
    lab.await_received()
    lab.stop(9)
    (partial,) = (lab.archive_path / "receiving").glob("*.partial")
    partial.write_bytes(bytes(14_819_328))
    lab.start()
    lab.server.sql("INSERT INTO payments DEFAULT VALUES")
    lab.await_received()
    lab.await_well()
    if FULL:
        assert rows(lab, "--latest") == live(lab)
    survived(81, fault)


def test_whatever_restarts_nothing_is_lost(lab: Lab, tries: Tries, expected: Note, survived: Note) -> None:
    """Nor was anything in the tests above, which leave it to this one to recover all of it in make test."""
    blows: dict[str, Callable[[Lab], object]] = {
        "receiver killed -9": lambda lab: (lab.stop(9), lab.start()),
        "database restarted": lambda lab: docker("restart", "-t", "10", lab.server.id),
        "database killed -9": lambda lab: (docker("kill", lab.server.id), docker("start", lab.server.id)),
        "database paused": lambda lab: (docker("pause", lab.server.id), docker("unpause", lab.server.id)),
        "walsender ended": lambda lab: lab.server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name LIKE 'pgbackup_wal_%'"
        ),
    }
    rounds, before = tries(1, 10), live(lab)
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
    assert rows(lab, "--latest") == live(lab) == before + 2 * len(blows) * rounds


LOSSES = {
    "slot dropped": "SELECT pg_drop_replication_slot('pgbackup_payment')",
    "slot limit reached": "ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'",
}


def test_lost_wal_is_a_gap_told_at_once_and_a_new_base_backup_closes_it(
    lab: Lab, expected: Note, survived: Note
) -> None:
    """The last one of this server: its gaps stay."""
    for fault, how in LOSSES.items():
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
        if FULL:
            assert rows(lab, "--latest") == live(lab)
    assert rows(lab, "--latest") == live(lab)
    for fault in LOSSES:
        survived(68, fault)


# --- containers and a disk of their own


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
