"""What the parts of WAL archiving share: the archive of a database, opened, and a sidecar that may write to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pgbackup.commands.job import Job, identity
from pgbackup.database.clients import container, sidecar
from pgbackup.database.clients.sidecar import Sidecar
from pgbackup.database.cluster.replication import Server
from pgbackup.errors import ConfigurationError, SuiteError, Unavailable
from pgbackup.report.events import Events
from pgbackup.report.log import EventLog
from pgbackup.report.progress import Reporter
from pgbackup.settings.config import Settings, Target
from pgbackup.store import workfiles
from pgbackup.store.folder import Folder
from pgbackup.store.wal import archive
from pgbackup.store.wal.archive import Places, State
from pgbackup.store.wal.window import Confirmed

INSIDE = "/archive"
# What else can be claimed of an archive than to receive its WAL, each by one run at a time.
BASE, VERIFICATION = "base", "verify"


@contextmanager
def opened(settings: Settings, target: Target) -> Iterator[tuple[Places, State] | None]:
    """Give the database's archive where WAL is being received, None where it is not."""
    path = archive.path_of(settings.backup_dir, target.directory)
    if not path.is_dir():
        yield None
        return
    with archive.opened(settings.backup_dir, target.directory, create=False) as places:
        state = archive.read_state(places)
        yield (places, state) if state and state.active else None


def job_at(settings: Settings, target: Target, top: Folder, reporter: Reporter) -> Job:
    """What a command does about a database's archive, as a job in BACKUP_DIR."""
    return Job(target, settings, top, identity(target, top), Events((EventLog(top).write, reporter.show)), reporter)


def job_of(job: Job, places: Places, part: Folder) -> Job:
    """The same job under a name of its own: what sweeps after backups must not end a receiver, nor the other way.

    Its programs run in sidecars, however the database is dumped.
    """
    target = replace(job.target, client="sidecar")
    return replace(job, target=target, place=places.top, run=identity(target, part))


@contextmanager
def beside(job: Job, written: Folder) -> Iterator[Sidecar]:
    """Start a sidecar whose programs may write to that directory, at INSIDE; it is gone when the block is left."""
    found = container.find(job.target, job.settings)
    with (
        workfiles.pipes(job.place, job.run.owner) as pipes,
        sidecar.started(job.target, job.settings, job.run, found, pipes, {written.path: INSIDE}) as client,
    ):
        yield client


def image(job: Job, told: str, major: int) -> str:
    """The image with the programs for an archive: the one that it was made with, else the container's if it is as new.

    told: its full id. Raise Unavailable where neither is here.
    """
    if container.has_image(told, job.settings.docker):
        return told
    try:
        found = container.inspect(job.target, job.settings.docker).image
        present = container.image_major(found, job.settings.docker)
    except SuiteError:
        found, present = "", None
    if present != major:
        raise Unavailable(
            f"the image of PostgreSQL {major} that the archive was made with is no longer on this host ({told})",
            f"docker pull postgres:{major}, and start '{job.target.container}' with it",
        )
    return found


def another_cluster(server: Server, state: State, confirmed: Confirmed | None) -> str:
    """Why what the server writes must never be appended to an archive, or "". Pure.

    It is another cluster than the archive's, or the same one set back to an older state.
    """
    if server.system != state.system:
        return f"is not the archive's (system identifier {server.system}, not {state.system})"
    if confirmed and server.lsn < confirmed.lsn:
        return "has been set back: it has less WAL than the archive"
    return ""


def require_same_cluster(job: Job, server: Server, state: State, confirmed: Confirmed | None) -> None:
    """Raise ConfigurationError for another_cluster()."""
    if problem := another_cluster(server, state, confirmed):
        raise ConfigurationError(
            f"the cluster in '{job.target.container}' {problem}",
            f"recover what you need from the archive; then begin a new one: setup-wal-archiving.sh {job.target.name}",
        )
