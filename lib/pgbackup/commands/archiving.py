"""What the parts of WAL archiving share: the archive of a database, opened, and a sidecar that may write to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pgbackup.archive import walarchive, workfiles
from pgbackup.archive.folder import Folder
from pgbackup.archive.walarchive import Places, State
from pgbackup.commands.job import Job, identity
from pgbackup.config import Settings, Target
from pgbackup.database import container, sidecar
from pgbackup.database.replication import Server
from pgbackup.database.sidecar import Sidecar
from pgbackup.errors import ConfigurationError

INSIDE = "/archive"


@contextmanager
def opened(settings: Settings, target: Target) -> Iterator[tuple[Places, State] | None]:
    """Give the database's archive where WAL is being received, None where it is not."""
    path = walarchive.path_of(settings.backup_dir, target.directory)
    if not path.is_dir():
        yield None
        return
    with walarchive.opened(settings.backup_dir, target.directory, create=False) as places:
        state = walarchive.read_state(places)
        yield (places, state) if state and state.active else None


def job_of(job: Job, places: Places, part: Folder) -> Job:
    """The same job under a name of its own: what sweeps after backups must not end a receiver, nor the other way."""
    return replace(job, place=places.top, run=identity(job.target, part))


@contextmanager
def beside(job: Job, written: Folder) -> Iterator[Sidecar]:
    """Start a sidecar whose programs may write to that directory, at INSIDE; it is gone when the block is left."""
    found = container.find(job.target, job.settings, job.environment)
    with (
        workfiles.pipes(job.place, job.run.owner, job.run.token) as pipes,
        sidecar.started(
            job.target, job.settings, job.run, found, job.environment, pipes, {written.path: INSIDE}
        ) as client,
    ):
        yield client


def sweep(job: Job) -> None:
    """Remove what a killed run of this part has left; its lock is held."""
    for name in workfiles.sweep(job.place, job.run.owner):
        job.log.warning(job.target.name, "sweep.removed", file=name, reason="an earlier run was killed")
    left = sidecar.leftovers(job.run, job.settings, job.environment)
    sidecar.remove(left, job.settings, job.environment)


def require_same_cluster(job: Job, server: Server, state: State, archived_lsn: int) -> None:
    """Raise ConfigurationError for another cluster than the archive's, or for the same one set back to an older state.

    archived_lsn: how far the archive reaches. What either writes must never be appended.
    """
    again = f"recover what you need from the archive; then begin a new one: setup-wal-archiving.sh {job.target.name}"
    if server.system != state.system:
        raise ConfigurationError(
            f"the cluster in '{job.target.container}' is another one than the archive's"
            f" (system identifier {server.system}, not {state.system})",
            again,
        )
    if server.lsn < archived_lsn:
        raise ConfigurationError(
            f"the cluster in '{job.target.container}' has been set back: it has less WAL than the archive", again
        )
