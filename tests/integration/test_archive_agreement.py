"""Whose archive it is: a slot that somebody else uses, a role with few rights, databases and clusters side by side."""

from __future__ import annotations

import getpass
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pgbackup.commands.setup import wal
from pgbackup.commands.setup.options import Options
from pgbackup.errors import ConfigurationError, IoFailed
from pgbackup.host.scheduling import wal_service

from tests.support import archives
from tests.support.archives import Lab, rows
from tests.support.effort import wide


@pytest.fixture(scope="module")
def lab(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three payments, archived; a backup of today is there."""
    with archives.archived(18, tmp_path_factory.mktemp("pitr"), durable=False) as made:
        made.server.sql("CREATE TABLE payments AS SELECT generate_series(1, 3) AS id")
        made.await_confirmed()
        assert made.run("backup-postgres.sh", "-q").returncode == 0
        yield made


def test_a_slot_that_another_installation_uses_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    other = Lab(lab.server, tmp_path / "backups")
    with pytest.raises(ConfigurationError, match="another installation receives this WAL") as caught:
        other.agree()
    assert caught.value.hint and "pg_stat_replication" in caught.value.hint
    assert not other.place.joinpath("pitr").exists()
    assert lab.server.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == [(1,)]


def test_another_cluster_may_not_use_a_directory_that_is_in_use(lab: Lab) -> None:
    state = lab.archive_path / "archive.json"
    before = state.read_text()
    state.write_text(json.dumps({**json.loads(before), "owner": "auth", "system": 1}))
    try:
        with pytest.raises(ConfigurationError, match="holds the archive of 'auth', which is another cluster"):
            lab.agree()
    finally:
        state.write_text(before)


def test_to_agree_again_changes_nothing(lab: Lab) -> None:
    state = (lab.archive_path / "archive.json").read_text()
    slots = "SELECT slot_name, restart_lsn >= '0/1', active FROM pg_replication_slots"
    before = lab.server.sql(slots)
    assert lab.agree() == []
    assert (lab.archive_path / "archive.json").read_text() == state
    assert lab.server.sql(slots) == before
    assert lab.server.sql("SHOW max_slot_wal_keep_size") == [("10GB",)]


def test_one_receiver_at_a_time(lab: Lab) -> None:
    done = lab.run("receive-wal.sh", "payment", seconds=30)
    assert done.returncode == 75, done.stderr
    assert lab.run("receive-wal.sh", "payment", "--watchdog", seconds=30).returncode == 0


def test_a_receiver_gives_way_to_the_server_beside_it(lab: Lab) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, lab.receivers[-1].pid) == min(19, ours + 10)


def test_an_archive_that_was_moved_aside_is_recovered_by_its_name(lab: Lab, tmp_path: Path) -> None:
    aside = Lab(lab.server, tmp_path / "backups", {"PAYMENT_DIR": "elsewhere"})
    (aside.place / "pitr").mkdir(parents=True, mode=0o700)
    aside.place.chmod(0o700)
    archive = aside.place / "pitr" / "payment.4711"
    shutil.copytree(lab.archive_path, archive, ignore=shutil.ignore_patterns("*.pipes"))
    done = aside.restore("--window")
    assert done.returncode == 66
    assert "there is no WAL archive in" in done.stderr
    assert aside.restore("--latest", "--into", "beside", "--yes").returncode == 66
    shown = aside.restore("--window", "--archive", "payment.4711", "--json")
    assert json.loads(shown.stdout)["archive"] == str(archive)
    assert rows(aside, "--latest", "--archive", "payment.4711") == 3
    refused = aside.restore("--latest", "--archive", "payment.4712", "--into", "beside", "--yes")
    assert refused.returncode == 66
    assert "payment.4712" in refused.stderr


def test_databases_that_share_an_archive_have_it_verified_and_a_base_backup_made_once(lab: Lab) -> None:
    lab.server.sql("CREATE DATABASE auth_db")
    second = {"DATABASES": "payment auth", "AUTH_CONTAINER": lab.server.name, "AUTH_DIR": "payment"}
    second |= {"AUTH_DATABASE": "auth_db", "AUTH_USER": lab.server.user, "AUTH_SERVICES": "", "AUTH_HEALTH_URL": ""}
    lab.settings.update(second)
    try:
        (record,) = (lab.archive_path / "base").glob("*/base.json")
        told = json.loads(record.read_text())
        record.write_text(json.dumps({**told, "ended": told["ended"].replace("2", "1", 1)}))  # a thousand years ago
        done = lab.run("backup-postgres.sh", "--json")
        assert done.returncode == 0, done.stderr
        made = [one["base"] for one in json.loads(done.stdout)["databases"]]
        assert len([name for name in made if name]) == 1
        done = lab.run("verify-backups.sh", "--json")
        assert done.returncode == 0, done.stderr
        (archive,) = json.loads(done.stdout)["archives"]
        assert (archive["status"], archive["bases"]) == (0, 2)
    finally:
        lab.settings.clear()
        lab.server.sql("DROP DATABASE auth_db")


@pytest.mark.fault(92, "the set-up may not change the server's settings")
@wide("major", [15], [15, 18])
def test_a_server_whose_settings_cannot_be_changed_is_archived_with_a_warning(
    engine: str, tmp_path: Path, major: int
) -> None:
    settings = {"allow_alter_system": "off"} if major == 18 else {}
    with archives.archived(major, tmp_path, started=False, durable=False, settings=settings) as lab:
        if major == 15:  # the file that ALTER SYSTEM writes
            lab.server.exec(["mkdir", "/var/lib/postgresql/data/postgresql.auto.conf.tmp"])
        for _ in range(2):
            (warning,) = lab.agree()
            assert "max_slot_wal_keep_size is -1, and it could not be set (psql on 'payment_db' ended" in warning
            assert json.loads((lab.archive_path / "archive.json").read_text())["keep_was_set"] is False
            assert lab.server.sql("SELECT slot_name FROM pg_replication_slots") == [("pgbackup_payment",)]
        if major == 18:
            lab.start()
            lab.await_well()


@pytest.mark.fault(92, "a set-up whose receiver cannot be started")
def test_a_set_up_whose_receiver_cannot_be_started_leaves_nothing_on_the_server(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise IoFailed("cannot write the crontab")

    monkeypatch.setattr(wal_service, "setting_up", lambda *_: [])
    monkeypatch.setattr(wal_service, "start", refuse)
    options = Options(getpass.getuser(), None, dry_run=False)
    with archives.archived(15, tmp_path, started=False, durable=False) as lab, lab.job() as job:
        with pytest.raises(IoFailed, match="cannot write the crontab"):
            wal._set_up(job, archives.ROOT, options, wal.Told())
        assert lab.server.sql("SELECT slot_name FROM pg_replication_slots") == []
        assert lab.server.sql("SELECT name FROM pg_file_settings WHERE name = 'max_slot_wal_keep_size'") == []
        assert json.loads((lab.archive_path / "archive.json").read_text())["active"] is False


def test_a_role_with_the_right_to_replicate_is_enough(engine: str, tmp_path: Path) -> None:
    """It may not limit how much WAL the slot holds back, and says who has to."""
    with archives.archived(15, tmp_path, started=False, durable=False) as lab:
        lab.server.sql("CREATE ROLE clerk LOGIN REPLICATION CREATEDB")
        lab.server.sql(f"ALTER DATABASE {lab.server.database} OWNER TO clerk")
        lab.server.sql("CREATE TABLE payments AS SELECT generate_series(1, 3) AS id")
        lab.server.sql("ALTER TABLE payments OWNER TO clerk")
        lab.settings["PAYMENT_USER"] = "clerk"
        with pytest.raises(ConfigurationError, match="may not see how far the receiver is") as caught:
            lab.agree()
        assert caught.value.hint == 'GRANT pg_read_all_stats TO "clerk"'
        lab.server.sql(caught.value.hint)
        (warning,) = lab.agree()
        assert "'clerk' may not set it" in warning
        assert "ALTER SYSTEM SET max_slot_wal_keep_size" in warning
        lab.start()
        lab.await_well()
        lab.server.sql("INSERT INTO payments VALUES (4)")
        lab.await_confirmed()
        assert lab.window()["problems"] == []
        assert rows(lab, "--latest") == 4
