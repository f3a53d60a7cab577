"""What is told of backups that no database in DATABASES has: after a loss of `.env` they are all there is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from pgbackup.errors import SuiteError, UsageError
from pgbackup.settings import values
from pgbackup.settings.config import Settings, Target
from pgbackup.store import catalog, folder, unclaimed
from pgbackup.store.folder import Folder
from pgbackup.store.unclaimed import Unclaimed

_MOST_TOLD = 10


def found(settings: Settings, top: Folder) -> list[Unclaimed]:
    """The backups in BACKUP_DIR of databases that the settings do not name."""
    return unclaimed.find(top, [(target.directory, target.database) for target in settings.targets])


def instead_of(settings: Settings, target: Target, top: Folder) -> list[Unclaimed]:
    """The same where the target has no backup of its own; nothing where it has."""
    try:
        with folder.opened(top.path / target.directory, create=False) as place:
            if catalog.listing(place, target.database):
                return []
    except SuiteError:
        pass
    return found(settings, top)


def chosen(settings: Settings, names: tuple[str, ...]) -> tuple[Target, ...]:
    """The targets that the command line names: see Settings.chosen().

    A name that the settings do not have may be one that they had: what lies in BACKUP_DIR is told with it.
    """
    try:
        return settings.chosen(names)
    except UsageError as error:
        with suppress(SuiteError), folder.opened(settings.backup_dir, create=False, top=True) as top:
            if some := found(settings, top):
                error.message, error.hint = "; ".join([error.message, *told(top, some)]), hint(some)
        raise


def told(top: Folder, some: Sequence[Unclaimed]) -> list[str]:
    """One sentence for each database. Pure."""
    lines = [
        f"{'a backup' if one.files == 1 else f'{one.files} backups'} of the database {one.database!r}"
        f" {'lies' if one.files == 1 else 'lie'} in '{top.path / one.directory}', and DATABASES has no such database;"
        f" the newest: '{one.newest}'"
        for one in some[:_MOST_TOLD]
    ]
    return [*lines, f"and {len(some) - _MOST_TOLD} more databases"] if len(some) > _MOST_TOLD else lines


def hint(some: Sequence[Unclaimed]) -> str:
    """What to do about them: the settings that the backups themselves tell of. Pure."""
    lines = [line for one in some[:_MOST_TOLD] if _tells(one) for line in _settings(one)]
    names = " ".join(dict.fromkeys(one.target for one in some[:_MOST_TOLD] if _tells(one)))
    if not lines:
        return "was .env lost? bring it back, or name these databases in it: docs/configuration.md"
    return "was .env lost? bring it back, or write into it what the backups record:\n  " + "\n  ".join(
        [f'DATABASES="{names}"', *lines, "and the role: <NAME>_USER"]
    )


def _tells(one: Unclaimed) -> bool:
    """Whether its manifest says what can stand in settings: a file is data, and this is typed by somebody."""
    try:
        values.TARGET_NAMES.parse(one.target)
        values.CONTAINER.parse(one.container)
    except ValueError:
        return False
    return one.database.isprintable() and not set(one.database) & set("'\"\\ #")


def _settings(one: Unclaimed) -> list[str]:
    key = one.target.upper()
    lines = [f"{key}_CONTAINER={one.container}", f"{key}_DATABASE={one.database}"]
    return lines if one.directory == one.container else [*lines, f"{key}_DIR={one.directory}"]


def entries(some: Sequence[Unclaimed]) -> list[dict[str, Any]]:
    """The same for the JSON document. Pure."""
    return [asdict(one) for one in some]
