"""Finishes or undoes what a killed restore left: told by its journal, decided by what the server has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from pgbackup.commands.job import Job
from pgbackup.commands.loading import one_copy
from pgbackup.database.clients.client import Client
from pgbackup.database.loading import leaving, swap
from pgbackup.errors import Interrupted, SuiteError
from pgbackup.host import services
from pgbackup.store.state import journal
from pgbackup.store.state.statefile import Unreadable


def undo(job: Job, client: Client, entry: journal.Entry) -> bool:
    """Drop what a restore has loaded beside the live database, unless the two have changed places already.

    Return whether they have. First all that it does on the server is ended: only then is the answer final. A live
    database that was set aside or dropped to make room comes back, also where something cannot be dropped.

    Raise one_copy.Lost while there is no live database, another SuiteError when not all could be cleaned up.
    """
    swap.end_sessions(client)
    in_the_way, there = None, True
    try:
        there = leaving.dropped(client, entry.scratch)
    except Interrupted:
        raise
    except SuiteError as error:
        in_the_way = error
    if is_missing(job, client, entry):
        journal.write(job.place, job.run.owner, replace(entry, swapping=False))
        one_copy.bring_back(job, client, entry)
        there = True
    if in_the_way:
        raise in_the_way
    return entry.swapping and not there


def is_missing(job: Job, client: Client, entry: journal.Entry) -> bool:
    """Whether there is no live database any more that can be brought back."""
    return bool(entry.safety or entry.outgoing) and not swap.valid(client, job.target.database)


def settle(job: Job, ask: Callable[[], AbstractContextManager[Client]]) -> SuiteError | None:
    """Under the database's lock: if a restore is unfinished, undo it, or finish it where it had swapped already.

    ask: gives a client for questions. Says what was done. Return what was in the way, told as a warning is: the
    journal then stays for the next run, and nothing else has to wait for it. Raise Interrupted.
    """
    try:
        entry = journal.read(job.place, job.run.owner)
    except Unreadable as error:
        job.warning("restore.unsettled", reason=error.message)
        return error
    if entry is None:
        journal.close(job.place, job.run.owner)
        return None
    problem, replaced = None, False
    try:
        with ask() as client:
            replaced = undo(job, client, entry)
    except Interrupted:
        raise
    except SuiteError as error:
        problem = error
    failed = services.start(entry.stopped, job.settings.docker)
    if problem:
        if not isinstance(problem, one_copy.Lost):
            problem.message = (
                f"the database '{entry.scratch}', left by the killed restore of '{entry.file}', is still there,"
                f" and the next run tries again: {problem.message}"
            )
        job.warning("restore.unsettled", reason=problem.message)
        return problem
    journal.close(job.place, job.run.owner)
    done = (
        f"the killed restore of '{entry.file}' had loaded everything, and the restored database is in place"
        if replaced
        else f"the killed restore of '{entry.file}' was undone: '{job.target.database}' is as it was"
    )
    if failed:
        done += f"; services that did not start: {', '.join(failed)}"
    elif entry.stopped:
        done += f"; services started: {', '.join(reversed(entry.stopped))}"
    job.warning("restore.settled", done, reason=done)
    return None
