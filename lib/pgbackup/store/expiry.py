"""Proves, by reading them, the backups that are to protect older ones from expiry: only proven ones count."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pgbackup.errors import BackupBad
from pgbackup.store import source
from pgbackup.store.catalog import Backup
from pgbackup.store.folder import Folder


def proof(
    folder: Folder, known: Sequence[Backup], on_bad: Callable[[str, str], None], proven: str = ""
) -> Callable[[str], bool]:
    """Return the function that retention.decide() asks: file name -> whether that backup is good.

    It reads the file to its last byte. on_bad: takes name and reason of one that is not. proven: the name of one
    that was read already.
    """
    looks = {backup.name: backup for backup in known}

    def is_good(name: str) -> bool:
        reason = "" if name == proven else looks[name].problem or _reason(folder, name)
        if reason:
            on_bad(name, reason)
        return not reason

    return is_good


def _reason(folder: Folder, name: str) -> str:
    """Why the backup is bad, or "" for a good one."""
    try:
        source.read_through(folder, name)
    except (BackupBad, OSError) as error:
        return str(error)
    return ""
