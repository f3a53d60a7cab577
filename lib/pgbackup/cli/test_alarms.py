"""test-alarms.sh: are alarms told? Find out before they are needed."""

from __future__ import annotations

from argparse import Namespace
from functools import partial

from pgbackup.cli.options import ROOT, Command, Parser, settings

SCRIPT = "test-alarms.sh"


def parser() -> Parser:
    return Parser(
        SCRIPT,
        "Make a throwaway set-up (server, backups, place elsewhere, schedule), break it in eight ways one after the\n"
        "other, and see that each comes out of your channels as an alarm, and as a recovery. Nothing of this host's\n"
        "own is touched. Every message says that it is a test.",
        [
            ("sudo -u deployer test-alarms.sh", "after setup-alerts.sh, and again every three months"),
            ("test-alarms.sh --json", "for programs: which sabotage was told, and why not"),
        ],
    )


def command(options: Namespace) -> Command:
    known = settings()
    from pgbackup.commands.sabotage import run

    return partial(run.run, known, ROOT, quiet=options.quiet)
