"""setup-backup-cron.sh: let cron make the backups."""

from __future__ import annotations

from argparse import Namespace

from pgbackup.cli.options import Command, Parser
from pgbackup.cli.setup import frame as setup

SCRIPT = "setup-backup-cron.sh"


def parser() -> Parser:
    return setup.parser_of(
        SCRIPT,
        "Let cron make the backups, and drill one each week: two lines in the account's crontab, and the rotation\n"
        "of backup.log. Every other line stays as it is; so does a line of the suite's that somebody has edited.",
        [
            ("sudo setup-backup-cron.sh", "every night at 2"),
            ("sudo setup-backup-cron.sh --schedule '30 1 * * 1-5' --dry-run", "what would change, as a diff"),
        ],
        "deployer",
    )


def command(options: Namespace) -> Command:
    from pgbackup.commands.setup import cron

    return setup.command_of(SCRIPT, options, cron.set_up, cron.take_down)
