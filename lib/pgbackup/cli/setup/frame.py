"""What the command lines of the two scripts share that let something else start the backups."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial

from pgbackup.cli.options import ROOT, Command, Parser, settings
from pgbackup.commands.setup.options import Options
from pgbackup.errors import UsageError
from pgbackup.host.scheduling import schedule
from pgbackup.report.result import Result


def parser_of(script: str, what: str, examples: Sequence[tuple[str, str]], user: str) -> Parser:
    """user: whose account it is without --user."""
    parser = Parser(script, what, examples)
    parser.add_argument(
        "--schedule",
        metavar="WHEN",
        help="daily (at 2), hourly, every-6h, or five cron fields; default: what is set up now, else daily",
    )
    parser.add_argument("--user", metavar="NAME", help=f"the account that makes the backups; default: {user}")
    parser.add_argument("--dry-run", action="store_true", help="show as a diff what would change; change nothing")
    parser.add_argument("--uninstall", action="store_true", help="remove what this script has set up")
    return parser


def requested(options: Namespace) -> Options:
    """Raise UsageError for a schedule that is none, or that goes with --uninstall."""
    when = None if options.schedule is None else schedule.parse(options.schedule)
    if when and options.uninstall:
        raise UsageError("--schedule and --uninstall exclude each other")
    return Options(user=options.user, schedule=when, dry_run=options.dry_run)


def command_of(
    script: str, options: Namespace, set_up: Callable[..., Result], take_down: Callable[..., Result]
) -> Command:
    """What the options ask for. Raise UsageError, PermissionDenied for who is not root, or for wrong settings."""
    asked = requested(options)
    from pgbackup.host import accounts

    accounts.require_root(script)  # before a `.env` is looked at that only root may read
    if options.uninstall:
        return partial(take_down, ROOT, asked)
    return partial(set_up, settings(), ROOT, asked)
