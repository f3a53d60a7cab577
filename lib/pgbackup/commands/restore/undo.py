"""After a restore that failed: what it made is dropped, what it set aside comes back, or the next run is told to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pgbackup import interrupt
from pgbackup.commands.loading import one_copy, unfinished
from pgbackup.commands.restore.work import Work
from pgbackup.database.clients.client import Client
from pgbackup.database.loading import swap
from pgbackup.errors import BackupBad, SuiteError
from pgbackup.store.state import journal


@contextmanager
def undone(work: Work) -> Iterator[None]:
    """After a failure drop what was loaded, unless it is to be kept; then close the journal.

    Where it cannot be dropped now, or there is no live database, the journal stays and the next run does it.
    """
    job, record = work.job, work.record
    try:
        yield
    except BaseException as error:
        with interrupt.shielded():
            try:
                with _reached(work) as client:
                    _undo(work, client, kept=work.options.keep_failed and isinstance(error, BackupBad))
            except one_copy.Lost as lost:
                raise _told(error, lost) from None
            except SuiteError as failed:
                record.warnings.append(f"'{work.entry.scratch}' is left to the next run: {failed.message}")
                raise error from None
            journal.close(job.place, job.run.owner)
        raise
    if work.options.into and (work.entry.safety or work.entry.outgoing):
        journal.write(job.place, job.run.owner, work.entry)  # of an earlier one: there is still no live database
    else:
        journal.close(job.place, job.run.owner)


@contextmanager
def _reached(work: Work) -> Iterator[Client]:
    """A client that the server answers; where there may be no live database, it is given WAIT_SECONDS to come back."""
    job, patience = work.job, work.job.settings.wait_seconds if work.options.in_place else 0
    deadline = time.monotonic() + patience
    with ExitStack() as stack:
        while True:
            try:
                client = stack.enter_context(job.answering(work.ask))
                client.server_query("SELECT 1")
                break
            except SuiteError:
                stack.close()
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.25)
        yield client


def _undo(work: Work, client: Client, *, kept: bool) -> None:
    """kept: what was loaded stays to be looked at, where there is room for it beside the live database."""
    job, record, name = work.job, work.record, work.entry.scratch
    entry = journal.read(job.place, job.run.owner) or work.entry
    if kept and not work.options.in_place:
        swap.end_sessions(client)
        record.warnings.append(f"what was loaded is kept in the database '{name}'")
    elif not record.swapped:
        record.swapped = unfinished.undo(job, client, entry)
        if kept:
            record.warnings.append("what was loaded is not kept: --in-place makes room for the database as it was")


def _told(error: BaseException, lost: one_copy.Lost) -> BaseException:
    """The error of a restore, and that there is no database now, which is what matters."""
    if not isinstance(error, SuiteError):
        return lost
    error.message, error.hint = f"{error.message}; {lost.message}", lost.hint
    return error
