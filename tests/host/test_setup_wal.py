"""WAL archiving with systemd and without: set up, alive whatever happens, taken back without a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.host.host import SCRIPTS, SOURCE, Host, wait_for
from tests.host.test_setup import put
from tests.integration.test_clients import REMAPPING
from tests.support.effort import FULL, chosen, wide

SETUP = f"{SCRIPTS}/setup-wal-archiving.sh"
RESTORE = f"{SCRIPTS}/restore-postgres.sh"
UNIT = "postgres-wal@payment.service"
ARCHIVE = "/opt/backups/pitr/postgres-b"
TRACES = (
    "ls /etc/systemd/system /etc/systemd/system/multi-user.target.wants | grep postgres-wal;"
    " crontab -u deployer -l 2>/dev/null | grep receive-wal; pgrep -u deployer -f receive-wal; true"
)


def take_back(host: Host) -> None:
    """Leave neither archiving nor an archive on the host."""
    if host.run(TRACES) or host.succeeds("test -e /opt/backups/pitr"):
        host.run(f"{SETUP} --uninstall; rm -rf /opt/backups/pitr")


@pytest.fixture
def archived(installed: Host) -> Host:
    """The host with archiving of payment set up, as the test before has left it or anew."""
    if not installed.succeeds(f"systemctl is-active {UNIT}"):
        take_back(installed)
        installed.run(f"{SETUP} payment")
    return installed


@pytest.fixture
def parted(installed: Host) -> Host:
    """The host with an archive to which nothing is added, as the test before has left it or anew."""
    if installed.succeeds(f"systemctl is-active {UNIT}") or not installed.succeeds(f"test -e {ARCHIVE}"):
        installed.run(f"{SETUP} payment; {SETUP} payment --uninstall")
    return installed


@pytest.fixture
def unarchived(installed: Host) -> Iterator[Host]:
    """The host without archiving, and without an archive."""
    take_back(installed)
    yield installed
    take_back(installed)


def slots(host: Host) -> str:
    return host.sql("payment", "SELECT slot_name FROM pg_replication_slots")


def receiver_is_well(host: Host) -> bool:
    return host.succeeds(f"{RESTORE} payment --window")


def confirmed(host: Host) -> str:
    return str(json.loads(host.run(f"cat {ARCHIVE}/receiver.json"))["confirmed_time"])


def await_confirmed(host: Host) -> None:
    """Wait until what is committed now is archived."""
    now = host.run("date --utc +%FT%T.%6N")
    wait_for(lambda: confirmed(host)[:26] > now, 60)


def test_a_dry_run_shows_what_is_then_done_and_changes_nothing(unarchived: Host) -> None:
    said = unarchived.run(f"{SETUP} payment --dry-run")
    assert "would make the slot 'pgbackup_payment'" in said
    assert "+++ /etc/systemd/system/postgres-wal@.service" in said
    assert unarchived.run(TRACES) == "" and slots(unarchived) == ""
    assert not unarchived.succeeds("test -e /opt/backups/pitr")


def test_it_runs_as_deployer_and_a_second_time_changes_nothing(archived: Host) -> None:
    assert archived.run(f"systemctl is-active {UNIT}; systemctl is-enabled {UNIT}") == "active\nenabled"
    assert archived.run(f"systemctl show -p User --value {UNIT}") == "deployer"
    bases = archived.run(f"ls {ARCHIVE}/base")
    assert len(bases.split()) == 1
    archived.run(f"{SETUP} payment")
    assert archived.run(f"ls {ARCHIVE}/base") == bases
    assert slots(archived) == "pgbackup_payment"
    assert set(archived.run(f"find {ARCHIVE} -printf '%u %m\\n'").splitlines()) == {"deployer 700", "deployer 600"}
    assert archived.run("systemd-analyze verify /etc/systemd/system/postgres-wal@.service") == ""


def test_killed_rebooted_and_cut_off_it_comes_back(archived: Host) -> None:
    blows = [
        f"systemctl kill -s KILL {UNIT}",
        "docker restart -t 1 postgres-b",
        "docker pause postgres-b; sleep 1; docker unpause postgres-b",
    ]
    for blow in blows[: chosen(1, 3)]:
        archived.run(blow)
        await_confirmed(archived)
    archived.reboot()
    wait_for(lambda: archived.succeeds("docker exec postgres-b pg_isready -q -h 127.0.0.1"), 60)
    await_confirmed(archived)
    assert receiver_is_well(archived)
    assert archived.run(f"ps -o ni= -p $(systemctl show -P MainPID {UNIT})").strip() == "10", "it gives way"


def test_the_timers_verify_it_and_take_base_backups(archived: Host, undrilled: None) -> None:
    archived.run(f"{SCRIPTS}/setup-backup-systemd.sh -q")
    try:
        age = 'sed -i -E \'s/"ended": "[^T]*T/"ended": "2024-01-01T/\''
        archived.run(f"{age} {ARCHIVE}/base/*/base.json")
        archived.run("systemctl start --wait postgres-backup.service")
        assert len(archived.run(f"ls {ARCHIVE}/base").split()) == 2
        archived.run("systemctl start --wait postgres-verify.service")
        said = archived.run("journalctl -u postgres-verify.service --no-pager")
        assert f"WAL archive '{ARCHIVE}': 2 base backups" in said
        assert "NOT all good" not in said
    finally:
        archived.run(f"{SCRIPTS}/setup-backup-systemd.sh --uninstall")


def test_it_is_not_stopped_while_commits_wait_for_it(archived: Host) -> None:
    archived.sql("payment", "ALTER SYSTEM SET synchronous_standby_names = 'pgbackup_wal_payment'")
    archived.sql("payment", "SELECT pg_reload_conf()")
    said = archived.run(f"{SETUP} payment --uninstall; echo status=$?", check=False)
    assert "would hang without it" in said and said.endswith("status=78")
    assert archived.run(f"systemctl is-active {UNIT}") == "active"
    assert slots(archived) == "pgbackup_payment"
    archived.sql("payment", "ALTER SYSTEM RESET synchronous_standby_names")
    archived.sql("payment", "SELECT pg_reload_conf()")


def test_the_database_is_lost_with_its_volume_and_comes_back_to_the_last_commit(archived: Host) -> None:
    image = archived.run("docker inspect -f '{{.Config.Image}}' postgres-b")
    archived.sql("payment", "CREATE TABLE last_words (id int); INSERT INTO last_words SELECT generate_series(1, 77)")
    await_confirmed(archived)
    archived.run("docker rm -fv postgres-b")
    archived.run(
        "docker run -d --name postgres-b --network payment --restart unless-stopped -e POSTGRES_USER=payment_user"
        f" -e POSTGRES_DB=payment_db -e POSTGRES_PASSWORD=payment-system {image} postgres -c fsync=off"
    )
    wait_for(lambda: archived.succeeds("docker exec postgres-b pg_isready -q -h 127.0.0.1"), 60)
    archived.sql("payment", "CREATE ROLE postgres SUPERUSER LOGIN")
    # Nothing of the new cluster is appended to the old one's archive.
    wait_for(lambda: archived.run(f"systemctl show -p ExecMainStatus --value {UNIT}") == "78", 60)
    wait_for(lambda: archived.run(f"systemctl is-failed {UNIT}", check=False) == "failed", 60)
    said = archived.run(f"{RESTORE} payment --window", check=False)
    assert "is not the archive's" in said
    archived.run(f"{RESTORE} payment --latest --create-roles --yes")
    assert archived.sql("payment", "SELECT count(*) FROM last_words") == "77"
    assert "is kept as" in archived.run(f"{SETUP} payment")
    (old,) = [name for name in archived.run("ls /opt/backups/pitr").split() if name != "postgres-b"]
    if FULL:
        assert archived.succeeds(f"{RESTORE} payment --archive {old} --latest --into from_the_old_one --yes")
        archived.sql("payment", "DROP DATABASE from_the_old_one")
    archived.run(f"{RESTORE} payment --drop-old --yes")
    archived.sql("payment", "DROP TABLE last_words")


def test_taken_back_it_leaves_no_trace_and_the_archive(archived: Host) -> None:
    assert archived.sql("payment", "SHOW max_slot_wal_keep_size") == "10GB"
    archived.run(f"{SETUP} payment --uninstall")
    assert archived.run(TRACES) == "" and slots(archived) == ""
    wait_for(lambda: archived.sql("payment", "SHOW max_slot_wal_keep_size") == "-1", 60)
    if FULL:
        assert archived.succeeds(f"{RESTORE} payment --latest --into still_there --yes")
        archived.sql("payment", "DROP DATABASE still_there")
    assert archived.succeeds(f"test -e {ARCHIVE}/base/*/base.json")
    archived.run(f"{SETUP} payment --uninstall")


def test_set_up_again_after_wal_was_lost_it_is_well_and_the_gap_is_told(parted: Host) -> None:
    for _ in range(2):
        parted.sql("payment", "CREATE TABLE meanwhile (); DROP TABLE meanwhile; SELECT pg_switch_wal()")
        parted.sql("payment", "CHECKPOINT")
    said = parted.run(f"{SETUP} payment")
    assert "warning: payment: nothing between " in said and "GAP" in said
    said = parted.run(f"{RESTORE} payment --window; echo status=$?")
    assert "GAP" in said and said.endswith("status=66")
    if FULL:
        assert parted.succeeds(f"{RESTORE} payment --latest --into after_the_gap --yes")
        parted.sql("payment", "DROP DATABASE after_the_gap")


def test_a_server_that_is_down_is_told_and_the_rest_is_taken_back(archived: Host) -> None:
    archived.run("docker stop postgres-b")
    said = archived.run(f"{SETUP} payment --uninstall; echo status=$?", check=False)
    assert "could not be dropped" in said and said.endswith("status=69")
    assert archived.run(TRACES) == ""
    archived.run("docker start postgres-b")
    wait_for(lambda: archived.succeeds("docker exec postgres-b pg_isready -q -h 127.0.0.1"), 60)
    assert slots(archived) == "pgbackup_payment"
    archived.run(f"{SETUP} payment --uninstall")
    assert slots(archived) == ""


def test_the_suites_uninstall_takes_it_along(archived: Host) -> None:
    archived.run(f"cp -a {SCRIPTS}/../.venv /root; make -C {SOURCE} uninstall")
    assert archived.run(TRACES) == "" and slots(archived) == ""
    # What it would take longest to make again is not what is tried here.
    archived.run(f"mkdir -p {SCRIPTS} && mv /root/.venv {SCRIPTS}/.. && make -C {SOURCE} install")


def test_without_systemd_cron_keeps_it_alive(unarchived: Host) -> None:
    """Also where an earlier set-up was for another account and another directory."""
    roots = "crontab -u root -l 2>/dev/null; true"
    unarchived.run("mv /run/systemd/system /run/systemd/away")
    try:
        other = f"* * * * * BACKUP_DIR=/srv/backups {SCRIPTS}/receive-wal.sh -q --watchdog payment"
        unarchived.run(f"for user in root deployer; do echo '{other}' | crontab -u $user -; done")
        unarchived.run(f"{SETUP} payment --user deployer")
        assert unarchived.run(roots) == ""
        line = f"* * * * * BACKUP_DIR=/opt/backups {SCRIPTS}/receive-wal.sh -q --watchdog payment"
        assert unarchived.run("crontab -u deployer -l | grep receive-wal") == line
        assert receiver_is_well(unarchived)
        ours = "receive-wal paymen[t]|receive-wal -q --watchdog paymen[t]"
        assert unarchived.run(f"pgrep -c -u deployer -f '{ours}'") == "1"
        unarchived.run(f"echo '{line}' | crontab -u root -")
        unarchived.run(f"{SETUP} payment --uninstall")
        assert unarchived.run(roots) == ""
        assert unarchived.run(TRACES) == "" and slots(unarchived) == ""
    finally:
        unarchived.run("mv /run/systemd/away /run/systemd/system")


REFUSED = [
    (f"runuser -u nobody -- {SETUP} payment", 77, "only root may"),
    (SETUP, 64, "name the databases"),
    (f"{SETUP} nosuch", 64, "there is no database 'nosuch'"),
    (f"{SETUP} payment --user nosuch", 78, "there is no account 'nosuch'"),
    (f"PAYMENT_CLIENT=exec {SETUP} payment", 78, "PAYMENT_CLIENT=exec rules that out"),
    (f"DOCKER=/tmp/remapping {SETUP} payment", 69, "none can be there: docker run on 'payment_db' ended"),
    (f"{SCRIPTS}/receive-wal.sh payment", 78, "is not archived"),
    (f"{RESTORE} payment --window", 66, "there is no WAL archive"),
]


@wide("command, status, said", REFUSED[::2], REFUSED)
def test_what_cannot_be_is_refused_and_changes_nothing(unarchived: Host, command: str, status: int, said: str) -> None:
    put(unarchived, "/tmp/remapping", f'#!/bin/sh\nset -f\nexec {REMAPPING} "$@"\n')
    unarchived.run("chmod 755 /tmp/remapping")
    out = unarchived.run(f"{command}; echo status=$?", check=False)
    assert out.endswith(f"status={status}") and said in out and "Hint: " in out
    assert unarchived.run(TRACES) == "" and not unarchived.succeeds("test -e /opt/backups/pitr")
