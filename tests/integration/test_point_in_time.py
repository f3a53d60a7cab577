"""A database comes back as it was at any moment, and whoever asks for another one is told what there is."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pgbackup.errors import ConfigurationError

from tests.support import archives
from tests.support.archives import Lab
from tests.support.effort import FULL, only_in_full, wide
from tests.support.servers import docker

COMMITS = 300


@pytest.fixture(scope="module")
def labs(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Lab]]:
    """A function: major version -> a server with a row for each commit, all archived, and nothing written since."""
    with ExitStack() as stack:

        @functools.cache
        def of(major: int) -> Lab:
            settings = {"track_commit_timestamp": "on", **({"summarize_wal": "on"} if major >= 17 else {})}
            place = tmp_path_factory.mktemp("pitr")
            made = stack.enter_context(archives.archived(major, place, settings=settings, durable=False))
            made.server.sql("CREATE TABLE payments (id int PRIMARY KEY)")
            with made.server.connect() as session:
                for number in range(COMMITS):
                    session.execute("INSERT INTO payments VALUES (%s)", (number,))
                    if number == 200:
                        session.execute("SELECT pg_create_restore_point('before the mistake')")
                        session.execute("SELECT pg_switch_wal()")
            made.await_confirmed()
            return made

        yield of


@pytest.fixture
def each(labs: Callable[[int], Lab], request: pytest.FixtureRequest) -> Lab:
    """With the oldest and the newest version."""
    return labs(request.param)


@pytest.fixture
def lab(labs: Callable[[int], Lab]) -> Lab:
    """With the newest version."""
    return labs(18)


def restored(lab: Lab, *to: str) -> list[int]:
    """The rows of a database recovered beside the live one, which is gone afterwards."""
    done = lab.restore(*to, "--into", "beside", "--yes")
    assert done.returncode == 0, done.stderr
    assert archives.leftovers(lab) == []
    try:
        with lab.server.connect(database="beside") as session:
            return [number for (number,) in session.execute("SELECT id FROM payments ORDER BY id")]
    finally:
        lab.server.sql("DROP DATABASE beside")


def committed(lab: Lab, number: int, what: str = "pg_xact_commit_timestamp(xmin)") -> str:
    return str(lab.server.sql(f"SELECT {what}::text FROM payments WHERE id = {number}")[0][0])


def refused(lab: Lab, status: int, said: str, *words: str) -> str:
    done = lab.restore(*words)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Hint: " in done.stderr
    assert archives.leftovers(lab) == []
    return done.stderr


# --- exactly there


@only_in_full  # in make test a moment is recovered in the database's own place, see below
@pytest.mark.parametrize("number", [0, COMMITS - 2])
@pytest.mark.parametrize("each", [15, 18], indirect=True)
def test_of_commits_a_millisecond_apart_exactly_those_up_to_the_moment_exist(each: Lab, number: int) -> None:
    assert restored(each, "--to-time", committed(each, number)) == list(range(number + 1))


def test_a_transaction_is_there_and_the_next_one_is_not(lab: Lab) -> None:
    assert restored(lab, "--to-xid", committed(lab, 42, "xmin")) == list(range(43))


@only_in_full
@pytest.mark.parametrize("each", [15, 18], indirect=True)
def test_a_restore_point_is_found(each: Lab) -> None:
    assert restored(each, "--to-name", "before the mistake") == list(range(201))


@only_in_full
def test_a_position_and_the_latest_commit(lab: Lab) -> None:
    lsn = json.loads((lab.archive_path / "receiver.json").read_text())["confirmed_lsn"]
    assert restored(lab, "--to-lsn", lsn) == list(range(COMMITS))
    assert restored(lab, "--latest") == list(range(COMMITS))
    # Nothing begins at the end of all WAL, and yet it is not tried twice.
    done = lab.restore("--to-lsn", lsn, "--dry-run")
    assert (done.returncode, done.stderr.count("recovering to lsn")) == (0, 1), done.stderr


@wide("each", [18], [15, 18], indirect=True)
def test_of_an_idle_database_the_moment_after_the_last_commit_can_be_had(each: Lab) -> None:
    assert restored(each, "--to-time", each.confirmed()[0]) == list(range(COMMITS))


def test_a_drill_of_a_moment_passes_and_is_no_drill_of_a_file(lab: Lab) -> None:
    assert lab.run("backup-postgres.sh", "-q").returncode == 0
    ended = lab.run("drill-backups.sh", archives.NAME, "--at-time", committed(lab, 100), "--json")
    (made,) = json.loads(ended.stdout)["drills"]
    assert (ended.returncode, made["verdict"], made["rows"]) == (0, "passed", 101), ended.stderr
    assert made["seconds"]["recovery"] > 0
    known = json.loads((lab.place / "payment" / f".{lab.server.database}.drills.json").read_text())
    assert known["moment"] and known["passed"] == {}


def test_in_its_place_the_old_one_is_kept_and_comes_back(lab: Lab) -> None:
    done = lab.restore("--to-time", committed(lab, 99), "--yes")
    assert done.returncode == 0, done.stderr
    assert "100 rows" in done.stdout
    assert lab.server.sql("SELECT id FROM payments ORDER BY id") == [(number,) for number in range(100)]
    past = lab.restore("--history").stdout
    assert "WAL archive to time " in past
    assert lab.restore("--rollback", "--yes").returncode == 0
    assert lab.server.sql("SELECT count(*) FROM payments") == [(COMMITS,)]
    assert lab.restore("--drop-old", "--yes").returncode == 0


@only_in_full
def test_a_dry_run_recovers_and_changes_nothing(lab: Lab) -> None:
    before = lab.server.sql("SELECT datname FROM pg_database ORDER BY 1")
    done = lab.restore("--latest", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "WILL BE LOST" in done.stderr
    assert lab.server.sql("SELECT datname FROM pg_database ORDER BY 1") == before


# --- what is there, and what is not


def test_the_window_is_told(lab: Lab) -> None:
    told = lab.window()
    (window,) = told["windows"]
    assert told["status"] == 0 and told["problems"] == [] and window["confirmed"]
    assert datetime.fromisoformat(window["since"]) < datetime.fromisoformat(window["until"])
    shown = lab.restore("--window").stdout
    assert "archiving is on" in shown and "recoverable" in shown and window["bases"][0] in shown


def test_outside_of_it_the_error_names_it(lab: Lab) -> None:
    for moment, side in (
        ("2024-01-15 13:37:00+03", "before the first base backup"),
        ("2999-01-01", "after the last WAL"),
    ):
        said = refused(lab, 66, side, "--to-time", moment, "--into", "x", "--yes")
        assert "  recoverable   20" in said
    refused(lab, 66, "before the first base backup", "--to-lsn", "0/1", "--into", "x", "--yes")


def test_an_unknown_restore_point_or_transaction_is_told(lab: Lab) -> None:
    assert "recoverable" in refused(lab, 66, "there is no restore point 'x y'", "--to-name", "x y", "--yes")
    if FULL:
        refused(lab, 66, "there is no transaction '4000000000'", "--to-xid", "4000000000", "--yes")


SENSELESS = [
    (["--to-time", "tomorrow"], "is not a time"),
    (["--to-lsn", "x"], "is not a position"),
    (["--to-xid", "-1"], "is not a transaction number"),
    (["--to-name", ""], "is not the name of a restore point"),
    (["--latest", "--to-time", "2024-01-15"], "name one FILE"),
    (["--latest", "file.sql.gz"], "name one FILE"),
    (["--window", "--into", "x"], "need something to restore"),
    (["--archive", "x"], "name one FILE"),
    (["--archive", "../x", "--latest"], "is not the name of a directory"),
    (["--latest"], "there is no terminal"),
]


@wide("words, said", SENSELESS[::4], SENSELESS)
def test_what_makes_no_sense_is_refused_at_once(lab: Lab, words: list[str], said: str) -> None:
    before = lab.log()
    refused(lab, 64, said, *words)
    assert "recovery" not in lab.log()[len(before) :]


def test_a_name_that_is_taken_is_refused_before_the_recovery(lab: Lab) -> None:
    before = lab.log()
    refused(lab, 78, "there is a database 'postgres' already", "--latest", "--into", "postgres", "--yes")
    assert "recovery" not in lab.log()[len(before) :]


# --- base backups


def bases(lab: Lab) -> list[dict[str, Any]]:
    found = sorted((lab.archive_path / "base").iterdir())
    return [{**json.loads((path / "base.json").read_text()), "name": path.name} for path in found]


@wide("each", [18], [15, 18], indirect=True)
def test_the_nightly_run_makes_one_when_it_is_due_and_lets_old_ones_expire(each: Lab) -> None:
    """On PostgreSQL 18 it is an incremental one, and what it builds upon stays."""
    assert each.run("backup-postgres.sh").returncode == 0
    (first,) = bases(each)
    each.make_base_old(20)
    each.settings["PAYMENT_BASE_FULL_EVERY_DAYS"] = "60"
    assert "and a base backup: the newest is from" in each.run("backup-postgres.sh", "--dry-run").stdout
    with each.server.connect() as session:
        session.execute("CREATE TABLE IF NOT EXISTS more AS SELECT generate_series(1, 1000) AS id")
    assert each.run("backup-postgres.sh").returncode == 0
    second = bases(each)[-1]
    assert second["name"] != first["name"] and second["proven"]
    assert second["parent"] == (first["name"] if each.server.major >= 17 else "")
    each.await_received()
    assert restored(each, "--latest") == list(range(COMMITS))
    each.make_base_old(10)  # older than RETENTION_DAYS: nothing needs the first one, unless it is the other's parent
    assert each.run("backup-postgres.sh").returncode == 0
    names = [each["name"] for each in bases(each)]
    assert names[0] == (first["name"] if each.server.major >= 17 else second["name"])
    done = each.run("verify-backups.sh")
    assert done.returncode == 0, done.stderr
    assert f"{len(names)} base backup" in done.stdout
    each.settings.clear()


def test_a_failure_is_the_runs_failure_and_nothing_expires(lab: Lab) -> None:
    before = [each["name"] for each in bases(lab)]
    lab.make_base_old(3)
    assert "does a schedule run backup-postgres.sh?" in lab.restore("--window").stderr
    (lab.archive_path / "base").chmod(0o770)
    try:
        done = lab.run("backup-postgres.sh")
    finally:
        (lab.archive_path / "base").chmod(0o700)
    assert done.returncode == 73
    assert "the dump is published, but no base backup could be made" in done.stderr
    assert [each["name"] for each in bases(lab)] == before


@only_in_full
def test_another_database_of_the_cluster_shares_the_archive(lab: Lab) -> None:
    lab.server.sql("CREATE DATABASE auth_db")
    with lab.server.connect(database="auth_db") as session:
        session.execute("CREATE TABLE users AS SELECT generate_series(1, 5) AS id")
    lab.await_received()
    second = {"DATABASES": "payment auth", "AUTH_CONTAINER": lab.server.name, "AUTH_DIR": "payment"}
    second |= {"AUTH_DATABASE": "auth_db", "AUTH_USER": lab.server.user, "AUTH_SERVICES": "", "AUTH_HEALTH_URL": ""}
    lab.settings.update(second)
    try:
        done = lab.run("restore-postgres.sh", "auth", "--latest", "--into", "auth_beside", "--yes")
        assert done.returncode == 0, done.stderr
        with lab.server.connect(database="auth_beside") as session:
            assert session.execute("SELECT count(*) FROM users").fetchone() == (5,)
    finally:
        lab.settings.clear()
        for name in ("auth_beside", "auth_db"):
            lab.server.sql(f"DROP DATABASE IF EXISTS {name}")


def test_tablespaces_come_back(engine: str, tmp_path: Path) -> None:
    with archives.archived(18, tmp_path, started=False, durable=False, settings={"summarize_wal": "on"}) as lab:
        docker("exec", lab.server.id, "install", "-d", "-o", "postgres", "-m", "0700", "/var/lib/postgresql/fast")
        lab.server.sql("CREATE TABLESPACE fast LOCATION '/var/lib/postgresql/fast'")
        lab.server.sql("CREATE TABLE payments (id int PRIMARY KEY) TABLESPACE fast")
        lab.server.sql("INSERT INTO payments SELECT generate_series(1, 1000)")
        lab.agree()
        lab.start()
        lab.await_well()
        lab.server.sql("INSERT INTO payments VALUES (0)")
        lab.make_base_old(3)
        assert lab.run("backup-postgres.sh").returncode == 0
        assert [len(each["archives"]) for each in bases(lab)] == [2, 2]
        assert [each["parent"] for each in bases(lab)] == ["", sorted(lab.look().bases)[0]]
        lab.await_received()
        assert restored(lab, "--latest") == list(range(1001))
        done = lab.run("verify-backups.sh")
        assert done.returncode == 0, done.stderr


# --- what the server does not allow


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"wal_level": "minimal", "max_wal_senders": 0}, ["wal_level is minimal", "max_wal_senders is 0"]),
        (
            {"max_wal_senders": 1, "max_replication_slots": 0},
            ["max_wal_senders is 1, and 2 are needed", "all 0 of max_replication_slots are taken"],
        ),
    ],
)
def test_a_server_that_cannot_be_archived_is_told_what_to_change(
    engine: str, tmp_path: Path, settings: dict[str, Any], said: list[str]
) -> None:
    with archives.archived(15, tmp_path, started=False, durable=False, settings=settings) as lab:
        with pytest.raises(ConfigurationError) as caught:
            lab.agree()
        assert all(text in caught.value.message for text in said)
        assert caught.value.hint and "ALTER SYSTEM SET" in caught.value.hint
        assert lab.server.sql("SELECT count(*) FROM pg_replication_slots") == [(0,)]
        assert not (lab.place / "pitr").exists()


def test_a_server_without_rules_for_replication_and_a_role_without_the_right(engine: str, tmp_path: Path) -> None:
    with archives.archived(15, tmp_path, started=False, durable=False) as lab:
        hba = lab.server.sql("SHOW hba_file")[0][0]
        docker("exec", lab.server.id, "sed", "-i", "/replication/d", str(hba))
        lab.server.sql("SELECT pg_reload_conf()")
        with pytest.raises(ConfigurationError, match="refuses a replication connection") as caught:
            lab.agree()
        assert caught.value.hint and "host replication payment_user 127.0.0.1/32 trust" in caught.value.hint
        lab.server.sql("CREATE ROLE weak LOGIN")
        lab.settings["PAYMENT_USER"] = "weak"
        with pytest.raises(ConfigurationError, match="the role 'weak' may not replicate"):
            lab.agree()
