"""setup-backup-systemd.sh: let systemd make the backups."""

from __future__ import annotations

from argparse import Namespace

from pgbackup.cli.options import Command, Parser
from pgbackup.cli.setup import frame as setup

SCRIPT = "setup-backup-systemd.sh"


def parser() -> Parser:
    return setup.parser_of(
        SCRIPT,
        "Let systemd make the backups, verify and drill them weekly: units, timers, and the rotation of backup.log.\n"
        "Lines with Environment= and OnCalendar= are kept, and a unit with other changes by hand is kept whole.",
        [
            ("sudo setup-backup-systemd.sh", "every night at 2; if the host was down then, as soon as it is up"),
            ("sudo setup-backup-systemd.sh --schedule every-6h", "four times a day"),
        ],
        "that of the unit, else deployer",
    )


def command(options: Namespace) -> Command:
    from pgbackup.commands.setup import systemd

    return setup.command_of(SCRIPT, options, systemd.set_up, systemd.take_down)
