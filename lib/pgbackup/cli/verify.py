"""verify-backups.sh: read every backup to its last byte."""

from __future__ import annotations

from argparse import Namespace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from pgbackup.cli.options import Command, Parser, add_names, settings
from pgbackup.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgbackup.settings.config import Settings, Target

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
            ("verify-backups.sh --at s3", "the copies at a place of OFFSITE: are they what was sent, and how old?"),
        ],
    )
    add_names(parser)
    parser.add_argument(
        "--max-age", metavar="HOURS", default="24", help="how old the newest good backup may be; default 24"
    )
    parser.add_argument("--at", metavar="PLACE", help="verify the copies at a place of OFFSITE instead")
    parser.add_argument("--read", action="store_true", help="with --at: read every copy back, to its last byte")
    parser.add_argument(
        "--key", metavar="KEYFILE", help="with --read: decrypt them, too; a file of mode 0600, or - to type the key"
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
    if (options.read and not options.at) or (options.key and not options.read):
        raise UsageError("--read goes with --at PLACE, and --key with --read", "verify-backups.sh --at s3 --read")
    from pgbackup.commands import lost_settings

    known = settings()
    targets = lost_settings.chosen(known, tuple(options.names))
    if options.at:
        return _there(options, known, targets, oldest)
    from pgbackup.cli.pinged import pinged
    from pgbackup.commands.verify import backups

    run = partial(backups.run, known, targets, max_age=oldest, quiet=options.quiet)
    return pinged("verify", known, run, whole=len(targets) == len(known.targets))


def _there(options: Namespace, known: Settings, targets: Sequence[Target], oldest: timedelta) -> Command:
    from pgbackup.commands import key
    from pgbackup.commands.offsite import there

    place = known.place(options.at)
    keys = key.given(options.key) if options.key else []
    return partial(
        there.run, known, targets, place, max_age=oldest, read=options.read, identities=keys, quiet=options.quiet
    )
