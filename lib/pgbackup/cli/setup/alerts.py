"""setup-alerts.sh: let somebody be told."""

from __future__ import annotations

from argparse import Namespace
from functools import partial

from pgbackup.cli.options import ROOT, Command, Parser, settings
from pgbackup.commands.setup.options import Options
from pgbackup.errors import UsageError

SCRIPT = "setup-alerts.sh"


def parser() -> Parser:
    parser = Parser(
        SCRIPT,
        "Let somebody be told when a promise breaks: ask for the channels and the dead man's pings, write them into a\n"
        "file that only the backup account can read, send a test, and let systemd (else cron) look every four minutes.",
        [
            ("sudo setup-alerts.sh", "in a terminal: asks; again to add a channel"),
            ("sudo setup-alerts.sh --file - < channels", "for automation: one URL a line"),
            ("sudo -u deployer setup-alerts.sh --test", "send a test again"),
        ],
    )
    parser.add_argument("--file", metavar="FILE", help="the channels, one a line, instead of those there; - is stdin")
    parser.add_argument("--test", action="store_true", help="send a test to every channel, and say where it arrived")
    parser.add_argument("--user", metavar="NAME", help="the account that tells; default: the units', else deployer")
    parser.add_argument("--dry-run", action="store_true", help="show what would change; change and send nothing")
    parser.add_argument("--uninstall", action="store_true", help="end the schedule; the channels stay written down")
    return parser


def command(options: Namespace) -> Command:
    if sum([options.file is not None, options.test, options.uninstall]) > 1:
        raise UsageError("--file, --test and --uninstall exclude each other")
    if options.test and (options.dry_run or options.user):
        raise UsageError("--test goes with neither --dry-run nor --user", f"sudo -u deployer {SCRIPT} --test")
    from pgbackup.commands.setup import alerts
    from pgbackup.host import accounts

    if options.test:
        return partial(alerts.test, settings())
    accounts.require_root(SCRIPT, "let another account tell")
    asked = Options(user=options.user, schedule=None, dry_run=options.dry_run)
    if options.uninstall:
        return partial(alerts.take_down, ROOT, asked)
    return partial(alerts.set_up, settings(), ROOT, asked, options.file)
