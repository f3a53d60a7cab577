"""restore-postgres.sh --rollback and --drop-old: what becomes of the databases that restores have kept."""

from __future__ import annotations

from datetime import datetime

from pgbackup.commands import claim, confirm
from pgbackup.commands.job import Job
from pgbackup.commands.loading.record import Record
from pgbackup.database.loading import swap
from pgbackup.errors import NoBackup
from pgbackup.report.log import say
from pgbackup.sql import naming

_NONE = "no restore has kept an old '{}'"


def rollback(job: Job, record: Record, *, yes: bool, dry_run: bool) -> None:
    """Put the database that the last restore replaced back in its place; the present one is kept in turn.

    Raise NoBackup when there is none. So a second rollback takes the first one back.
    """
    with claim.connected(job) as (ask, unsettled):
        record.warnings += [unsettled.message] if unsettled else []
        kept = [name for name in swap.kept(ask) if swap.valid(ask, name)]
        if not kept:
            raise NoBackup(_NONE.format(job.target.database), "restore a backup: --list")
        say(f"roll back '{job.target.database}' to '{kept[0]}'; the present one is kept")
        if dry_run:
            return
        if not yes:
            confirm.ask(job.target.database, "a rollback")
        there = swap.valid(ask, job.target.database)
        if not there:
            swap.drop(ask, job.target.database)  # nobody can use it, and it cannot be renamed
        now = datetime.now().astimezone()
        outgoing = naming.next_derived(job.target.database, naming.BEFORE, now, kept[0]) if there else None
        record.file, record.replaced = kept[0], outgoing or ""
        record.began = True
        with record.timed("swap"):
            swap.swap(ask, kept[0], outgoing)
        record.swapped = True


def drop_old(job: Job, record: Record, *, yes: bool, dry_run: bool) -> None:
    """Drop the databases that restores have kept. Raise NoBackup when there is none."""
    with claim.connected(job) as (ask, unsettled):
        record.warnings += [unsettled.message] if unsettled else []
        kept = swap.kept(ask)
        if not kept:
            raise NoBackup(_NONE.format(job.target.database))
        say("drop for good: " + ", ".join(f"'{name}'" for name in kept))
        if dry_run:
            return
        if not yes:
            confirm.ask(job.target.database, "dropping old databases")
        record.began = True
        with record.timed("drop"):
            for name in kept:
                swap.drop(ask, name)
        record.file = ", ".join(kept)
