"""backup-status.sh: how the promises stand. It only looks, unless the schedule asks."""

from __future__ import annotations

import shutil
import sys
from datetime import datetime, timezone
from pathlib import Path

from pgbackup.commands.status import gathering, publishing
from pgbackup.commands.status.publishing import Files
from pgbackup.errors import NoBackup
from pgbackup.report.log import say, with_hint
from pgbackup.report.promises import evaluate, json_values
from pgbackup.report.promises.lines import first, lines
from pgbackup.report.promises.status import Status
from pgbackup.report.result import Result, document
from pgbackup.report.typeable import typeable
from pgbackup.settings.config import Settings

SCRIPT = "backup-status.sh"
_PIPED_COLUMNS = 120


def look(settings: Settings, root: Path) -> Status:
    """Return the status now. root: of the installation. Raise PermissionDenied where this account may not look."""
    now = datetime.now(timezone.utc)
    return evaluate.status(gathering.gather(settings, root, now), now, gathering.limits(settings))


def run(settings: Settings, root: Path, files: Files, *, quiet: bool) -> Result:
    """Show the status, and write the files that are asked for. Status 66: a promise is broken.

    quiet: say only what is broken. Raise SuiteError for a file that was asked for and cannot be written.
    """
    status = look(settings, root)
    _written(files, status)
    if quiet and status.broken:
        say(f"{SCRIPT}: {first(status)}")
    return told(status)


def scheduled(settings: Settings, status: Status, files: Files) -> Result:
    """The same for a schedule, which writes the files of the settings as well, and says nothing: others are told.

    One of those that cannot be written is said, and a broken promise matters more.
    """
    failed = publishing.write(publishing.of_schedule(settings), status)
    for error in failed:
        say(with_hint(f"{SCRIPT}: error: {error.message}", error.hint))
    _written(files, status)
    return told(status, failed[0].status if failed else 0)


def _written(files: Files, status: Status) -> None:
    for error in publishing.write(files, status):
        raise error


def told(status: Status, otherwise: int = 0) -> Result:
    """The status as a command's result. otherwise: its exit status where no promise is broken. Pure but for the
    terminal's width and the current directory.
    """
    code = NoBackup.status if status.broken else otherwise
    columns = shutil.get_terminal_size((_PIPED_COLUMNS, 24)).columns if sys.stdout.isatty() else _PIPED_COLUMNS
    return Result(
        code, lines(status.with_remedies(typeable), columns), document("status", code, **json_values.contents(status))
    )
