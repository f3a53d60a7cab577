"""The host is gone, and so is everything on it. What is left are encrypted copies elsewhere, a credential and a key."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from tests.host import host as hosts
from tests.host import runbook
from tests.host.host import SCRIPTS, Host, healthy, wait_for
from tests.host.runbook import Command
from tests.host.test_total_loss import counts, register
from tests.host.typist import Typist, typist

AIM_SECONDS = 5 * 60
_REMOTE = "[nas]\ntype = sftp\nhost = backup-server\nuser = root\nkey_file = /etc/pgbackup/ssh\nshell_type = unix\n"
_SETTINGS = "OFFSITE=nas\nNAS_REMOTE=nas:/backups/elsewhere\nOFFSITE_HOST=payment-host\nDRILL_AFTER_BACKUP=no\n"


def give_the_way(host: Host, private: str) -> None:
    """The credential of the place, as the operator brings it."""
    host.run(
        f"install -D -m 0600 -o deployer /dev/null /etc/pgbackup/ssh; cat >/etc/pgbackup/ssh <<'END'\n{private}\nEND"
    )


def await_copied(host: Host) -> None:
    """Wait until what is committed now is at the place."""
    now = host.run("date --utc +%FT%T.%6N")
    state = "/opt/backups/offsite/nas/wal.json"
    wait_for(lambda: str(json.loads(host.run(f"cat {state}"))["until"].get("postgres-b", ""))[:26] > now, 90)


def typed(person: Typist, section: str, ran: Callable[[Command], None]) -> int:
    """Type the commands of that section of the runbook; return how many there are."""
    block = [command for command in runbook.commands(runbook.PAGE.read_text()) if command.section == section]
    for command in person.block(block):
        ran(command)
    return len(block)


def test_both_databases_are_back_from_copies_elsewhere(
    network: str,
    backup_server: Host,
    doomed: Host,
    ran: Callable[[Command], None],
    record_property: Callable[[str, object], None],
) -> None:
    old, place = doomed, backup_server
    old.run(f"printf '{_SETTINGS}' >>{SCRIPTS}/../.env")
    private = place.run("cat /root/.ssh/id_ed25519")
    give_the_way(old, private)
    old.run("install -m 0600 -o deployer /dev/null /etc/pgbackup/rclone.conf")
    old.run(f"printf '{_REMOTE}' >/etc/pgbackup/rclone.conf")
    old.run(f"{SCRIPTS}/setup-encryption.sh --key-file /root/key")
    key = old.run("cat /root/key; shred -u /root/key")
    old.sql("payment", "CREATE ROLE shop LOGIN PASSWORD 'of the shop'; GRANT SELECT ON payments TO shop")
    register(old, "+256700555111")
    there = counts(old)
    old.run("find /opt/backups/postgres-? -mindepth 1 -delete")  # what other tests have left there
    old.run(f"sudo -u deployer {SCRIPTS}/backup-postgres.sh")
    old.run(f"{SCRIPTS}/setup-wal-archiving.sh payment")
    set_up = old.run(f"{SCRIPTS}/setup-offsite.sh nas")
    assert "refuses to delete: no" in set_up and "ssh-ed25519 AAAA" in set_up
    assert old.run("systemctl is-enabled postgres-offsite.timer") == "enabled"
    old.run("systemctl start postgres-offsite.service")  # as the timer does it, in its sandbox
    assert old.run("systemctl show -P Result postgres-offsite.service") == "success"
    assert "event=copy.failed" not in old.run("cat /opt/backups/backup.log")
    old.sql("payment", "CREATE TABLE behind_the_backup AS SELECT 4711 AS number")
    await_copied(old)  # by the follower, in its sandbox
    assert old.run("systemctl is-active postgres-offsite-wal.service") == "active"
    settings = old.run(f"cat {SCRIPTS}/../.env")
    old.destroy()
    held = place.run("find /backups/elsewhere -type f")
    assert held.count(".sql.gz.age") == 2 and held.count(".sql.age") == 2
    assert held.count(".env.age") == 1 and held.count("RECOVER.txt") == 1
    everything = "cat $(find /backups/elsewhere -type f)"
    assert not place.succeeds(f"{everything} | grep -aqE 'PostgreSQL database dump|SCRAM-SHA|COPY public'")

    with hosts.booted(network, users=1) as new:
        assert counts(new) != there
        new.run(f"cat >{hosts.SOURCE}/.env <<'END'\n{settings}\nEND")
        new.run(f"install -m 0600 /dev/null /root/key; cat >/root/key <<'END'\n{key}\nEND")
        new.run(f"printf '{_REMOTE}' >/root/rclone.conf")
        new.run("useradd --system --create-home --shell /usr/sbin/nologin deployer; usermod -aG docker deployer")
        give_the_way(new, private)
        start = time.monotonic()
        with typist(new) as person:
            assert typed(person, "Disaster / From a place elsewhere", ran) > 8
        took = time.monotonic() - start
        assert counts(new) == there
        assert new.sql("auth", "SELECT count(*) FROM users WHERE phone_number = '+256700555111'") == "1"
        assert healthy(new)
        login = "docker run --rm --network payment -e PGPASSWORD='of the shop' --entrypoint psql"
        query = "-XAtq -h postgres-b -U shop -d payment_db -c 'SELECT count(*) FROM payments'"
        assert int(new.run(f"{login} pgbackup-test/postgres:15 {query}")) > 0
        said = new.run("cat /opt/backups/*.log /opt/backups/*.jsonl; journalctl --no-pager | tail -2000")
        assert "AGE-SECRET" not in said
        assert new.run("find /opt/backups -name '.pgbackup-*.partial'") == ""
        assert took < AIM_SECONDS
        new.run(f"install -m 0600 /dev/null /root/key; cat >/root/key <<'END'\n{key}\nEND")
        with typist(new) as person:
            assert typed(person, "Disaster / Up to the last commit that was copied", ran) == 2
        assert new.sql("payment", "SELECT number FROM behind_the_backup") == "4711"
    record_property(runbook.TOLD, f"from copies elsewhere, by the runbook's lines, it took {took:.0f} s")
