"""The two set-ups of a schedule on a host with systemd, cron and logrotate: what they change, keep, refuse and tell."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from demo import servers as demo_servers
from tests.host import host as hosts
from tests.host.host import SCRIPTS, SOURCE, Host
from tests.support.effort import wide
from tests.support.servers import docker

CRON, SYSTEMD = f"{SCRIPTS}/setup-backup-cron.sh", f"{SCRIPTS}/setup-backup-systemd.sh"
LINE = f"0 2 * * * BACKUP_DIR=/opt/backups RETENTION_DAYS=7 {SCRIPTS}/backup-postgres.sh"
VERIFY = f"0 4 * * 0 BACKUP_DIR=/opt/backups {SCRIPTS}/verify-backups.sh -q # goes with backup-postgres.sh"
DRILL = f"0 5 * * 3 BACKUP_DIR=/opt/backups {SCRIPTS}/drill-backups.sh --rotate # goes with backup-postgres.sh"
SPOOL = "/var/spool/cron/crontabs/deployer"
UNITS = "/etc/systemd/system"
ODD_PLACE, ODD_BACKUPS = "/srv/a  place 100%/x", "/srv/back ups/100%"
ODD = f"'PREFIX={ODD_PLACE}' BACKUP_USER=backup"  # an account that Debian has
OURS = f"ls {UNITS} /etc/logrotate.d | grep -E '^(postgres-|pgbackup)' || true"


@pytest.fixture(scope="module")
def bare(engine: str) -> Iterator[Host]:
    """A host without databases, with the suite at its place, and at an odd one, where cron runs it every minute."""
    with hosts.network() as network, hosts._container(network, "setup-host", ["/sbin/init"]) as host:
        host.wait_until_running()
        hosts.bring(host, hosts.CHECKOUT, SOURCE)
        host.run(f"cp -R /srv/payment/wheelhouse {SOURCE}/ && make -C {SOURCE} install")
        host.run(f"mkdir -p '{ODD_PLACE}'; echo \"BACKUP_DIR='{ODD_BACKUPS}'\" >'{ODD_PLACE}/.env'")
        host.run(f"cp -a {SCRIPTS}/../.venv '{ODD_PLACE}'")  # it is made at an odd place in test_install.py
        host.run(f"make -C {SOURCE} install {ODD}")
        set_up(host, f"'{ODD_PLACE}/scripts/setup-backup-cron.sh' --user backup --schedule '* * * * *'")
        yield host


def set_up(host: Host, command: str) -> str:
    """Do it. It is done, and as no database is there, that is told with the status of the backup that would fail."""
    out = host.run(f"{command}; echo status=$?", check=False)
    assert out.endswith("status=69"), out
    for target, container in (("auth", "postgres-a"), ("payment", "postgres-b")):
        assert f"a backup would fail now (69): {target}: container '{container}' is not there" in out
    return out


@pytest.fixture
def host(bare: Host) -> Iterator[Host]:
    """The same, with no schedule before and, unless it was removed, none behind."""
    bare.run("crontab -u deployer -r", check=False)
    if bare.run(OURS):
        bare.run(f"{SYSTEMD} --uninstall; {CRON} --uninstall; rm -rf {UNITS}/postgres-*", check=False)
        assert bare.run(OURS) == ""
    yield bare


def put(host: Host, path: str, text: str) -> None:
    docker("exec", "-i", host.container, "sh", "-c", f"cat >{path}", stdin=text.encode())


def put_crontab(host: Host, text: str) -> None:
    """As a file of one's own making, without the lines that crontab puts in front, and perhaps without a newline."""
    put(host, SPOOL, text)
    host.run(f"chown deployer:crontab {SPOOL}; chmod 600 {SPOOL}")


def crontab(host: Host) -> list[str]:
    return host.run("crontab -u deployer -l", check=False).splitlines()


def refused(host: Host, command: str, status: int, *said: str) -> None:
    """The command ends with that status, says all that, and changes nothing."""
    state = f"{OURS}; crontab -u deployer -l; find {UNITS} /etc/logrotate.d /opt/backups -printf '%p %i %T@\n'"
    before = host.run(state, check=False)
    out = host.run(f"{command}; echo status=$?", check=False)
    assert out.splitlines()[-1] == f"status={status}", out
    assert all(text in out for text in said), out
    assert host.run(state, check=False) == before


# --- cron


CRONTABS = [
    "",
    "MAILTO=x\n# b\n* * * * * true",
    "# mine\n# too\n5 4 * * * date +\\%F\n",
    f"#{LINE}\n\n\n@reboot true\n",
]


@wide("text", CRONTABS[:2], CRONTABS)
def test_two_lines_come_and_go_and_the_others_stay(host: Host, text: str) -> None:
    if text:
        put_crontab(host, text)
    for _ in range(2):
        set_up(host, CRON)
        assert crontab(host) == [*text.splitlines(), LINE, VERIFY, DRILL]
    host.run(f"{CRON} --uninstall")
    assert crontab(host) == (text.splitlines() or ["no crontab for deployer"])
    assert host.run(OURS) == ""


def test_the_guides_lines_check_change_and_remove_it(host: Host) -> None:
    set_up(host, CRON)
    assert host.run("crontab -u deployer -l | grep backup").splitlines() == [LINE, VERIFY, DRILL]
    host.run("crontab -u deployer -l | sed 's/RETENTION_DAYS=7/RETENTION_DAYS=14/' | crontab -u deployer -")
    edited = LINE.replace("=7", "=14")
    set_up(host, CRON)
    assert crontab(host) == [edited, VERIFY, DRILL]
    set_up(host, f"{CRON} --schedule every-6h")
    assert crontab(host) == [edited.replace("0 2 *", "0 */6 *"), VERIFY, DRILL]
    host.run("crontab -u deployer -l | grep -v backup-postgres.sh | crontab -u deployer -")
    assert crontab(host) == []


def test_the_weekly_drill_comes_with_an_upgrade_and_can_be_switched_off(host: Host) -> None:
    put_crontab(host, LINE.replace("/opt/backups", "/opt/backups/") + "\n")  # of a version without drills, edited
    first = crontab(host)
    verify, drill = (line.replace("/opt/backups", "/opt/backups/") for line in (VERIFY, DRILL))
    refused(host, f"{CRON} --dry-run", 0, f"+{verify}", f"+{drill}")
    set_up(host, CRON)
    assert crontab(host) == [*first, verify, drill]
    host.run(f"{SYSTEMD}; rm {UNITS}/postgres-drill.*; systemctl daemon-reload", check=False)
    set_up(host, SYSTEMD)
    assert host.run("systemctl is-active postgres-drill.timer") == "active"
    off = "env DRILL_WEEKLY=no"
    set_up(host, f"{off} {CRON}")
    assert crontab(host) == [*first, verify]
    for _ in range(2):
        set_up(host, f"{off} {SYSTEMD}")
        assert host.run("systemctl is-enabled postgres-{drill,verify}.timer", check=False) == "disabled\nenabled"
        assert host.run("systemctl is-active postgres-{drill,verify}.timer", check=False) == "inactive\nactive"


@pytest.mark.fault(92, "the job of another account, by cron")
def test_whoever_has_the_job_in_the_crontab_it_is_found_and_goes(host: Host) -> None:
    host.run(f"echo '{LINE}' | crontab -u root -")
    try:
        assert "the crontab of 'root' starts the backup as well" in set_up(host, CRON)
        out = host.run(f"{CRON} --uninstall")
        assert "no longer runs the backup as 'deployer', 'root'" in out
        assert crontab(host) == ["no crontab for deployer"]
        assert host.run("crontab -u root -l 2>/dev/null; true") == ""
    finally:
        host.run("crontab -u root -r", check=False)


def test_a_dry_run_shows_what_is_then_done(host: Host) -> None:
    put_crontab(host, "5 4 * * * true\n")
    refused(host, f"{CRON} --dry-run", 0, "+++ crontab of deployer", f"+{LINE}", "+++ /etc/logrotate.d/pgbackup")
    assert crontab(host) == ["5 4 * * * true"]
    set_up(host, CRON)
    refused(host, f"{CRON} --dry-run", 0, "nothing would change")
    refused(host, f"{CRON} --dry-run --uninstall", 0, f"-{LINE}", f"-{DRILL}")


def test_of_set_ups_at_the_same_time_none_undoes_the_other(host: Host) -> None:
    """Four installations that share a user, each set up twice, with a crontab that takes its time."""
    places = [f"/srv/copy{number}" for number in range(4)]
    for place in places:
        host.run(
            f"mkdir {place} && cd {SCRIPTS}/.. && cp -R lib scripts systemd .env {place} && ln -s $PWD/.venv {place}"
        )
    put_crontab(host, "5 4 * * * true\n")
    host.run("mv /usr/bin/crontab /usr/bin/crontab.away")
    put(host, "/usr/bin/crontab", '#!/bin/sh\ncrontab.away "$@"; status=$?; sleep 0.2; exit $status\n')
    try:
        host.run("chmod 755 /usr/bin/crontab")
        twice = f"for place in {' '.join(places * 2)}; do $place/scripts/setup-backup-cron.sh -q & done; wait"
        host.run(twice)
    finally:
        host.run("mv /usr/bin/crontab.away /usr/bin/crontab")
    found = crontab(host)
    assert found[0] == "5 4 * * * true"
    wanted = [
        line.replace("/opt/payment-system/deployment", place) for line in (LINE, VERIFY, DRILL) for place in places
    ]
    assert sorted(found[1:]) == sorted(wanted)
    host.run(f"rm -r {' '.join(places)}")


def test_another_installations_line_is_told_and_stays(host: Host) -> None:
    other = "0 2 * * * /srv/opt/payment-system/deployment/scripts/backup-postgres.sh"
    put_crontab(host, f"{other}\n")
    assert f"stays in the crontab of 'deployer': {other}" in set_up(host, CRON)
    assert crontab(host) == [other, LINE, VERIFY, DRILL]


# --- systemd


def test_timers_are_on_and_go_without_a_trace(host: Host) -> None:
    for _ in range(2):
        set_up(host, SYSTEMD)
        assert host.run("systemctl is-active postgres-{backup,verify,drill}.timer") == "active\nactive\nactive"
    host.run("systemctl start --wait postgres-backup.service", check=False)
    log = host.run("journalctl -u postgres-backup.service --no-pager")
    assert "container 'postgres-a' is not there" in log, "it got as far as Docker"
    hosts.wait_for(lambda: "has failed" in host.run("journalctl -t postgres-backup -p err --no-pager"), 60)
    host.run(f"{SYSTEMD} --uninstall")
    assert host.run(OURS) == ""
    assert "postgres" not in host.run("systemctl list-timers --all --no-pager")


def test_the_guides_edit_is_kept_by_an_upgrade_and_is_in_force(host: Host) -> None:
    set_up(host, SYSTEMD)
    host.run(f"sed -i 's/^Environment=.*/Environment=\"RETENTION_DAYS=14\"/' {UNITS}/postgres-backup.service")
    host.run(f"cp -R {SOURCE} /tmp/newer; sed -i 's/12h/11h/' /tmp/newer/systemd/*.service; make -C /tmp/newer install")
    set_up(host, SYSTEMD)
    shown = host.run("systemctl show -p Environment -p TimeoutStartUSec postgres-backup.service")
    assert shown == "TimeoutStartUSec=11h\nEnvironment=RETENTION_DAYS=14"
    host.run(f"make -C {SOURCE} install; rm -rf /tmp/newer")


def test_a_unit_changed_by_hand_is_kept_and_told(host: Host) -> None:
    host.run(f"{SYSTEMD}; sed -i 's/^TimeoutStopSec=.*/TimeoutStopSec=90/' {UNITS}/postgres-backup.service")
    edited = host.run(f"cat {UNITS}/postgres-backup.service")
    said = set_up(host, f"{SYSTEMD} --schedule '30 1 * * 1-5'")
    assert f"'{UNITS}/postgres-backup.service' was changed by hand and is kept" in said
    assert host.run(f"cat {UNITS}/postgres-backup.service") == edited
    assert "01:30:00" in host.run("systemctl list-timers --no-pager postgres-backup.timer")
    host.run(f"{SYSTEMD} --uninstall")
    assert host.run(f"cat {UNITS}/postgres-backup.service.removed") == edited


def bring_postgres(host: Host) -> None:
    """A PostgreSQL server on the host itself, with auth_db, and its programs where they are looked for."""
    tree = demo_servers._tree(16)
    packed = ["tar", "-C", str(tree.parents[1]), "-c", f"{tree.parent.name}/{tree.name}", f"{tree.parent.name}.libs"]
    host.run("mkdir -p /opt/programs")
    given = subprocess.run([*packed, "--owner=0", "--group=0"], capture_output=True, check=True).stdout
    docker("exec", "-i", host.container, "tar", "-C", "/opt/programs", "-x", stdin=given)
    host.run(f"chmod -R a+rX /opt/programs; ln -sfn /opt/programs/{tree.parent.name}/{tree.name} /usr/local/pgsql")
    host.run("ln -sf /usr/local/pgsql/bin/* /usr/local/bin/; install -d -o nobody /srv/live")
    start = "initdb -A trust -U auth_user -D /srv/live/data && pg_ctl -D /srv/live/data -l /srv/live/log -w start"
    host.run(f"cd /; runuser -u nobody -- sh -c '{start}' >/dev/null </dev/null")
    host.run("psql -h 127.0.0.1 -U auth_user -d postgres -c 'CREATE DATABASE auth_db'")


def test_a_drill_with_the_hosts_own_programs_works_in_the_sandbox_of_the_units(host: Host) -> None:
    env = f"{SCRIPTS}/../.env"
    host.run(f"cp -p {env} /tmp/env")
    bring_postgres(host)
    try:
        put(
            host,
            env,
            "DATABASES=auth\nAUTH_URL=postgresql://auth_user@127.0.0.1/auth_db\nAUTH_SERVICES=\nAUTH_DIR=own\n",
        )
        host.run(SYSTEMD)
        for unit in ("postgres-backup", "postgres-drill"):
            host.run(f"systemctl start {unit}.service")
            said = host.run(f"journalctl --no-pager -o cat -u {unit}.service")
            assert "auth: drilled" in said and "all equal" in said, said
    finally:
        host.run("runuser -u nobody -- /usr/local/pgsql/bin/pg_ctl -D /srv/live/data -m immediate stop", check=False)
        host.run(
            f"cp -p /tmp/env {env}; rm -rf /usr/local/pgsql /opt/programs /srv/live /opt/backups/own; "
            "find /usr/local/bin -xtype l -delete"
        )


def test_each_says_when_the_other_is_on(host: Host) -> None:
    set_up(host, SYSTEMD)
    assert "'postgres-backup.timer' is on as well" in set_up(host, CRON)
    assert "starts the backup as well" in set_up(host, SYSTEMD)
    host.run(f"{CRON} --uninstall")
    assert "as well" not in set_up(host, SYSTEMD)
    assert "pgbackup" in host.run(OURS), "the log is still written"


# --- what is refused


def test_who_is_not_root(host: Host) -> None:
    for script in (CRON, SYSTEMD):
        refused(host, f"runuser -u nobody -- {script}", 77, "only root may", f"Hint: sudo {script}")


def test_an_account_that_is_not_there_or_does_not_own_the_backups(host: Host) -> None:
    for script in (CRON, SYSTEMD):
        refused(host, f"{script} --user nosuch", 78, "there is no account 'nosuch'", "Hint: ")
        refused(host, f"{script} --user nobody", 73, "'/opt/backups' belongs to uid", "Hint: ")


@wide("script", [CRON], [CRON, SYSTEMD])
def test_settings_that_the_account_may_not_read_or_that_are_wrong_are_told(host: Host, script: str) -> None:
    env = f"{SCRIPTS}/../.env"
    host.run(f"cp -p {env} /tmp/env")
    try:
        host.run(f"chown root: {env}; chmod 600 {env}")
        out = host.run(f"{script}; echo status=$?", check=False)
        assert "a backup would fail now (77): cannot read" in out and out.endswith("status=77")
        out = host.run(f"make -C {SOURCE} install", check=False)
        assert "'deployer' may not read" in out and "sudo chmod 0640" in out
    finally:
        host.run(f"cp -p /tmp/env {env}")


def test_a_schedule_that_is_none(host: Host) -> None:
    for script in (CRON, SYSTEMD):
        refused(host, f"{script} --schedule weekly", 64, "daily, hourly, every-6h", "Hint: ")
        refused(host, f"{script} --schedule '0 25 * * *'", 64, "hour (0 to 23)")


def test_without_cron_or_without_systemd(host: Host) -> None:
    host.run("mv /usr/bin/crontab /usr/bin/crontab.away; mv /run/systemd/system /run/systemd/away")
    try:
        refused(host, CRON, 69, "there is no cron on this host", "setup-backup-systemd.sh")
        refused(host, SYSTEMD, 69, "systemd does not run on this host", "setup-backup-cron.sh")
        refused(host, f"{CRON} --uninstall && {SYSTEMD} --uninstall", 0)
    finally:
        host.run("mv /usr/bin/crontab.away /usr/bin/crontab; mv /run/systemd/away /run/systemd/system")


def test_a_unit_that_is_masked(host: Host) -> None:
    host.run("systemctl mask postgres-backup.timer", check=False)
    refused(host, SYSTEMD, 78, "is the unit masked?", "systemctl unmask postgres-backup.timer")


def test_an_account_without_docker_is_told(host: Host) -> None:
    host.run("gpasswd --delete deployer docker")
    out = host.run(f"{CRON}; echo status=$?", check=False)
    assert "sudo usermod -aG docker deployer" in out
    assert "a backup would fail now (77): auth: may not use Docker" in out and out.endswith("status=77")
    host.run(f"make -C {SOURCE} install")
    assert "docker" in host.run("id -nG deployer").split()


# --- the log, and the whole


def test_a_rotation_in_the_middle_of_a_run_loses_no_line(host: Host) -> None:
    host.run(f"{CRON} -q; sed -i 's/rotate 24/rotate 1000/' /etc/logrotate.d/pgbackup; rm -f /opt/backups/backup.log*")
    put(
        host,
        "/tmp/writer.py",
        f"import sys; sys.path.insert(0, '{SCRIPTS}/../lib')\n"
        "from pathlib import Path\nfrom pgbackup.store import folder\nfrom pgbackup.report.events import Event\n"
        "from pgbackup.report.log import EventLog\n"
        "with folder.opened(Path('/opt/backups'), create=False, top=True) as place:\n"
        "    log = EventLog(place)\n"
        "    for number in range(30000): log.write(Event('INFO', '-', 'test', {'number': number}))\n"
        "    assert not log.failures\n",
    )
    writer = f"runuser -u deployer -- {SCRIPTS}/../.venv/bin/python -I /tmp/writer.py"
    rotate = "logrotate -f /etc/logrotate.d/pgbackup; rotations=$((rotations+1)); sleep 0.05"
    loop = f"while kill -0 $! 2>/dev/null; do {rotate}; done"
    said = host.run(f"{writer} & rotations=0; {loop}; wait $! && echo $rotations")
    assert int(said.split()[-1]) >= 3, said
    every_one = "zcat backup.log*.gz; cat backup.log.1; [ ! -e backup.log ] || cat backup.log"
    found = host.run(f"cd /opt/backups; {{ {every_one}; }} | grep -c number=")
    assert int(found) == 30000
    assert set(host.run("stat -c '%a %U' /opt/backups/backup.log*").splitlines()) == {"640 deployer"}


def test_a_path_with_blanks_and_percent_signs_works_under_both(host: Host) -> None:
    """cron has had its line since the fixture `bare`."""
    hosts.wait_for(lambda: host.succeeds(f"grep run.finish '{ODD_BACKUPS}/backup.log'"), 180)
    host.run(f"'{ODD_PLACE}/scripts/setup-backup-cron.sh' --uninstall --user backup")
    host.run(f"rm '{ODD_BACKUPS}/backup.log'")
    set_up(host, f"'{ODD_PLACE}/scripts/setup-backup-systemd.sh' --user backup")
    host.run("systemctl start --wait postgres-backup.service", check=False)
    assert "ERROR auth event=backup.failed status=69" in host.run(f"cat '{ODD_BACKUPS}/backup.log'")
    host.run(f"make -C {SOURCE} uninstall {ODD}")
    assert host.run(OURS) == ""
    assert host.run(f"find '{ODD_PLACE}' -type f") == f"{ODD_PLACE}/.env"


def test_uninstall_leaves_the_units_of_another_installation(host: Host) -> None:
    set_up(host, SYSTEMD)
    before = host.run(f"{OURS}; systemctl is-enabled postgres-backup.timer; cat {UNITS}/postgres-*")
    out = host.run(f"make -C {SOURCE} install {ODD}; make -C {SOURCE} uninstall {ODD}")
    assert f"stays: it starts {SCRIPTS}/backup-postgres.sh" in out
    assert host.run(f"{OURS}; systemctl is-enabled postgres-backup.timer; cat {UNITS}/postgres-*") == before
    assert host.run("systemctl is-active postgres-backup.timer") == "active"


def test_uninstall_takes_the_schedule_along_and_leaves_the_rest(host: Host) -> None:
    host.run(f"{CRON} -q; {SYSTEMD} -q; touch /opt/backups/postgres-a/kept")
    host.run(f"make -C {SOURCE} uninstall")
    assert host.run(OURS) == "" and crontab(host) == ["no crontab for deployer"]
    assert host.run("find /opt/payment-system -type f") == "/opt/payment-system/deployment/.env"
    assert host.succeeds("test -e /opt/backups/postgres-a/kept && id deployer")
    host.run(f"make -C {SOURCE} install CREATE_USER=no")
    set_up(host, CRON)


def test_an_account_that_is_not_there_is_not_made_unasked(host: Host) -> None:
    words = "PREFIX=/srv/other BACKUP_USER=nosuch CREATE_USER=no"
    out = host.run(f"make -C {SOURCE} install {words}; echo status=$?", check=False)
    assert "there is no account 'nosuch'" in out and "Hint: " in out and out.endswith("status=2")
    assert not host.succeeds("id nosuch || test -e /srv/other/scripts")
