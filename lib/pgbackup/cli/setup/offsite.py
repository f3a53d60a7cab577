"""setup-offsite.sh: let copies go to a place elsewhere."""

from __future__ import annotations

from argparse import Namespace
from functools import partial

from pgbackup.cli.options import ROOT, Command, Parser, settings, verification_key
from pgbackup.commands.setup.options import Options
from pgbackup.errors import UsageError

SCRIPT = "setup-offsite.sh"


def parser() -> Parser:
    parser = Parser(
        SCRIPT,
        "Let copies go to a place of OFFSITE: try out what it refuses and say what to change, copy what is here, and\n"
        "let systemd (else cron) go on every five minutes.",
        [
            ("sudo setup-offsite.sh s3", "once; again to try the place out anew"),
            ("sudo setup-offsite.sh --uninstall", "end the schedule; what was copied stays"),
        ],
    )
    parser.add_argument("place", nargs="?", metavar="PLACE", help="its name in OFFSITE")
    parser.add_argument("--user", metavar="NAME", help="the account that copies; default: the unit's, else deployer")
    parser.add_argument(
        "--unencrypted",
        action="store_true",
        help="whoever can read the place may read every row (<PLACE>_ENCRYPTED=no)",
    )
    parser.add_argument(
        "--verification-key",
        metavar="KEY",
        help="after a loss of this host: take back the index there, which this key, from paper, has signed",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="is the place there? show what would change; change nothing"
    )
    parser.add_argument("--uninstall", action="store_true", help="end the schedule of the copies, to all places")
    return parser


def command(options: Namespace) -> Command:
    if bool(options.place) == options.uninstall:
        raise UsageError("name the place, or --uninstall", "sudo setup-offsite.sh s3")
    from pgbackup.commands.setup import offsite
    from pgbackup.host import accounts

    accounts.require_root(SCRIPT, "set up the copies of another account")
    asked = Options(user=options.user, schedule=None, dry_run=options.dry_run)
    if options.uninstall:
        return partial(offsite.take_down, ROOT, asked)
    key = verification_key(options.verification_key)
    known = settings()
    wanted = offsite.Wanted(known.place(options.place), options.unencrypted, key)
    return partial(offsite.set_up, known, ROOT, asked, wanted)
