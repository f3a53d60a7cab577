"""WAL and base backups in a run of copy-backups.sh: what is here now, unless the follower sees to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta

from pgbackup.commands.offsite.one_place import Copies, Elsewhere
from pgbackup.commands.offsite.wal import archives, bases, segments, turn
from pgbackup.commands.offsite.wal.lane import BASE, WAL, Item
from pgbackup.errors import LockHeld
from pgbackup.formats.copies import ENCRYPTED
from pgbackup.settings.config import Settings, Target
from pgbackup.store import folder
from pgbackup.store.offsite import index, progress
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


def missing(settings: Settings, where: Elsewhere, targets: Sequence[Target], copies: Copies) -> list[Item]:
    """What a run would copy of base backups and finished segments; nothing is made. Problems go into `copies`.

    The names of objects are without what marks encryption. Raise BackupBad for a broken index.
    """
    path = progress.path_of(where.top.path, where.offsite.name)
    with ExitStack() as stack:
        own = stack.enter_context(folder.opened(path, create=False)) if path.exists() else None
        sent = [index.read(own, lane).entries for lane in (BASE, WAL)] if own else [{}, {}]
        suffix = ENCRYPTED if where.offsite.encrypted else ""
        found: list[Item] = []
        for source in stack.enter_context(archives.opened(settings, targets, own, copies.problems, only_looks=True)):
            here = bases.look(source, where.host)
            items = [item for name in here.order() for item in (*here.files(name), here.record(name))]
            found += [item for item in items if item.name + suffix not in sent[0]]
            has = {name.removesuffix(suffix) for name in sent[1]}.__contains__
            found += segments.finished(source, segments.look(source), where.host, has)
        return found
