"""receive-wal.sh: receive WAL until it is stopped."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from typing import TYPE_CHECKING

from pgbackup.cli.options import Command, Parser, settings
from pgbackup.report.result import Result, document

if TYPE_CHECKING:
    from pgbackup.settings.config import Settings, Target

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
    known = settings()
    (target,) = known.chosen((options.target,))
    if options.watchdog and _receives_already(known, target):
        return partial(Result, 0, [], document("receive-wal", 0, target=target.name))
    from pgbackup.commands.wal import receive

    return partial(receive.run, known, target, watchdog=options.watchdog, quiet=options.quiet)


def _receives_already(known: Settings, target: Target) -> bool:
    """Asked before what would receive is loaded: cron starts one each minute, hardly ever in need."""
    from pgbackup.store import lock
    from pgbackup.store.wal import archive

    return lock.is_held_in(archive.path_of(known.backup_dir, target.directory), archive.RECEIVER)
