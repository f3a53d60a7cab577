"""backup-status.sh: how the promises stand, on one screen."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path

from pgbackup.cli.options import ROOT, Command, Parser, add_names, settings
from pgbackup.errors import UsageError

SCRIPT = "backup-status.sh"


def parser() -> Parser:
    parser = Parser(
        SCRIPT,
        "Show which promises are kept and which are broken, and what would come back if this host died now.\n"
        "The first line says it all. It reads what the other scripts have noted, and asks no database.",
        [
            ("backup-status.sh", "one screen; the exit status is 0 where all promises are kept, else 66"),
            ("backup-status.sh --probe", "first look which databases there are, and what a dump of them would miss"),
            ("backup-status.sh --history payment", "what was done, by whom, and how long it took"),
            ("backup-status.sh --html /tmp/status.html", "the same as a page for a browser (docs/monitoring.md)"),
        ],
    )
    add_names(parser)
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the status as one HTML page, too")
    parser.add_argument("--metrics", metavar="FILE", type=Path, help="write it as metrics for Prometheus, too")
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--probe", action="store_true", help="ask Docker and each server which databases there are")
    doing.add_argument(
        "--scheduled",
        action="store_true",
        help="as a schedule runs it: look for databases once an hour, write PAGE_FILE and METRICS_FILE, and tell what "
        "has changed",
    )
    doing.add_argument("--history", action="store_true", help="show the last events instead, of the databases named")
    return parser


def command(options: Namespace) -> Command:
    if options.names and not options.history:
        raise UsageError("the status is of the whole host: names go with --history", "backup-status.sh --history NAME")
    from pgbackup.commands.status.publishing import Files

    known = settings()
    files = Files(options.html, options.metrics)
    if options.history:
        if options.html or options.metrics:
            raise UsageError("--history is not on the page and in the metrics", "leave out --html and --metrics")
        from pgbackup.commands import lost_settings
        from pgbackup.commands.status import past

        chosen = lost_settings.chosen(known, tuple(options.names)) if options.names else ()
        return partial(past.run, known, chosen)
    if options.probe or options.scheduled:
        from pgbackup.cli.pinged import pinged
        from pgbackup.commands.status import probing

        run = partial(probing.run, known, ROOT, files, scheduled=options.scheduled, quiet=options.quiet)
        return pinged("status", known, run, whole=options.scheduled)
    from pgbackup.commands.status import show

    return partial(show.run, known, ROOT, files, quiet=options.quiet)
