"""drill-backups.sh: really restore a backup, where it can do no harm."""

from __future__ import annotations

from argparse import Namespace
from functools import partial

from pgbackup.cli.options import Command, Parser, add_names, settings
from pgbackup.errors import UsageError

SCRIPT = "drill-backups.sh"


def parser() -> Parser:
    parser = Parser(
        SCRIPT,
        "Restore a backup into a throwaway server of the database's own image, and compare everything in it.\n"
        "The live databases are not asked and not touched.",
        [
            ("drill-backups.sh", "the newest backup of every database"),
            (
                "drill-backups.sh payment --file payment_db_20240115_020000.sql.gz",
                "one backup; --at-time '2024-01-15 13:37' takes a moment out of the WAL archive",
            ),
        ],
    )
    add_names(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--file", metavar="FILE", help="a backup of the database that is named")
    what.add_argument("--at-time", metavar="TIME", help="the database as it was then, out of its WAL archive")
    what.add_argument(
        "--rotate",
        action="store_true",
        help="what is next in turn: the newest, an older one, a moment (for the schedule)",
    )
    parser.add_argument(
        "--from",
        metavar="PLACE",
        dest="place",
        help="fetch the backup, or with --at-time the base backup and WAL, from a place in OFFSITE",
    )
    parser.add_argument("--key", metavar="FILE", help="a private key that opens what is encrypted there; - to type it")
    return parser


def command(options: Namespace) -> Command:
    if options.file is not None and len(options.names) != 1:
        raise UsageError("--file needs the name of one database", "for example: drill-backups.sh payment --file FILE")
    if options.place is not None and options.rotate:
        raise UsageError(
            "--from goes with --file or --at-time, or takes the newest",
            "for example: drill-backups.sh payment --from s3",
        )
    if options.key is not None and options.place is None:
        raise UsageError("--key goes with --from", "for example: drill-backups.sh payment --from s3 --key FILE")
    from pgbackup.cli import moments
    from pgbackup.cli.pinged import pinged
    from pgbackup.commands import lost_settings
    from pgbackup.commands.drill import drill
    from pgbackup.commands.drill.choice import Wanted

    aim = moments.aim("time", options.at_time) if options.at_time is not None else None
    known = settings()
    targets = lost_settings.chosen(known, tuple(options.names))
    wanted = Wanted(options.file or "", aim, options.rotate, options.place or "", options.key)
    run = partial(drill.run, known, targets, wanted, quiet=options.quiet)
    names = [target.name for target in targets]
    return pinged("drill", known, run, names, whole=len(targets) == len(known.targets))
