"""--in-place: where there is no room for two copies, the live database goes before the new one comes.

A verified backup is made first. It brings the database back when the restore fails, or, after a kill, with the
next command: until then there is none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pgbackup import interrupt
from pgbackup.archive import dumpfile, journal, source
from pgbackup.commands import restore_checks
from pgbackup.commands.fill import Filling, fill
from pgbackup.commands.job import Job
from pgbackup.commands.restore_record import Record
from pgbackup.database import preflight, swap
from pgbackup.database.client import Client


@contextmanager
def emptied(job: Job, ask: Client, entry: journal.Entry, record: Record) -> Iterator[None]:
    """Drop the live database for the block; after a failure it is brought back from the safety backup."""
    try:
        with record.timed("drop"):
            swap.drop(ask, job.target.database)
        yield
    except BaseException:
        with interrupt.shielded():
            swap.end_sessions(ask)
            swap.drop(ask, entry.scratch)
            bring_back(job, ask, entry)
        raise


def bring_back(job: Job, ask: Client, entry: journal.Entry) -> None:
    """Restore the safety backup where the live database is gone. Raise SuiteError; the journal then stays."""
    if swap.valid(ask, job.target.database):
        return
    swap.drop(ask, job.target.database)
    job.reporter.warn(f"{job.target.name}: bringing '{job.target.database}' back from '{entry.safety}'")
    opened = source.opened(job.place.path / entry.safety, job.target.database)
    try:
        contents = dumpfile.check(opened.descriptor)
        server = opened.manifest.raw["server"] if opened.manifest else {}
        major = preflight.look(ask, [])["major"]
        filling = Filling(opened, contents, server, major, restricts=restore_checks.load_restricts(job, ask))
        fill(job, ask, filling, entry.scratch, Record(job.target.name, job.target.database, "bring back"))
        swap.swap(ask, entry.scratch, None)
    finally:
        os.close(opened.descriptor)
