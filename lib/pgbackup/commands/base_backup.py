"""A base backup of one cluster: streamed, compressed, read back, checked by PostgreSQL's own program, published."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone

from pgbackup import interrupt, wal
from pgbackup.commands import archiving, claim
from pgbackup.commands.archiving import INSIDE
from pgbackup.commands.base_proof import Proof
from pgbackup.commands.job import Job
from pgbackup.database.clients import failures
from pgbackup.database.clients.sidecar import INSIDE as PIPES
from pgbackup.database.clients.sidecar import Sidecar
from pgbackup.database.cluster import libraries, replication
from pgbackup.database.cluster.replication import Server
from pgbackup.errors import BackupBad, IoFailed, SuiteError, Unavailable
from pgbackup.formats.cluster.backup_manifest import CHECKSUMS, MAIN
from pgbackup.proc import Program
from pgbackup.report.result import size
from pgbackup.store import folder, workfiles
from pgbackup.store.folder import Folder
from pgbackup.store.wal import base_archives, base_backups, recoverable, segments, window
from pgbackup.store.wal.archive import Places
from pgbackup.store.wal.base_backups import TAR, BaseBackupRecord
from pgbackup.store.wal.recoverable import Archive, OnThisDisk

_SPACE_FACTOR = 1.5
_ENDING_SECONDS = 60.0
_WAL_SECONDS = 20.0
_PARENT = "parent_manifest"
_INCREMENTAL_SINCE = 17


def is_due(archive: Archive, every_days: int | None, now: datetime) -> str:
    """Why a base backup is due, or "": the newest is old enough, or WAL no longer leads from it to now. Pure.

    every_days: None where age is no reason.
    """
    if problem := recoverable.broken_off(archive):
        return problem
    if every_days is None:
        return ""
    newest = recoverable.newest_by(archive, now)
    if newest is None:
        return "the existing ones are dated later than now"
    # A quarter of an hour less: a nightly run begins at the same minute, and not always in the same second.
    if now - newest.ended >= timedelta(days=every_days) - timedelta(minutes=15):
        return f"the newest is from {recoverable.local(newest.ended)}"
    return ""


def back_up(job: Job, places: Places, every_days: int | None) -> str:
    """Make a base backup if one is due, and let old ones expire. Return its name, "" if none was due.

    job: of the database's backups. every_days: as for is_due(). Raise SuiteError or OSError; then nothing of it is
    left, and nothing has expired.
    """
    own = archiving.job_of(job, places, places.base)
    with claim.part_of_archive(own, archiving.BASE):
        base_backups.sweep(places.base)
        archive = recoverable.look(places)
        reason = is_due(archive, every_days, datetime.now(timezone.utc))
        if not reason:
            return ""
        job.tell(f"base backup: {reason}")
        name, record = take(own, archive)
        job.info("base.published", base=name, bytes=record.bytes, parent=record.parent or "none")
        if not record.proven:
            job.warning("base.unproven", f"warning: base backup '{name}': {_NO_ROOM}", base=name, reason=_NO_ROOM)
        if record.missing:
            missing = ", ".join(record.missing)
            job.warning("base.libraries", f"warning: {libraries.told(record.missing)}", base=name, missing=missing)
        _expire(own, _with_its_wal(own, places, name), datetime.now(timezone.utc))
        return name


def _with_its_wal(job: Job, places: Places, name: str) -> OnThisDisk:
    """Wait until the WAL that the new base backup needs is in the archive. Raise Unavailable: it is no use without."""
    deadline = time.monotonic() + max(_WAL_SECONDS, job.settings.wait_seconds)
    while problem := recoverable.broken_off(archive := recoverable.look(places)):
        interrupt.check()
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the base backup '{name}' is there, but the WAL that it needs is not: {problem}",
                f"is WAL being received? restore-postgres.sh {job.target.name} --window",
            )
        time.sleep(0.2)
    return archive


_NO_ROOM = "Docker's disk has no room to unpack it for pg_verifybackup; it was only read and compared with its manifest"


def take(job: Job, archive: OnThisDisk) -> tuple[str, BaseBackupRecord]:
    """Make and prove a base backup; the lock is held. Raise SuiteError or OSError; nothing is left then."""
    started = datetime.now(timezone.utc)
    base, state = archive.places.base, archive.state
    with (
        base_backups.fresh(base, job.run.token) as place,
        Proof(job) as proof,
        archiving.beside(job, place) as client,
    ):
        server = replication.look(client, state.owner)
        archiving.require_same_cluster(job, server, state, archive.confirmed)
        cluster_bytes = replication.cluster_bytes(client)
        proof.begin(client.image_id)
        parent = _parent(job, archive, server, started)
        _check_space(job, archive, cluster_bytes, full=not parent)
        archives = _incremental(job, client, archive, place, parent, server) if parent else {}
        parent = parent if archives else ""
        archives = archives or _received(job, client, place, server, cluster_bytes)
        ended = replication.look(client, state.owner).now
        found, proven = proof.of(place, archives, cluster_bytes)
        record = BaseBackupRecord(
            system=state.system,
            timeline=found.timeline,
            start=found.start,
            stop=found.stop,
            ended=ended.astimezone(timezone.utc),
            parent=parent,
            image=client.image_id,
            major=server.major,
            archives=archives,
            bytes=base_archives.size(place, archives),
            proven=proven,
            settings=server.settings,
            missing=libraries.missing(client, server.settings),
        )
        return base_backups.publish(base, place, record, started), record


def _parent(job: Job, archive: OnThisDisk, server: Server, now: datetime) -> str:
    """The base backup to build an incremental one upon, or "": summaries are needed, and a full one young enough."""
    if server.major < _INCREMENTAL_SINCE or not server.summarize_wal or not archive.windows:
        return ""
    newest = archive.windows[-1].bases[-1]
    chain = window.lineage(newest, archive.names)
    full = archive.names[chain[-1]]
    return newest.name if now - full.ended < timedelta(days=job.target.base_full_every_days) else ""


def _check_space(job: Job, archive: OnThisDisk, cluster_bytes: int, *, full: bool) -> None:
    """Refuse to begin what cannot be finished: a full one will be about as large as the last full one."""
    sizes = [record.bytes for _, record in archive.bases.values() if not record.parent]
    needed = int((sizes[-1] if sizes else cluster_bytes // 3) * _SPACE_FACTOR) if full else 0
    room = os.fstatvfs(job.place.fd)
    free = room.f_bavail * room.f_frsize
    if free < needed:
        raise IoFailed(
            f"too little space in '{job.place.path}' for a base backup: {size(free)} free, {size(needed)} wanted",
            f"make room or move BACKUP_DIR: df -h '{job.place.path}'",
        )


def _incremental(
    job: Job, client: Sidecar, archive: OnThisDisk, place: Folder, parent: str, server: Server
) -> dict[str, str]:
    """Receive an incremental one and return its archives; none where the server cannot make it."""
    try:
        with folder.opened(archive.places.base.path / parent, create=False) as older:
            client.place(_PARENT, base_archives.manifest_text(older))
        return _received(job, client, place, server, None, f"{PIPES}/{_PARENT}")
    except (BackupBad, Unavailable) as error:
        said = f"no incremental base backup, so a full one: {error.message}"
        job.warning("base.full", said, reason=error.message)
        for name in place.list():
            place.remove(name)
        return {}


def _received(
    job: Job, client: Sidecar, place: Folder, server: Server, estimate: int | None, parent_manifest: str = ""
) -> dict[str, str]:
    """Receive one and return its archives: with tablespaces several, written by pg_basebackup itself.

    estimate: how large it will be. parent_manifest: see replication.base_backup().
    """
    if not server.tablespaces:
        return _stream(job, client, place, parent_manifest, estimate)
    with client.reading(replication.base_backup(client, INSIDE, CHECKSUMS, parent_manifest)) as stream:
        _await_growing(job, place, stream.program)
        _end(job, stream.program)
    names = [name.removesuffix(TAR) for name in place.list() if name.endswith(TAR)]
    return {name: base_archives.digest_of(place, name) for name in sorted(names, key=lambda name: (name != MAIN, name))}


def _await_growing(job: Job, place: Folder, program: Program) -> None:
    """Wait for its end. Raise Unavailable when its files do not grow for STALL_SECONDS."""
    seen, limit = -1, job.settings.stall_seconds
    deadline = time.monotonic() + limit
    while program.status is None:
        interrupt.check()
        program.pause(0.5)
        there = sum(place.status(name).st_size for name in place.list())
        if there != seen:
            seen, deadline = there, time.monotonic() + limit
        elif time.monotonic() > deadline:
            raise Unavailable(
                f"the base backup of '{job.target.container}' did not grow for {limit} s",
                "is the server or Docker hanging? STALL_SECONDS sets the limit",
            )


def _stream(job: Job, client: Sidecar, place: Folder, parent_manifest: str, estimate: int | None) -> dict[str, str]:
    program = replication.base_backup(client, "-", CHECKSUMS, parent_manifest)
    with (
        workfiles.made(place, MAIN + TAR) as descriptor,
        job.reporter.bar(f"{job.target.name}: base backup", estimate) as advance,
        client.reading(program) as stream,
    ):

        def counted() -> Iterator[bytes]:
            for piece in stream.chunks(job.settings.stall_seconds):
                advance(len(piece))
                yield piece

        sha256 = base_archives.write(descriptor, counted())
        _end(job, stream.program)
        return {MAIN: sha256}


def _end(job: Job, program: Program) -> None:
    status = program.wait(_ENDING_SECONDS)
    if status != 0:
        raise failures.explained(program.stderr, status, "pg_basebackup", job.target)


def _expire(job: Job, archive: OnThisDisk, now: datetime) -> None:
    """Remove base backups and segments that no moment of the last RETENTION_DAYS needs; after a success only."""
    places, size_of = archive.places, archive.state.segment_bytes
    if archive.wrong:
        # What cannot be read may be what the oldest WAL is needed for.
        reason = "; ".join(f"'{name}': {why}" for name, why in archive.wrong.items())
        remedy = f"repair it, or move it out of '{places.base.path}'"
        said = f"warning: no WAL and no base backup expires: {reason}; {remedy}"
        job.warning("wal.kept", said, reason=f"nothing expires: {reason}")
        return
    bases = list(archive.names.values())
    gone = window.expired(bases, job.settings.retention_days, now)
    for base in gone:
        base_backups.remove(places.base, base.name)
        job.info("base.expired", base=base.name, bytes=archive.bases[base.name][1].bytes)
    kept = [base for base in bases if base not in gone]
    removed = 0
    for segment in window.unneeded(list(archive.segments), kept):
        for ending in (segments.COMPRESSED, wal.PARTIAL + segments.COMPRESSED):
            with suppress(FileNotFoundError):  # it is still with the receiver
                places.wal.remove(wal.segment_name(segment, size_of) + ending)
                removed += 1
    if removed:
        job.info("wal.expired", segments=removed)


def tell_failure(job: Job, error: Exception) -> None:
    """Log that a base backup has failed, and say it."""
    status = error.status if isinstance(error, SuiteError) else IoFailed.status
    job.error("base.failed", f"no base backup: {error}", status=status, reason=str(error))
