"""The WAL archive's part of verify-backups.sh: base backups, every segment, every record in it, and no gap."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from pgbackup import wal
from pgbackup.commands import archiving, claim
from pgbackup.commands.job import Job
from pgbackup.commands.verify.records import Batch
from pgbackup.database.cluster import throwaway
from pgbackup.errors import (
    BackupBad,
    Interrupted,
    IoFailed,
    LockHeld,
    NoBackup,
    PermissionDenied,
    SuiteError,
    Unavailable,
)
from pgbackup.store import folder, workfiles
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal import base_archives, recoverable
from pgbackup.store.wal import segments as walfile
from pgbackup.store.wal.recoverable import OnThisDisk, counted

_MEMORY_MEGABYTES = 256


@dataclass(frozen=True)
class Found:
    """What was found out about one archive. damage: of files; complaints: what cannot be recovered; unknown: what could
    not be checked. Sentences, all of them.
    """

    name: str
    path: str
    windows: list[str]
    bases: int
    segments: int
    damage: list[str]
    complaints: list[str]
    unknown: list[str]
    denied: bool = False

    @property
    def status(self) -> int:
        if self.damage:
            return BackupBad.status
        if self.complaints:
            return NoBackup.status
        if self.unknown:
            return PermissionDenied.status if self.denied else Unavailable.status
        return 0

    def lines(self) -> list[str]:
        good = "" if not (self.damage or self.complaints or self.unknown) else ", NOT all good"
        what = f"{counted(self.bases, 'base backup')}, {counted(self.segments, 'segment')}"
        head = f"WAL archive '{self.path}': {what}{good}"
        return [head, *self.windows]

    def entry(self) -> dict[str, Any]:
        """As JSON values."""
        told = {"path": self.path, "status": self.status, "bases": self.bases, "segments": self.segments}
        return {**told, "damage": self.damage, "complaints": self.complaints, "unknown": self.unknown}


def check(job: Job, directory: str, now: datetime) -> Found | None:
    """Check the archive of that directory below BACKUP_DIR/pitr; None where there is none. Nothing is raised but
    Interrupted: what cannot be checked is unknown.
    """
    path = walarchive.path_of(job.settings.backup_dir, directory)
    if not os.path.lexists(path):
        return None
    try:
        with walarchive.opened(job.settings.backup_dir, directory, create=False) as places:
            return _checked(job, recoverable.look(places), now)
    except (PermissionDenied, PermissionError) as error:
        return Found(job.target.name, str(path), [], 0, 0, [], [], [str(error)], denied=True)
    except NoBackup as error:  # set up, and nothing more
        return Found(job.target.name, str(path), [], 0, 0, [], [error.message], [])
    except Interrupted:
        raise
    except (SuiteError, OSError) as error:  # one row of the result, and never its end
        return Found(job.target.name, str(path), [], 0, 0, [str(error)], [], [])


def _checked(job: Job, archive: OnThisDisk, now: datetime) -> Found:
    damage = recoverable.unreadable(archive)
    complaints = recoverable.complaints(archive, job.target.base_every_days, now)
    unknown: list[str] = []
    total = _bytes(archive)
    with job.reporter.bar(f"verifying the WAL archive of {job.target.name}", total) as advance:
        damage += _bases(archive, advance)
        with ExitStack() as stack:
            records = _records(job, archive, stack, unknown)
            damage += _segments(archive, records, advance, unknown)
    return Found(
        name=job.target.name,
        path=str(archive.places.top.path),
        windows=recoverable.described(archive.windows),
        bases=len(archive.bases),
        segments=len(archive.segments),
        damage=damage,
        complaints=[one for one in complaints if one not in damage],
        unknown=unknown,
    )


def _bytes(archive: OnThisDisk) -> int:
    found = sum(record.bytes for _, record in archive.bases.values())
    for name in archive.places.wal.list():
        with suppress(FileNotFoundError):
            found += archive.places.wal.status(name).st_size
    return found


def _bases(archive: OnThisDisk, advance: Callable[[int], None]) -> list[str]:
    """What is wrong with base backups, each read to its last byte."""
    damage = []
    for name, (_, record) in archive.bases.items():
        path = archive.places.base.path / name
        try:
            with folder.opened(path, create=False) as place:
                found = base_archives.check(place, record, advance)
            if {record.system, found.system or record.system} != {archive.state.system}:
                damage.append(f"base backup '{path}' is of another cluster (system identifier {record.system})")
        except FileNotFoundError:
            continue  # it has expired in the meantime
        except (SuiteError, OSError) as error:
            if path.exists():
                damage.append(f"base backup '{path}' is bad: {error}")
    return damage


def _records(job: Job, archive: OnThisDisk, stack: ExitStack, unknown: list[str]) -> Batch | None:
    """Start a container with pg_waldump. Where that cannot be, say so in `unknown`."""
    own = archiving.job_of(job, archive.places, archive.places.wal)
    try:
        return stack.enter_context(_started(own, archive))
    except LockHeld:
        unknown.append("the records in WAL were not checked: another verification is checking them now")
    except Interrupted:
        raise
    except (SuiteError, OSError) as error:
        unknown.append(f"the records in WAL were not checked, because that needs Docker: {error}")
    return None


@contextmanager
def _started(own: Job, archive: OnThisDisk) -> Iterator[Batch]:
    with claim.part_of_archive(own, archiving.VERIFICATION):
        image = archiving.image(own, archive.state.image, archive.state.major)
        with (
            workfiles.pipes(own.place, own.run.owner) as pipes,
            throwaway.started(own.target, own.settings, own.run, image, pipes, _MEMORY_MEGABYTES) as container,
            Batch(container, archive.state.segment_bytes) as batch,
        ):
            yield batch


def _segments(
    archive: OnThisDisk, records: Batch | None, advance: Callable[[int], None], unknown: list[str]
) -> list[str]:
    """What is wrong with segments: each read, and its records in batches that overlap by one segment."""
    damage: list[str] = []
    for segment in sorted(archive.segments):
        name = wal.segment_name(segment, archive.state.segment_bytes)
        try:
            content, whole = _read(archive, name)
        except BackupBad as bad:
            damage.append(bad.message)
            content, whole = None, False
        except OSError as error:
            damage.append(f"'{name}' cannot be read: {error.strerror}")
            content, whole = None, False
        if content is None or not whole or records is None:
            damage += _checked_records(records.read, unknown) if records else []
            continue
        advance(len(content) // 4)
        damage += _checked_records(partial(records.add, segment, content), unknown)
    return damage + (_checked_records(records.read, unknown) if records else [])


def _checked_records(check: Callable[[], list[str]], unknown: list[str]) -> list[str]:
    try:
        return check()
    except IoFailed as error:
        unknown.append(error.message)
        return []


def _read(archive: OnThisDisk, name: str) -> tuple[bytes | None, bool]:
    """A segment's content, and whether it is a finished one. Raise BackupBad, naming the file."""
    places = archive.places
    finished = ((places.receiving, name), (places.wal, name + walfile.COMPRESSED))
    # Before it is read, for it may be finished just after that; and in the order in which it moves.
    whole = any(os.path.lexists(place.path / file) for place, file in finished)
    return walarchive.hand_out(places, archive.state, name), whole


def told(found: Found) -> list[str]:
    """The lines for stderr."""
    return [f"{found.name}: WAL archive: {text}" for text in (*found.damage, *found.complaints, *found.unknown)]
