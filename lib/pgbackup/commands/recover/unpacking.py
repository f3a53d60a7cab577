"""A base backup with all that it builds upon, unpacked and checked in the throwaway container."""

from __future__ import annotations

from collections.abc import Sequence

from pgbackup.commands.job import Job
from pgbackup.database.cluster.recovery_needs import ORIGINS
from pgbackup.database.cluster.throwaway import Throwaway
from pgbackup.errors import BackupBad, IoFailed
from pgbackup.formats.cluster import backup_manifest
from pgbackup.report.result import size
from pgbackup.store.wal import window
from pgbackup.store.wal.recoverable import Archive
from pgbackup.store.wal.window import BaseBackup


class BaseBad(BackupBad):
    """A base backup is damaged; an older one may do."""


def unpack(job: Job, archive: Archive, base: BaseBackup, container: Throwaway) -> dict[str, str]:
    """Unpack it and let it be checked; return what its server had set, of recovery_needs.ORIGINS.

    Raise BaseBad; IoFailed where Docker's disk has no room for it, before the first byte is written if that can be
    foreseen.
    """
    chain = window.lineage(base, archive.names)[::-1]
    _require_room(container, [_bytes(archive, name) for name in chain])
    total = sum(archive.bases[name][1].bytes for name in chain)
    with job.reporter.bar(f"{job.target.name}: base backup", total) as advance:
        for name in chain:
            part = name if len(chain) > 1 else ""
            try:
                for held, sha256 in archive.bases[name][1].archives.items():
                    container.unpack(held, archive.files.tar(name, held, sha256, advance), part)
                container.put_manifest(archive.files.manifest_text(name), part)
                if part:
                    container.verify(part, _sizes(archive, name))
            except BackupBad as bad:
                raise _bad(archive, name, bad) from None
    try:
        if len(chain) > 1:
            container.combine(chain, archive.bases[base.name][1].archives)
        container.verify(sizes=_sizes(archive, base.name) if len(chain) == 1 else {})
    except BackupBad as bad:
        raise _bad(archive, base.name, bad) from None
    # What the server had on its command line or outside of its directory, only base.json has.
    settings = archive.bases[base.name][1].settings or container.configured(ORIGINS)
    container.ready()
    return settings


def _bad(archive: Archive, name: str, why: BackupBad) -> BaseBad:
    return BaseBad(f"base backup '{archive.files.called(name)}' is bad: {why.message}", archive.files.verify)


def _bytes(archive: Archive, name: str) -> int:
    """How large its files are when they are unpacked, by PostgreSQL's manifest."""
    try:
        return sum(_sizes(archive, name).values())
    except BackupBad as bad:
        raise _bad(archive, name, bad) from None


def _sizes(archive: Archive, name: str) -> dict[str, int]:
    return backup_manifest.parse(archive.files.manifest_text(name)).sizes


def _require_room(container: Throwaway, parts: Sequence[int]) -> None:
    """Raise IoFailed where that many bytes cannot be unpacked, and put together where there is more than one part."""
    needed, free = sum(parts) + (max(parts) if len(parts) > 1 else 0), container.free_bytes()
    if free < needed:
        raise IoFailed(
            f"too little space on Docker's disk to recover: {size(free)} can be used, about {size(needed)} wanted",
            "make room where Docker keeps its volumes: docker system df",
        )
