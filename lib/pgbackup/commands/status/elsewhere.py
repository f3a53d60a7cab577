"""The facts about copies at places elsewhere, and about the keys that open them. No place is asked anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pgbackup.commands.status.databases import Unknown, noted
from pgbackup.errors import SuiteError
from pgbackup.report.promises.facts import Copies, Key
from pgbackup.settings.config import Offsite, Settings
from pgbackup.store import folder
from pgbackup.store.offsite import lag, progress
from pgbackup.store.offsite.lag import Lag
from pgbackup.store.offsite.progress import State


def copies(backup_dir: Path, offsite: Offsite) -> Copies:
    """Return how copying to a place goes. Raise PermissionDenied."""
    empty = Copies(offsite.name, offsite.required, offsite.encrypted, {})
    path = progress.path_of(backup_dir, offsite.name)
    if not path.is_dir():
        return empty
    unknown: Unknown = {}
    with folder.opened(path, create=False) as own:
        state = noted(lambda: progress.read(own), unknown) or State()
        wal = noted(lambda: lag.read(own, "wal"), unknown) or Lag()
        base = noted(lambda: lag.read(own, "base"), unknown) or Lag()
    return replace(
        empty,
        newest=state.newest,
        succeeded=state.succeeded,
        tried=state.tried,
        failures=state.failures,
        error=state.error,
        objects=state.objects,
        bytes=state.bytes,
        unknown=unknown,
        wal={directory: until for directory, until in wal.until.items() if base.newest.get(directory)},
    )


def proofs(settings: Settings, unknown: Unknown) -> list[Key]:
    """Return the recipients that copies are encrypted for, where some are. What cannot be read is in `unknown`."""
    if not any(place.encrypted for place in settings.offsite):
        return []
    from pgbackup.store.state import keys  # here: with age, which only encrypted copies need

    path = settings.encryption_recipients
    try:
        current = keys.recipients(path).current
    except SuiteError as error:
        unknown[str(path)] = error.message, error.hint or ""
        return []
    held = None
    try:
        held = keys.proofs(path)
    except SuiteError as error:
        unknown[str(path)] = error.message, error.hint or ""
    proven = held.proven if held else {}
    return [Key(recipient, proven.get(recipient)) for recipient in current]
