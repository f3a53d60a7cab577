"""WAL and base backups in a run of copy-backups.sh: what is here now, unless the follower sees to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from pgbackup.commands.offsite.one_place import Copies, Elsewhere
from pgbackup.commands.offsite.wal import archives, turn
from pgbackup.commands.offsite.wal.lane import BASE, WAL
from pgbackup.errors import LockHeld
from pgbackup.settings.config import Settings, Target
from pgbackup.store.offsite.index import Entry


def copy(
    settings: Settings,
    where: Elsewhere,
    targets: Sequence[Target],
    copies: Copies,
    told: Callable[[Entry], None],
) -> None:
    """Copy what there is of base backups and WAL; problems go into `copies`. Raise what the place raises."""
    if not archives.directories(settings, targets):
        return

    def copied(entry: Entry) -> None:
        copies.archived.append(entry)
        told(entry)

    for lane in (BASE, WAL):
        try:
            with turn.attended(settings, where, targets, lane, copied) as attendance:
                turn.take(attendance, timedelta(0))
                copies.problems |= attendance.lane.problems
        except LockHeld:  # whoever follows has it, and does the same
            continue
