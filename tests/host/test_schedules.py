"""Cron and systemd themselves start the backups, make up for a missed one, and tell of one that failed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.host.host import SCRIPTS, Host, healthy, wait_for

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


@pytest.fixture
def with_timer(installed: Host) -> Iterator[Host]:
    """The host with the systemd timers on."""
    installed.run(f"{SCRIPTS}/setup-backup-cron.sh --uninstall; {SCRIPTS}/setup-backup-systemd.sh")
    yield installed
    installed.run(f"{SCRIPTS}/setup-backup-systemd.sh --uninstall")


def both_have_more_than(host: Host, before: dict[str, set[str]]) -> bool:
    return all(host.files(target) - files for target, files in before.items())


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


def test_cron_starts_a_backup_as_deployer_within_two_minutes(installed: Host) -> None:
    before = all_files(installed)
    installed.run(f"{SCRIPTS}/setup-backup-cron.sh --schedule '* * * * *'")
    try:
        wait_for(lambda: both_have_more_than(installed, before), 120)
    finally:
        installed.run(f"{SCRIPTS}/setup-backup-cron.sh --uninstall")
    for target, files in all_files(installed).items():
        for path in files - before[target]:
            assert installed.run(f"stat -c '%U %a' {path}") == "deployer 600"
    assert re.search(r"\(deployer\) CMD \(BACKUP_DIR=/opt/backups ", installed.run("journalctl -u cron.service"))


def test_a_failing_backup_reaches_the_unit_that_tells_of_it(with_timer: Host) -> None:
    with_timer.run(f"cat <<'EOF' | sh -e\n{_TELL}\nEOF")
    with_timer.run("docker stop service-b-1 service-b-2 postgres-b")
    try:
        assert not with_timer.succeeds("systemctl start postgres-backup.service")
        wait_for(lambda: with_timer.succeeds("test -e /run/told/postgres-backup.service"), 30)
        told = with_timer.run("journalctl -p err -u 'postgres-backup-failure@*'")
        assert "postgres-backup.service has failed" in told
    finally:
        with_timer.run("docker start postgres-b service-b-1 service-b-2")
        with_timer.run("rm -r /etc/systemd/system/postgres-backup-failure@.service.d; systemctl daemon-reload")
    with_timer.run("systemctl start postgres-backup.service")
    wait_for(lambda: healthy(with_timer), 30)


def test_a_run_that_was_missed_is_made_up_for_after_a_reboot(with_timer: Host) -> None:
    stamp = "/var/lib/systemd/timers/stamp-postgres-backup.timer"
    assert with_timer.succeeds(f"test -e {stamp}")
    before = all_files(with_timer)
    with_timer.run(f"touch -d '2 days ago' {stamp}")  # as if the host had been off since then
    with_timer.reboot()
    wait_for(lambda: both_have_more_than(with_timer, before), 60)
    wait_for(lambda: "inactive" in with_timer.run("systemctl is-active postgres-backup.service", check=False), 30)
    assert "success" in with_timer.run("systemctl show -p Result postgres-backup.service")
    wait_for(lambda: healthy(with_timer), 30)
