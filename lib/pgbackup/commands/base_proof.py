"""The proof of a base backup: read back from the disk, unpacked in a container of its own, seen by pg_verifybackup."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from pgbackup.commands.job import Job
from pgbackup.database.clients.client import Run
from pgbackup.database.cluster import throwaway
from pgbackup.database.cluster.throwaway import Throwaway
from pgbackup.descriptor import write_all
from pgbackup.formats.cluster.backup_manifest import BaseManifest, Contents
from pgbackup.store import workfiles
from pgbackup.store.folder import Folder
from pgbackup.store.wal import base_archives, base_backups

_MEMORY_MEGABYTES = 256


class Proof:
    """begin(), then of(). Use as a context manager: with the end of the block the container is gone.

    The container starts while the base backup is streamed, and ends while it is published: Docker takes its time.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._aside, self._stack = ThreadPoolExecutor(1, "proof"), ExitStack()
        self._coming: Future[tuple[Throwaway, int]] | None = None

    def __enter__(self) -> Proof:
        return self

    def __exit__(self, *_: object) -> None:
        self._aside.submit(self._stack.close)
        self._aside.shutdown(wait=True)

    def begin(self, image: str) -> None:
        """Let the container start. image: its full id."""
        self._coming = self._aside.submit(self._start, image)

    def _start(self, image: str) -> tuple[Throwaway, int]:
        job = self._job
        apart = Run(job.run.owner, secrets.token_hex(8))  # a container beside the one that streams
        pipes = self._stack.enter_context(workfiles.pipes(job.place, apart.owner))
        starting = throwaway.started(job.target, job.settings, apart, image, pipes, _MEMORY_MEGABYTES)
        container = self._stack.enter_context(starting)
        return container, container.free_bytes()

    def of(self, place: Folder, archives: Mapping[str, str], cluster_bytes: int) -> tuple[BaseManifest, bool]:
        """Read it back from the disk, compare it with PostgreSQL's manifest, and let pg_verifybackup do it, too.

        place: its directory; the manifest is put there where an archive has it. archives: with the SHA-256 of each.
        Return the manifest, and whether pg_verifybackup had the room. Raise BackupBad; what kept the container from
        starting.
        """
        assert self._coming is not None  # noqa: S101  begin() was called
        container, room = self._coming.result()
        roomy = room > cluster_bytes
        # What pg_verifybackup hashes need not be hashed here.
        contents = Contents(measures=not roomy)
        with self._job.reporter.bar(
            f"{self._job.target.name}: reading back", base_archives.size(place, archives)
        ) as advance:
            for name, sha256 in archives.items():
                pieces = base_archives.pieces(place, name, sha256, advance)
                contents.add(name, container.unpacking(name, pieces) if roomy else pieces)
        is_unpacked = bool(contents.manifest_text)
        if is_unpacked:
            with workfiles.made(place, base_backups.MANIFEST) as descriptor:
                write_all(descriptor, contents.manifest_text)
        contents.manifest_text = base_archives.manifest_text(place)
        found = contents.compare()
        if roomy:
            if not is_unpacked:  # with tablespaces it is in no archive
                container.put_manifest(contents.manifest_text)
            container.verify(sizes=found.sizes)
        self._aside.submit(self._stack.close)
        return found, roomy
