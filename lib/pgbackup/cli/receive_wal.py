"""receive-wal.sh: receive WAL until it is stopped."""

from __future__ import annotations

from argparse import Namespace
from functools import partial

from pgbackup.cli.options import Command, Parser, settings

SCRIPT = "receive-wal.sh"


def parser() -> Parser:
    parser = Parser(
        SCRIPT,
        "Receive WAL until it is stopped, whatever happens to the database. setup-wal-archiving.sh sets this up.",
        [
            ("receive-wal.sh payment", "as postgres-wal@payment.service does it"),
            ("receive-wal.sh -q --watchdog payment", "as cron does it every minute; does nothing if one runs already"),
        ],
    )
    parser.add_argument("target", metavar="NAME", help="the database by its name in DATABASES")
    parser.add_argument("--watchdog", action="store_true", help="do nothing if one runs already; for cron")
    return parser


def command(options: Namespace) -> Command:
    from pgbackup.commands.wal import receive

    known = settings()
    (target,) = known.chosen((options.target,))
    return partial(receive.run, known, target, watchdog=options.watchdog, quiet=options.quiet)
