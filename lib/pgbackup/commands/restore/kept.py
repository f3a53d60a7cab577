"""restore-postgres.sh --rollback and --drop-old: what becomes of the databases that restores have kept."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime

from pgbackup.commands import confirm
from pgbackup.commands.job import Job
from pgbackup.commands.loading import unfinished
from pgbackup.commands.loading.record import Record
from pgbackup.database.clients.client import Client
from pgbackup.database.loading import swap
from pgbackup.errors import NoBackup
from pgbackup.formats import names
from pgbackup.report.log import say
from pgbackup.sql import naming
from pgbackup.store import lock

_NONE = "no restore has kept an old '{}'"


def rollback(job: Job, record: Record, *, yes: bool, dry_run: bool) -> None:
    """Put the database that the last restore replaced back in its place; the present one is kept in turn.

    Raise NoBackup when there is none. So a second rollback takes the first one back.
    """
    with lock.held(job.place, names.stem(job.target.database)), job.client() as ask:
        kept = [name for name in _kept(job, ask, record, dry_run=dry_run) if swap.valid(ask, name)]
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
    with lock.held(job.place, names.stem(job.target.database)), job.client() as ask:
        kept = _kept(job, ask, record, dry_run=dry_run)
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


def _kept(job: Job, ask: Client, record: Record, *, dry_run: bool) -> list[str]:
    """The databases that restores have kept, newest first, an unfinished restore settled as far as it can be."""
    if not dry_run and (problem := unfinished.settle(job, lambda: nullcontext(ask))):
        record.warnings.append(problem.message)
    return swap.kept(ask)
