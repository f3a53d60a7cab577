"""Whether the backup account could make a backup now: a dry run as that account, with what the schedule gives it."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from pgbackup import proc
from pgbackup.errors import LockHeld, SuiteError
from pgbackup.host.accounts import Account
from pgbackup.settings.config import Settings


def of(root: Path, account: Account, settings: Settings, given: Mapping[str, str]) -> list[SuiteError]:
    """Return why a backup by the account would fail now, one error for each database; none where it would not.

    given: the environment that the schedule sets.
    """
    argv = [str(root / "scripts" / "backup-postgres.sh"), "--dry-run", "--json"]
    if account.uid != os.geteuid():
        argv = ["runuser", "-u", account.name, "--", *argv]
    # Nothing of the caller's: what reaches Docker for root at the terminal is not there at night.
    variables = proc.environment({"HOME": pwd.getpwnam(account.name).pw_dir}, given)
    try:
        finished = proc.run(argv, seconds=_patience(settings), variables=variables)
    except SuiteError as error:
        return [error]
    return found(finished)


def _patience(settings: Settings) -> float:
    """A limit against hanging: each database may be waited for, and asked several things."""
    return 60 + len(settings.targets) * (settings.wait_seconds + 5 * settings.command_seconds)


def found(finished: proc.Finished) -> list[SuiteError]:
    """Given how a dry run with --json ended, return the failures in it. Pure."""
    if finished.status == 0:
        return []
    try:
        document = json.loads(finished.stdout)
        parts = document.get("databases") or [document]
        failed = [
            _error(part["status"], f"{part['target']}: {part['error']}" if "target" in part else part["error"], part)
            for part in parts
            if part["status"] not in (0, LockHeld.status)  # another run is at work: then it works
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        lines = finished.stderr.strip().splitlines()
        return [_error(finished.status, lines[0] if lines else f"it ended with {finished.status}", {})]
    return failed


def _error(status: int, message: str, part: Mapping[str, str | None]) -> SuiteError:
    error = SuiteError(message, part.get("hint"))
    error.status = status
    return error


def assigned(command: str) -> dict[str, str]:
    """Given a crontab's command, return the variables that are set in front of it."""
    try:
        words = shlex.split(command.replace(r"\%", "%"))
    except ValueError:
        return {}
    given = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", key):
            break
        given[key] = value
    return given
