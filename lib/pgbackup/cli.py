"""Arguments in, exit status out. The only place that turns an error into a message and a status."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from pgbackup import __version__, config, interrupt
from pgbackup.commands import backup, backup_plan, verify
from pgbackup.commands.result import Result, document
from pgbackup.errors import EXIT_STATUSES, IoFailed, SuiteError, UsageError
from pgbackup.log import say

ROOT = Path(__file__).resolve().parent.parent.parent


class _StdoutFailed(IoFailed):
    """There is no use in writing to stdout that it failed, as --json would."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help")

    def _print_message(self, message: str, file: object = None) -> None:
        """--help and --version go the way of every result: argparse itself would not notice a full disk."""
        _print(message.rstrip("\n"))


def _exit_status_section() -> str:
    rows = "\n".join(f"  {status:<6} {meaning}" for status, meaning in EXIT_STATUSES)
    return f"exit status:\n{rows}"


def _parser(script: str, what: str, examples: Sequence[tuple[str, str]]) -> _Parser:
    shown = "\n".join(f"  {command}\n      {meaning}" for command, meaning in examples)
    parser = _Parser(
        prog=script,
        description=what,
        epilog=f"examples:\n{shown}\n\n{_exit_status_section()}\n\nsettings: docs/configuration.md, .env.example",
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=28),
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="databases by their names in DATABASES; default: all")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but warnings and errors")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of lines")
    parser.add_argument(
        "--version", action="version", version=f"{script} {__version__}", help="show the version and exit"
    )
    return parser


def backup_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "backup-postgres.sh",
        "Back up the databases: dump, compress, read back from disk and check, publish, expire old backups.\n"
        "A file under its final name is complete and proven; a failure never leaves one.",
        [
            ("sudo -u deployer backup-postgres.sh", "all databases, as cron does it every night"),
            ("backup-postgres.sh --dry-run payment", "what would be written and expired, changing nothing"),
        ],
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the plan and the retention decisions; change nothing"
    )
    parser.add_argument("--retention-days", metavar="DAYS", help="instead of RETENTION_DAYS")
    parser.add_argument("--min-backups", metavar="COUNT", help="instead of MIN_BACKUPS")
    parser.add_argument("--jobs", metavar="COUNT", help="instead of BACKUP_JOBS")
    parser.add_argument("--client", metavar="KIND", help="auto, sidecar, exec or direct, instead of each <NAME>_CLIENT")
    return parser


def verify_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "verify-backups.sh",
        "Read every backup from its first to its last byte and compare it with its manifest.\n"
        "Checks files, changes nothing. It cannot tell what only a restore can.",
        [
            ("verify-backups.sh", "every backup of every database, as a table"),
            ("verify-backups.sh --max-age 26 --json payment", "for monitoring: fails without a good one from 26 hours"),
        ],
    )
    parser.add_argument(
        "--max-age", metavar="HOURS", default="24", help="how old the newest good backup may be; default 24"
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one verb and return the exit status."""
    interrupt.install()
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    script = {"backup": "backup-postgres.sh", "verify": "verify-backups.sh"}.get(verb, "pgbackup")
    try:
        if verb == "backup":
            return _backup(backup_parser().parse_args(rest))
        if verb == "verify":
            return _verify(verify_parser().parse_args(rest))
        raise UsageError(f"unknown verb '{verb}'", "use the scripts in scripts/")
    except _StdoutFailed as error:
        _say_error(script, error)
        return error.status
    except SuiteError as error:
        return _failed(script, verb, error, as_json="--json" in rest)
    except Exception:  # noqa: BLE001  the last line of defence: a bug must still end with its own status
        traceback.print_exc()
        bug = SuiteError("internal error", "please report it with the lines above")
        return _failed(script, verb, bug, as_json="--json" in rest)


def _failed(script: str, verb: str, error: SuiteError, *, as_json: bool) -> int:
    """Tell what stopped the run before it had a result, on stderr and for --json on stdout; return its status."""
    _say_error(script, error)
    if as_json:
        try:
            _print(json.dumps(document(verb, error.status, error=error.message, hint=error.hint), indent=2))
        except _StdoutFailed as second:
            _say_error(script, second)
    return error.status


def _say_error(script: str, error: SuiteError) -> None:
    """Print `script: message` and the hint, as every failure is told, in one piece."""
    say(f"{script}: {error.message}" + (f"\nHint: {error.hint}" if error.hint else ""))


def _settings(overrides: Mapping[str, str | None]) -> config.Settings:
    given = {key: value for key, value in overrides.items() if value is not None}
    return config.load(os.environ, ROOT / ".env", given)


def _backup(options: argparse.Namespace) -> int:
    overrides: dict[str, str | None] = {
        "RETENTION_DAYS": options.retention_days,
        "MIN_BACKUPS": options.min_backups,
        "BACKUP_JOBS": options.jobs,
    }
    settings = config.with_client(_settings(overrides), options.client)
    targets = settings.chosen(tuple(options.names))
    if options.dry_run:
        return _show(backup_plan.plan(settings, targets), options)
    return _show(backup.run(settings, targets, quiet=options.quiet), options)


def _verify(options: argparse.Namespace) -> int:
    try:
        hours = float(options.max_age)
    except ValueError:
        hours = -1.0
    if not 0 < hours < 1e6:
        raise UsageError(f"--max-age {options.max_age!r} must be a number of hours above 0", "for example --max-age 26")
    settings = _settings({})
    targets = settings.chosen(tuple(options.names))
    return _show(verify.run(settings, targets, max_age_hours=hours, quiet=options.quiet), options)


def _show(result: Result, options: argparse.Namespace) -> int:
    """Write the result to stdout, as one JSON document or as lines, and return the exit status."""
    if options.json:
        _print(json.dumps(result.document, indent=2))
    elif not options.quiet:
        _print("\n".join(result.lines))
    return result.status


def _print(text: str) -> None:
    """Write to stdout. A reader that went away (`… | head`) has seen enough; it does not change the exit status."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        # Python would try to write the rest when it exits, and end with a status of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not isinstance(error, BrokenPipeError):
            raise _StdoutFailed(f"cannot write the result to stdout: {error.strerror}") from None
