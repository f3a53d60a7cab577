"""The one way in for whatever writes: the lock, then what killed runs have left is swept, then theirs is settled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from pgbackup.commands.job import Job
from pgbackup.commands.loading import unfinished
from pgbackup.database.clients import sidecar
from pgbackup.database.clients.client import Client
from pgbackup.errors import SuiteError
from pgbackup.formats import names
from pgbackup.store import lock, workfiles


@contextmanager
def claimed(job: Job) -> Iterator[SuiteError | None]:
    """Claim the database's backups and whatever is called after it on the server, for the length of the block.

    Give what was in the way of settling an earlier restore: it is told already, and the caller decides what it stops.
    Raise LockHeld when another run has them, before anything is touched.
    """
    with _swept(job):
        yield unfinished.settle(job, job.client)


@contextmanager
def connected(job: Job) -> Iterator[tuple[Client, SuiteError | None]]:
    """Do what claimed() does, with a client that is given as well; who only looks is given that alone.

    Raise LockHeld, and Unavailable where there is no client to be had.
    """
    if job.only_looks:
        with job.client() as client:
            yield client, None
    else:
        with _swept(job), job.client() as client:
            yield client, unfinished.settle(job, lambda: nullcontext(client))


@contextmanager
def part_of_archive(job: Job, part: str) -> Iterator[None]:
    """Claim one part of a WAL archive for the length of the block. job: that of archiving.job_of(). Raise LockHeld."""
    with lock.held(job.place, part):
        sweep(job)
        yield


@contextmanager
def _swept(job: Job) -> Iterator[None]:
    with lock.held(job.place, names.stem(job.target.database)):
        found = sweep(job)
        yield
        if found:
            sweep(job)  # once more: Docker may have been about to start a sidecar when its run was killed


def sweep(job: Job) -> bool:
    """Remove the hidden files and sidecars that killed runs of the job's name left behind; its lock is held.

    Return whether there were any.
    """
    files, left = workfiles.sweep(job.place, job.run.owner), []
    for name in files:
        job.warning("sweep.removed", file=name, reason="an earlier run was killed")
    if job.target.client in ("auto", "sidecar"):
        left = sidecar.leftovers(job.run, job.settings.docker)
        sidecar.remove(left, job.settings.docker)
        for container_id in left:
            job.warning("sweep.removed", container=container_id[:12])
    return bool(files or left)
