"""Cron and systemd themselves start the backups, make up for a missed one, and tell of one that failed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.host.host import SCRIPTS, Host, healthy, wait_for
from tests.support import drills
from tests.support.effort import only_in_full

UNITS = (
    "postgres-backup.service",
    "postgres-backup.timer",
    "postgres-verify.service",
    "postgres-verify.timer",
    "postgres-drill.service",
    "postgres-drill.timer",
    "postgres-backup-failure@.service",
)

# What somebody adds to be told in another way.
_TELL = """
install -d -m 0777 /run/told
mkdir -p /etc/systemd/system/postgres-backup-failure@.service.d
cat >/etc/systemd/system/postgres-backup-failure@.service.d/tell.conf <<'UNIT'
[Service]
ExecStart=/bin/touch /run/told/%i
ReadWritePaths=/run/told
UNIT
systemctl daemon-reload
"""


# Lets the promises be judged every five seconds until the next boot.
_OFTEN = """
mkdir -p /run/systemd/system/postgres-status.timer.d
printf '[Timer]\\nOnCalendar=*:*:0/5\\n' >/run/systemd/system/postgres-status.timer.d/often.conf
systemctl daemon-reload
systemctl restart postgres-status.timer
"""


# A mailer for cron, which looks for one at this place.
_MAILER = """
install -d -m 0777 /run/told
printf '#!/bin/sh\\ncat >>/run/told/mail\\n' >/usr/sbin/sendmail
chmod 755 /usr/sbin/sendmail
"""


_TOLD = "/var/lib/pgbackup/told"


@contextmanager
def alarmed(host: Host) -> Iterator[None]:
    """The host with a program that is told: what comes to it is in _TOLD."""
    settings = f"{SCRIPTS}/../.env"
    host.run(f"cp -p {settings} /root/unalarmed && echo 'ALERT_COMMAND=\"tee -a {_TOLD}\"' >>{settings}")
    try:
        host.run(f"{SCRIPTS}/setup-alerts.sh --file /dev/null")
        assert "a test of the alarms" in host.run(f"cat {_TOLD}")
        yield
    finally:
        host.run(f"{SCRIPTS}/setup-alerts.sh --uninstall; mv /root/unalarmed {settings}")
        host.run("rm -r /var/lib/pgbackup /etc/pgbackup/alerts")


def told(host: Host, pattern: str) -> bool:
    """Whether an alarm came whose text has that in it; in one that nothing else divides."""
    alarms = host.run(f"cat {_TOLD}", check=False).split("Everything at a glance")
    return any(re.search(pattern, alarm, re.DOTALL) for alarm in alarms)


@pytest.fixture
def with_timer(installed: Host) -> Iterator[Host]:
    """The host with the systemd timers on."""
    installed.run(f"{SCRIPTS}/setup-backup-cron.sh --uninstall; {SCRIPTS}/setup-backup-systemd.sh")
    yield installed
    installed.run(f"{SCRIPTS}/setup-backup-systemd.sh --uninstall")


@pytest.fixture
def broken(installed: Host) -> Iterator[Host]:
    """The host after a migration of auth_db that pg_dump writes down and no psql can load."""
    before = all_files(installed)
    installed.run("rm -f /opt/backups/postgres-?/.*.drills.json")
    installed.sql("auth", drills.CANNOT_BE_LOADED.replace("$", r"\$"))
    yield installed
    installed.sql("auth", "DROP TABLE prices; DROP FUNCTION fits; DROP FUNCTION helper")
    for path in all_files(installed)["auth"] - before["auth"]:
        installed.run(f"rm {path}")
    installed.run(f"DRILL_AFTER_BACKUP=no {SCRIPTS}/backup-postgres.sh -q auth", "deployer")


def both_have_more_than(host: Host, before: dict[str, set[str]]) -> bool:
    return all(host.files(target) - files for target, files in before.items())


def finished_runs(host: Host) -> int:
    return int(host.run("cat /opt/backups/backup.log 2>/dev/null | grep -c event=run.finish", check=False))


def told_of(host: Host, unit: str, since: str) -> bool:
    """Whether the unit that tells of failures has told of this one."""
    return f"{unit} has failed" in host.run(f"journalctl -p err -u 'postgres-backup-failure@*' --since {since}")


def all_files(host: Host) -> dict[str, set[str]]:
    return {target: host.files(target) for target in ("auth", "payment")}


def test_every_unit_is_well_formed_and_every_service_is_hardened(with_timer: Host) -> None:
    places = " ".join(f"/etc/systemd/system/{unit}" for unit in UNITS)
    assert with_timer.run(f"systemd-analyze verify {places}") == ""
    for unit in (unit for unit in UNITS if unit.endswith(".service")):
        said = with_timer.run(f"systemd-analyze security --no-pager {unit.replace('@', '@example')}")
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
        assert found, unit
        assert float(found[1]) <= 4.0, said


def test_a_malformed_unit_would_be_noticed(installed: Host) -> None:
    installed.run(
        "sed s/ExecStart=/ExecStrat=/ /usr/lib/systemd/system/cron.service >/run/systemd/system/broken.service"
    )
    assert installed.run("systemd-analyze verify /run/systemd/system/broken.service; true") != ""
    installed.run("rm /run/systemd/system/broken.service")


@pytest.mark.fault(160, "a migration that breaks the restore, by cron")
def test_cron_starts_backup_and_drill_as_deployer_and_mails_that_a_restore_is_broken(broken: Host) -> None:
    before = all_files(broken)
    runs = finished_runs(broken)
    broken.run(f"cat <<'EOF' | sh -e\n{_MAILER}\nEOF")
    # The drill waits for the backup of its minute: both start together, and it would make way.
    done = f"until [ $(grep -c event=run.finish /opt/backups/backup.log) -gt {runs} ]; do sleep 0.2; done"
    edit = f"sed 's|^0 2 [*] [*] [*] |* * * * * |; s|^0 5 [*] [*] 3 |* * * * * {done}; |; s|^[*]/4 |* |'"
    try:
        broken.run(f"{SCRIPTS}/setup-backup-cron.sh")
        with alarmed(broken):
            broken.run(f"crontab -u deployer -l | {edit} | crontab -u deployer -")
            wait_for(lambda: finished_runs(broken) > runs, 120)
            wait_for(lambda: told(broken, r"BROKEN.* alarms tested.* type: \S*/test-alarms.sh"), 120)
            assert "backup-status.sh --scheduled -q" in broken.run("crontab -u deployer -l; crontab -u deployer -r")
        assert both_have_more_than(broken, before)
        wait_for(lambda: broken.succeeds("grep -q 'restore (s)' /run/told/mail"), 120)
    finally:
        broken.run(f"{SCRIPTS}/setup-backup-cron.sh --uninstall; rm /usr/sbin/sendmail")
    for target, files in all_files(broken).items():
        for path in files - before[target]:
            assert broken.run(f"stat -c '%U %a' {path}") == "deployer 600"
    assert re.search(r"\(deployer\) CMD \(BACKUP_DIR=/opt/backups ", broken.run("journalctl -u cron.service"))
    mail = broken.run("cat /run/told/mail; rm -r /run/told")
    assert "auth: the backup is published, but it cannot be restored" in mail
    assert "drill-backups.sh: auth: the drill of" in mail and "is FAILED" in mail
    assert "TABLE DATA prices" in mail and "function helper(integer) does not exist" in mail
    assert re.search(r"^payment +passed ", mail, re.MULTILINE)


@only_in_full
@pytest.mark.fault(160, "a migration that breaks the restore, by systemd")
def test_a_migration_that_breaks_the_restore_is_told_the_same_night(with_timer: Host, broken: Host) -> None:
    for unit in ("postgres-backup.service", "postgres-drill.service"):
        since = broken.run("date +@%s")
        assert not broken.succeeds(f"systemctl start {unit}")
        said = broken.run(f"journalctl -u {unit} --since {since}")
        assert "TABLE DATA prices" in said and "function helper(integer) does not exist" in said
        assert "payment: drilled" in said
        wait_for(partial(told_of, broken, unit, since), 60)


def test_a_failing_backup_reaches_the_unit_that_tells_of_it(with_timer: Host, undrilled: None) -> None:
    with_timer.run(f"cat <<'EOF' | sh -e\n{_TELL}\nEOF")
    with alarmed(with_timer):
        with_timer.run("docker stop service-b-1 service-b-2 postgres-b")
        try:
            assert not with_timer.succeeds("systemctl start postgres-backup.service")
            wait_for(lambda: with_timer.succeeds("test -e /run/told/postgres-backup.service"), 60)
            said = with_timer.run("journalctl -p err -u 'postgres-backup-failure@*'")
            assert "postgres-backup.service has failed" in said
            # That unit has had the promises judged, whatever the timer does.
            wait_for(lambda: told(with_timer, r"BROKEN.*backup made \(payment\): the last run failed with 69"), 120)
        finally:
            with_timer.run("docker start postgres-b service-b-1 service-b-2")
            with_timer.run("rm -r /etc/systemd/system/postgres-backup-failure@.service.d; systemctl daemon-reload")
        with_timer.run("systemctl start postgres-backup.service")
        with_timer.run(f"cat <<'EOF' | sh -e\n{_OFTEN}\nEOF")
        wait_for(lambda: told(with_timer, r"KEPT AGAIN.*backup made \(payment\)"), 120)
        exposure = with_timer.run("systemd-analyze security --no-pager postgres-status.service | tail -1")
        assert float(exposure.split(": ")[1].split()[0]) <= 4.0, exposure
    wait_for(lambda: healthy(with_timer), 60)


def test_a_run_that_was_missed_is_made_up_for_after_a_reboot(with_timer: Host, undrilled: None) -> None:
    stamp = "/var/lib/systemd/timers/stamp-postgres-backup.timer"
    assert with_timer.succeeds(f"test -e {stamp}")
    before = all_files(with_timer)
    with_timer.run(f"touch -d '2 days ago' {stamp}")  # as if the host had been off since then
    with_timer.reboot()
    wait_for(lambda: both_have_more_than(with_timer, before), 120)
    wait_for(lambda: "inactive" in with_timer.run("systemctl is-active postgres-backup.service", check=False), 60)
    assert "success" in with_timer.run("systemctl show -p Result postgres-backup.service")
    wait_for(lambda: healthy(with_timer), 60)


def test_the_status_writes_page_and_metrics_out_of_its_sandbox(with_timer: Host) -> None:
    """Into a directory as Debian's node_exporter has it, and into one that a web server may read."""
    env, page, metrics = f"{SCRIPTS}/../.env", "/srv/page/index.html", "/srv/collected/pgbackup.prom"
    with_timer.run(f"cp -p {env} {env}.before; printf 'PAGE_FILE={page}\\nMETRICS_FILE={metrics}\\n' >>{env}")
    with_timer.run("install -d -m 0755 /srv/collected; install -d -m 2750 -o deployer -g www-data /srv/page")
    try:
        said = with_timer.run(f"{SCRIPTS}/setup-alerts.sh --file /dev/null")
        assert "opened '/srv/collected' to the group 'deployer'" in said
        with_timer.run("systemctl start postgres-status.service")
        assert with_timer.run(f"stat -c '%U:%G %a' {page} {metrics}").split("\n") == [
            "deployer:www-data 640",
            "deployer:deployer 644",
        ]
        assert 'pgbackup_promise_kept{promise="schedule",subject="backup"} 1.0' in with_timer.run(f"cat {metrics}")
        assert with_timer.run("ls -A /srv/collected /srv/page | sort").split() == [
            "/srv/collected:", "/srv/page:", "index.html", "pgbackup.prom",
        ]  # fmt: skip
    finally:
        with_timer.run(f"{SCRIPTS}/setup-alerts.sh --uninstall; mv {env}.before {env}; rm -r /srv/collected /srv/page")
