"""The host and its databases are gone. A new one gets the suite and the copies, as the runbook says."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.host import host as hosts
from tests.host import runbook
from tests.host.host import SCRIPTS, Host, healthy
from tests.host.runbook import Command
from tests.host.typist import typist

AIM_SECONDS = 15 * 60
_COUNTS = (("auth", "users"), ("auth", "sessions"), ("payment", "payments"), ("payment", "webhooks"))


def register(host: Host, phone: str) -> None:
    user = f'{{"phone_number": "{phone}", "email": "{phone}@example.com", "password": "secret"}}'
    host.run(f"curl -skf -X POST https://localhost/auth/register -d '{user}'")


def counts(host: Host) -> list[int]:
    return [int(host.sql(target, f"SELECT count(*) FROM {table}")) for target, table in _COUNTS]


def test_both_databases_are_back_on_a_new_host(
    network: str,
    backup_server: Host,
    installed: Host,
    ran: Callable[[Command], None],
    record_property: Callable[[str, object], None],
) -> None:
    register(installed, "+256700555111")
    there = counts(installed)
    installed.run(f"sudo -u deployer {SCRIPTS}/backup-postgres.sh")
    copy = next(
        command for command in runbook.commands(runbook.PAGE.read_text()) if command.text.startswith("rsync -avz")
    )
    with typist(installed) as person:
        list(person.block([copy]))
    register(installed, "+256700555222")
    installed.destroy()

    with hosts.booted(network, users=1) as new:
        assert counts(new) != there
        start = time.monotonic()
        with typist(new) as person:
            block = [command for command in runbook.commands(runbook.PAGE.read_text()) if command.section == "Disaster"]
            for command in person.block(block):
                ran(command)
        took = time.monotonic() - start
        assert counts(new) == there
        assert new.sql("auth", "SELECT count(*) FROM users WHERE phone_number = '+256700555111'") == "1"
        assert new.sql("auth", "SELECT count(*) FROM users WHERE phone_number = '+256700555222'") == "0"
        assert healthy(new)
        assert took < AIM_SECONDS
    record_property(runbook.TOLD, f"the steps of the disaster took {took:.0f} s")
