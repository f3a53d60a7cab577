"""The last step of `make install`: the directories of `.env` are there."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path

from pgbackup.cli.options import Command, Parser, settings

SCRIPT = "make install"


def parser() -> Parser:
    parser = Parser(
        SCRIPT,
        "Check the settings and make the directories that hold backups, as the last step of an installation.",
        [
            ("lib/run setup-prepare --user deployer", "the directories of .env, owned by that account"),
            ("lib/run setup-prepare --under /tmp/stage", "below another root, whoever owns them"),
        ],
    )
    parser.add_argument("--user", metavar="NAME", help="who owns them; default: who runs this")
    parser.add_argument("--under", metavar="DIRECTORY", default="/", help="in front of every path; default /")
    return parser


def command(options: Namespace) -> Command:
    from pgbackup.commands.setup import prepare

    return partial(prepare.run, settings(), options.user, Path(options.under))
