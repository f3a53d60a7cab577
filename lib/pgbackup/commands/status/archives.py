"""The facts about WAL archives: from the names of what lies in them, and what their receivers have noted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pgbackup.errors import PermissionDenied, SuiteError
from pgbackup.report.promises.facts import Archive
from pgbackup.settings.config import Target
from pgbackup.store.wal import archive, recoverable


def facts(backup_dir: Path, targets: Sequence[Target], now: datetime) -> list[Archive]:
    """Return the archives that receive WAL; databases that share a directory share one. Raise PermissionDenied."""
    sharing: dict[str, list[Target]] = {}
    for target in targets:
        sharing.setdefault(target.directory, []).append(target)
    found = (_of(backup_dir, directory, some, now) for directory, some in sharing.items())
    return [each for each in found if each]


def _of(backup_dir: Path, directory: str, targets: Sequence[Target], now: datetime) -> Archive | None:
    if not archive.path_of(backup_dir, directory).is_dir():
        return None
    names = tuple(target.name for target in targets)
    every = min(target.base_every_days for target in targets)
    try:
        with archive.opened(backup_dir, directory, create=False) as places:
            if (state := archive.read_state(places)) is None or not state.active:
                return None
            seen = recoverable.look(places)
    except PermissionDenied:
        raise
    except (SuiteError, OSError) as error:
        hint = error.hint if isinstance(error, SuiteError) else None
        unknown = {str(error): (str(error), hint or f"verify-backups.sh {names[0]}")}
        return Archive(directory, names, None, None, None, None, base_every_days=every, unknown=unknown)
    newest = seen.windows[-1] if seen.windows else None
    base = recoverable.newest_by(seen, now)
    receiver, confirmed = seen.receiver, seen.confirmed.time if seen.confirmed else None
    if confirmed and receiver and receiver.checked:
        confirmed = min(confirmed, receiver.checked)  # by the server's clock and by this host's: both may be wrong
    return Archive(
        directory=directory,
        names=names,
        since=newest.since if newest else None,
        until=newest.until if newest else None,
        confirmed=confirmed,
        base=base.ended if base else None,
        base_bytes=seen.bases[base.name][1].bytes if base else 0,
        bases=len(seen.bases),
        base_every_days=every,
        trouble=receiver.trouble if receiver else "",
        gap="; ".join([recoverable.broken_off(seen), *recoverable.unreadable(seen)]).strip("; "),
    )
