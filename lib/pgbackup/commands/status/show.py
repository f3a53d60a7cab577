"""backup-status.sh: how the promises stand. It only looks, unless the schedule asks."""

from __future__ import annotations

import shutil
import sys
from datetime import datetime, timezone
from pathlib import Path

from pgbackup.commands.status import gathering
from pgbackup.errors import NoBackup
from pgbackup.report.log import say
from pgbackup.report.promises import evaluate, json_values
from pgbackup.report.promises.lines import first, lines
from pgbackup.report.promises.status import Status
from pgbackup.report.result import Result, document
from pgbackup.settings.config import Settings

SCRIPT = "backup-status.sh"
_PIPED_COLUMNS = 120


def look(settings: Settings, root: Path) -> Status:
    """Return the status now. root: of the installation. Raise PermissionDenied where this account may not look."""
    now = datetime.now(timezone.utc)
    return evaluate.status(gathering.gather(settings, root, now), now, gathering.limits(settings))


def run(settings: Settings, root: Path, *, quiet: bool) -> Result:
    """Show the status. Status 66: a promise is broken. quiet: say only that."""
    status = look(settings, root)
    if quiet and status.broken:
        say(f"{SCRIPT}: {first(status)}")
    return told(status)


def told(status: Status) -> Result:
    """The status as a command's result. Pure but for the terminal's width."""
    code = NoBackup.status if status.broken else 0
    columns = shutil.get_terminal_size((_PIPED_COLUMNS, 24)).columns if sys.stdout.isatty() else _PIPED_COLUMNS
    return Result(code, lines(status, columns), document("status", code, **json_values.contents(status)))
