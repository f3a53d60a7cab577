"""The last step of `make install`: the settings are read, and the directories for backups are there."""

from __future__ import annotations

from pathlib import Path

from pgbackup.host import accounts
from pgbackup.report.result import Result, document
from pgbackup.settings.config import Settings


def run(settings: Settings, user: str | None, under: Path) -> Result:
    """Make BACKUP_DIR and the databases' directories, where they are absent, for the account `user`.

    under: goes in front of each path, '/' for this host itself. Raise SuiteError; what is there is never changed.
    """
    account = accounts.find(user) if user else None
    folders = [under / path.relative_to("/") for path in accounts.directories(settings)]
    if account:
        accounts.check_directories(folders, account)
    made = accounts.make_directories(folders, account)
    told = document("setup-prepare", 0, made=[str(path) for path in made])
    return Result(0, [f"made '{path}'" for path in made], told)
