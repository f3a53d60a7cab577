"""verify-backups.sh: read every backup to its last byte."""

from __future__ import annotations

from argparse import Namespace
from datetime import timedelta
from functools import partial

from pgbackup.cli.options import Command, Parser, add_names, settings
from pgbackup.errors import UsageError

SCRIPT = "verify-backups.sh"


def parser() -> Parser:
    parser = Parser(
        SCRIPT,
        "Read every backup from its first to its last byte and compare it with its manifest.\n"
        "It changes nothing. Some damage shows only in a restore.",
        [
            ("verify-backups.sh", "every backup of every database, as a table"),
            (
                "verify-backups.sh --max-age 26 --json payment",
                "for monitoring: fails without a good backup from the last 26 hours",
            ),
        ],
    )
    add_names(parser)
    parser.add_argument(
        "--max-age", metavar="HOURS", default="24", help="how old the newest good backup may be; default 24"
    )
    return parser


def max_age(hours: str) -> timedelta:
    """Given an age as typed, return it. Raise UsageError."""
    try:
        number = float(hours)
    except ValueError:
        number = -1.0
    if not 0 < number < 1e6:
        raise UsageError(f"--max-age {hours!r} must be a number of hours above 0", "for example --max-age 26")
    return timedelta(hours=number)


def command(options: Namespace) -> Command:
    oldest = max_age(options.max_age)
    from pgbackup.commands import lost_settings
    from pgbackup.commands.verify import backups

    known = settings()
    targets = lost_settings.chosen(known, tuple(options.names))
    return partial(backups.run, known, targets, max_age=oldest, quiet=options.quiet)
