"""Words in, exit status out. The only place that turns an error into a message and a status."""

from __future__ import annotations

import argparse
import gc
import json
import os
import traceback
from collections.abc import Sequence
from importlib import import_module

from pgbackup import interrupt
from pgbackup.errors import SuiteError, UsageError
from pgbackup.report.log import say, with_hint
from pgbackup.report.result import Result, document
from pgbackup.report.stdout import StdoutFailed, show

VERBS = (
    "backup",
    "verify",
    "drill",
    "restore",
    "copy",
    "status",
    "setup-backup-cron",
    "setup-backup-systemd",
    "setup-wal-archiving",
    "setup-encryption",
    "setup-offsite",
    "setup-alerts",
    "test-alarms",
    "receive-wal",
    "setup-prepare",
)


def main(words: Sequence[str]) -> int:
    """Run one verb and return the exit status.

    Each is a module with SCRIPT, the script's name; parser(); and command(), which makes what was parsed a call of a
    command: checked, with the settings, and loaded, so that an upgrade in mid-run changes nothing.
    Raise ModuleNotFoundError where the suite's environment lacks something.
    """
    interrupt.install()
    gc.disable()  # what is loaded is no garbage, and to look for some in it takes a tenth of the start-up
    verb, rest = (words[0], words[1:]) if words else ("", [])
    script = "pgbackup"
    try:
        if verb not in VERBS:
            raise UsageError(f"unknown verb '{verb}'", "use the scripts in scripts/")
        module = import_module(f"pgbackup.cli.{_module(verb)}")
        script = module.SCRIPT
        options = module.parser().parse_intermixed_args(rest)
        command = module.command(options)
        # Whatever the caller's: nothing is for others to read but Python's own cache of what was loaded until here.
        os.umask(0o077)
        gc.enable()
        return _show_result(command(), options)
    except StdoutFailed as error:
        _say_error(script, error)
        return error.status
    except SuiteError as error:
        return _failed(script, verb, error, as_json="--json" in rest)
    except ModuleNotFoundError:
        raise  # the environment's fault, and told by who has started this
    except Exception:  # noqa: BLE001  the last line of defence: a bug must still end with its own status
        traceback.print_exc()
        bug = SuiteError("internal error", "please report it with the lines above")
        return _failed(script, verb, bug, as_json="--json" in rest)


def _module(verb: str) -> str:
    """Return where a verb's command line is: `setup-offsite` in setup/offsite.py, `verify` in verify.py."""
    room, _, name = verb.partition("-")
    return f"setup.{name.replace('-', '_')}" if room == "setup" else verb.replace("-", "_")


def _failed(script: str, verb: str, error: SuiteError, *, as_json: bool) -> int:
    """Tell what stopped the run before it had a result, on stderr and for --json on stdout; return its status."""
    _say_error(script, error)
    if as_json:
        try:
            show(json.dumps(document(verb, error.status, error=error.message, hint=error.hint), indent=2))
        except StdoutFailed as second:
            _say_error(script, second)
    return error.status


def _say_error(script: str, error: SuiteError) -> None:
    """Print `script: message` and the hint, as every failure is told, in one piece."""
    say(with_hint(f"{script}: {error.message}", error.hint))


def _show_result(result: Result, options: argparse.Namespace) -> int:
    """Write the result to stdout, as one JSON document or as lines, and return the exit status."""
    try:
        if options.json:
            show(json.dumps(result.document, indent=2))
        elif not options.quiet and result.lines:
            show("\n".join(result.lines))
    except StdoutFailed as error:
        if not result.status:
            raise
        say(error.message)  # what failed before tells more than this: a hung-up terminal takes stdout along
    return result.status
