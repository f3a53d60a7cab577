"""Finishes or undoes what a killed restore left: told by its journal, decided by what the server has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from pgbackup.archive import journal
from pgbackup.commands import in_place
from pgbackup.commands.job import Job
from pgbackup.database import swap
from pgbackup.database.client import Client
from pgbackup.host import services


def undo(job: Job, client: Client, entry: journal.Entry) -> bool:
    """Drop what a restore has loaded beside the live database, unless the two have changed places already.

    Return whether they have. First all that it does on the server is ended: only then is the answer final.
    """
    swap.end_sessions(client)
    there = swap.dropped(client, entry.scratch)
    return entry.swapping and not there


def settle(job: Job, ask: Callable[[], AbstractContextManager[Client]]) -> None:
    """Under the database's lock: if a restore is unfinished, undo it, or finish it where it had swapped already.

    ask: gives a client for questions. Says what was done. Raise SuiteError when the server cannot be asked: the
    journal stays for the next run.
    """
    entry = journal.read(job.place, job.run.owner)
    if entry is None:
        journal.close(job.place, job.run.owner)
        return
    with ask() as client:
        replaced = undo(job, client, entry)
        if entry.safety:
            in_place.bring_back(job, client, entry)
    failed = services.start(entry.stopped, job.settings, job.environment)
    journal.close(job.place, job.run.owner)
    done = (
        f"the restore of '{entry.file}' that was killed had been loaded completely and is in place"
        if replaced
        else f"the restore of '{entry.file}' that was killed was undone: '{job.target.database}' is as it was"
    )
    if failed:
        done += f"; services that did not start: {', '.join(failed)}"
    elif entry.stopped:
        done += f"; services started: {', '.join(reversed(entry.stopped))}"
    job.log.warning(job.target.name, "restore.settled", reason=done)
    job.reporter.warn(f"{job.target.name}: {done}")
