"""setup-wal-archiving.sh: archive the WAL of a database's cluster."""

from __future__ import annotations

from argparse import Namespace
from functools import partial

from pgbackup.cli.options import ROOT, Command, Parser, settings
from pgbackup.commands.setup.options import Options
from pgbackup.errors import UsageError

SCRIPT = "setup-wal-archiving.sh"


def parser() -> Parser:
    parser = Parser(
        SCRIPT,
        "Archive the WAL of a database's cluster, so that it can be recovered to any moment: check the server, make a\n"
        "replication slot, let systemd (else cron) run the receiver, and wait for the first base backup.",
        [
            ("sudo setup-wal-archiving.sh payment", "once; again to check that all is well"),
            ("sudo setup-wal-archiving.sh payment --uninstall", "undo it; what was archived stays"),
        ],
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="databases by their names in DATABASES; with --uninstall default: all"
    )
    parser.add_argument(
        "--user", metavar="NAME", help="the account that receives; default: that of the unit, else deployer"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything and show what would change; change nothing"
    )
    parser.add_argument(
        "--uninstall", action="store_true", help="stop receiving, drop the slot, leave what was archived"
    )
    return parser


def command(options: Namespace) -> Command:
    if not options.names and not options.uninstall:
        raise UsageError("name the databases whose WAL is to be archived", "sudo setup-wal-archiving.sh payment")
    from pgbackup.commands.setup import wal
    from pgbackup.host import accounts

    accounts.require_root(SCRIPT)
    known = settings()
    targets = known.chosen(tuple(options.names))
    asked = Options(user=options.user, schedule=None, dry_run=options.dry_run)
    act = wal.take_down if options.uninstall else wal.set_up
    return partial(act, known, targets, ROOT, asked, quiet=options.quiet)
