"""A copy elsewhere is fetched, and opened with a key.

The file that was copied is made again in a hidden work file beside the backups, private and for the length of the
work: it is verified whole before anything is stopped or dropped, which a file that is still on its way cannot be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pgbackup.commands.elsewhere.copies import Copies, Copy, chosen, command, listed, see
from pgbackup.commands.job import Job
from pgbackup.commands.loading.record import Record
from pgbackup.descriptor import write_all
from pgbackup.errors import BackupBad, IoFailed, UsageError
from pgbackup.formats import copies, sealed
from pgbackup.remotes.place import Object
from pgbackup.report.result import size
from pgbackup.store import source, workfiles
from pgbackup.store.source import Source


@contextmanager
def from_place(job: Job, there: Copies, typed: str, identities: Sequence[str], record: Record) -> Iterator[Source]:
    """Fetch a copy and give it as a source; the file is gone when the block is left.

    identities: private keys, none for copies that are not encrypted. Raise NoBackup, BackupBad with an older copy as
    the hint, sealed.WrongKey, UsageError where a key is needed, what the place raises.
    """
    if "/" in typed:
        raise UsageError(f"with --from, FILE is a name and not a path: '{typed}'", see(there))
    found = listed(there)
    copy = chosen(there, typed, found)
    with workfiles.partial(job.place, job.run.owner, job.run.token) as (hidden, descriptor):
        record.place = there.called
        called = f"{there.called}:{copy.found.name}"
        try:
            with record.timed("fetch"):
                _fetch(job, there, copy, identities, descriptor)
            opened = source.opened(job.place.path / hidden, job.target.database, called)
            try:
                yield _recognised(job, opened, copy)
            finally:
                os.close(opened.descriptor)
        except BackupBad as bad:
            raise _with_older(bad, there, copy, found) from None


def _recognised(job: Job, opened: Source, copy: Copy) -> Source:
    """The source under its own name. Raise BackupBad where it is another backup than the one it is called."""
    if opened.manifest and (other := copies.exchanged(copy.file, job.target.database, opened.manifest)):
        raise BackupBad(f"'{opened.name}' is not what its name says: {other}")
    return replace(opened, path=Path(copy.file), database=job.target.database)


def _with_older(bad: BackupBad, there: Copies, copy: Copy, found: Sequence[Copy]) -> BackupBad:
    """The same failure, with the next older copy for a hint, unless there is a better one."""
    older = [one for one in found if not one.doubt and one.said.taken < copy.said.taken]
    if bad.hint and "older one" not in bad.hint:
        return bad
    bad.hint = f"an older one: {command(there, older[0])}" if older else f"there is no older one; {see(there)}"
    return bad


def _fetch(job: Job, there: Copies, copy: Copy, identities: Sequence[str], descriptor: int) -> None:
    room = os.fstatvfs(job.place.fd)
    if (free := room.f_bavail * room.f_frsize) < copy.found.bytes:
        raise IoFailed(
            f"too little space in '{job.place.path}' to fetch '{copy.file}': {size(free)} free, it has"
            f" {size(copy.found.bytes)}",
            f"make room or move BACKUP_DIR: df -h '{job.place.path}'",
        )
    with job.reporter.bar(f"{job.target.name}: fetch", copy.found.bytes) as advance:
        for piece in content(there, copy.found, identities, advance):
            write_all(descriptor, piece)
    os.fsync(descriptor)


def content(there: Copies, found: Object, identities: Sequence[str], advance: Callable[[int], None]) -> Iterator[bytes]:
    """What an object holds, decrypted where it is encrypted. Raise BackupBad or WrongKey that name it, UsageError."""
    pieces = _counted(there.place.get(found.name), found, advance)
    if not found.name.endswith(copies.ENCRYPTED):
        yield from pieces
        return
    if not identities:
        raise UsageError(
            f"the copies at '{there.called}' are encrypted: a key is needed", "--key FILE, or --key - to type it"
        )
    called = f"'{there.called}:{found.name}'"
    try:
        yield from sealed.opened(pieces, identities)
    except sealed.WrongKey:
        mine = ", ".join(map(sealed.recipient_of, identities))
        raise sealed.WrongKey(
            f"the key does not open {called}: it was encrypted for others than {mine}, or its header was changed",
            "try the other key, or an older copy; which keys there are stands on their papers",
        ) from None
    except BackupBad as bad:
        raise BackupBad(f"{called} is bad: {bad.message}", bad.hint) from None


def _counted(pieces: Iterable[bytes], found: Object, advance: Callable[[int], None]) -> Iterator[bytes]:
    """The object's bytes, and never more of them than the place has said: the disk is not to be filled by a lie."""
    left = found.bytes
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise BackupBad("the place sends more than it has said")
        advance(len(piece))
        yield piece
