"""What the command lines share: how --help looks, the options of every script, and the settings."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pgbackup import __version__
from pgbackup.errors import EXIT_STATUSES, UsageError
from pgbackup.report.result import Result
from pgbackup.report.stdout import show

if TYPE_CHECKING:
    from pgbackup.settings.config import Settings

ROOT = Path(__file__).resolve().parents[3]

Command = Callable[[], Result]


class Parser(argparse.ArgumentParser):
    """With the options that every script has."""

    def __init__(self, script: str, what: str, examples: Sequence[tuple[str, str]]) -> None:
        """what: the script does. examples: command lines, each with its meaning."""
        shown = "\n".join(f"  {command}\n      {meaning}" for command, meaning in examples)
        statuses = "\n".join(f"  {status:<6} {meaning}" for status, meaning in EXIT_STATUSES)
        super().__init__(
            prog=script,
            description=what,
            epilog=f"examples:\n{shown}\n\nexit status:\n{statuses}\n\nsettings: docs/configuration.md, .env.example",
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=28),
            allow_abbrev=False,
        )
        self.add_argument("-q", "--quiet", action="store_true", help="say nothing but warnings and errors")
        self.add_argument("--json", action="store_true", help="one JSON document on stdout instead of lines")
        self.add_argument(
            "--version", action="version", version=f"{script} {__version__}", help="show the version and exit"
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help")

    def _print_message(self, message: str, file: object = None) -> None:
        """--help and --version go the way of every result: argparse itself would not notice a full disk."""
        show(message.rstrip("\n"))


def add_names(parser: Parser) -> None:
    """The databases that a script works on."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="databases by their names in DATABASES; default: all")


def verification_key(typed: str | None) -> str | None:
    """The public key that --verification-key gives. Raise UsageError."""
    from pgbackup.store.offsite import signing

    if typed is None:
        return None
    try:
        return signing.parsed(typed)
    except ValueError as wrong:
        raise UsageError(f"--verification-key: {wrong}", "setup-offsite.sh has shown it, for paper") from None


def settings(overrides: Mapping[str, str | None] | None = None) -> Settings:
    """Read the settings. overrides: what the command line has instead, by setting; None for nothing.

    Raise SuiteError.
    """
    from pgbackup.settings import config

    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    return config.load(os.environ, ROOT / ".env", given)
