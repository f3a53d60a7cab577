"""restore-postgres.sh --from PLACE: a copy elsewhere is fetched, opened with a key, and verified before it is used.

What lies there is read as if a stranger had written it. The file that was copied is made again in a hidden work file
beside the backups, private and for the length of the restore: it is verified whole before anything is stopped or
dropped, which a file that is still on its way cannot be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from pgbackup.commands import places
from pgbackup.commands.job import Job
from pgbackup.commands.loading.record import Record
from pgbackup.errors import BackupBad, ConfigurationError, IoFailed, NoBackup, UsageError
from pgbackup.formats import copies, names, sealed
from pgbackup.formats.dumpfile import write_all
from pgbackup.remotes.place import Object, Place
from pgbackup.report.result import Result, age, document, instant, size, table
from pgbackup.settings.config import Settings, Target
from pgbackup.sql import cluster
from pgbackup.sql.cluster import Globals
from pgbackup.store import source, workfiles
from pgbackup.store.source import Source

_LARGEST_GLOBALS = 64 << 20
_MOST_SHOWN = 10


@dataclass(frozen=True)
class Copies:
    """The copies of one database at a place. called: the place on the command line; host: whose copies they are."""

    place: Place
    called: str
    host: str
    target: Target


@dataclass(frozen=True)
class Copy:
    """One copy of a backup. file: the backup's name; found: the object; doubt: why it is passed over, or ""."""

    file: str
    said: names.Named
    found: Object
    doubt: str

    @property
    def encrypted(self) -> bool:
        return self.found.name.endswith(copies.ENCRYPTED)


def at(settings: Settings, target: Target, called: str) -> Copies:
    """Given a place's name in OFFSITE, return the copies there. Raise UsageError for a name that is not in it."""
    return Copies(places.connected(settings, settings.place(called)), called, places.host(settings), target)


def listed(there: Copies) -> list[Copy]:
    """The copies of the database's backups, the newest name first. Raise NoBackup where this host has none there."""
    under = copies.dumps(there.host, there.target.directory)
    found = []
    for one in there.place.list(under):
        file = copies.file_in(under, one.name)
        said = names.parse(there.target.database, file) if file else None
        if file and said:
            found.append(Copy(file, said, one, copies.implausible(said, one.modified)))
    if not found:
        _require_host(there)
    return sorted(found, key=lambda copy: (copy.said.taken, copy.file), reverse=True)


def _require_host(there: Copies) -> None:
    """Raise NoBackup where nothing of this host is there: on a new one, which has another name."""
    hosts = sorted({one.name.partition("/")[0] for one in there.place.list("") if "/dumps/" in one.name})
    if there.host not in hosts:
        others = ", ".join(hosts[:_MOST_SHOWN]) or "none"
        raise NoBackup(
            f"there are no copies of a host '{there.host}' at '{there.called}'; of these there are: {others}",
            f"say which host's they are: OFFSITE_HOST={hosts[0] if hosts else 'NAME'} in .env",
        )


def show(settings: Settings, target: Target, called: str) -> Result:
    """Show the copies of one database, newest first, as far as it can be told without reading them."""
    there = at(settings, target, called)
    found, now = listed(there), datetime.now(timezone.utc)
    rows = [
        [copy.file, age((now - copy.said.taken).total_seconds()), size(copy.found.bytes), _state(copy)]
        for copy in found
    ]
    files = [
        {
            "file": copy.file,
            "object": copy.found.name,
            "taken": instant(copy.said.taken),
            "arrived": instant(copy.found.modified),
            "file_bytes": copy.found.bytes,
            "encrypted": copy.encrypted,
            "doubt": copy.doubt,
        }
        for copy in found
    ]
    good = [copy for copy in found if not copy.doubt]
    lines = table(["file", "age", "size", "state"], rows, right=(1, 2))
    lines = lines if found else [f"there is no copy of '{target.database}' of host '{there.host}' at '{called}'"]
    if good:
        lines.append(f"restore the newest: {_command(there, good[0])}")
    status = 0 if good else NoBackup.status
    contents = document(
        "restore --list --from", status, database=target.database, place=called, host=there.host, files=files
    )
    return Result(status, lines, contents)


def _state(copy: Copy) -> str:
    return f"DOUBTFUL: {copy.doubt}" if copy.doubt else "encrypted" if copy.encrypted else "not encrypted"


def _chosen(there: Copies, typed: str, found: Sequence[Copy]) -> Copy:
    """The copy of the file that was typed, or the newest one for `…_LATEST…`. Raise NoBackup, BackupBad. Pure."""
    file = copies.plain(typed)
    if file == names.latest(there.target.database):
        able = [copy for copy in found if not copy.doubt and not copy.said.manual]
        if not able:
            raise NoBackup(f"there is no copy of '{there.target.database}' at '{there.called}'", _see(there))
        return able[0]
    for copy in found:
        if copy.file == file:
            if copy.doubt:
                raise BackupBad(f"'{copy.file}' at '{there.called}' is not to be believed: {copy.doubt}", _see(there))
            return copy
    raise NoBackup(f"there is no copy of a file '{file}' at '{there.called}'", _see(there))


def _see(there: Copies) -> str:
    return f"see what there is: restore-postgres.sh {there.target.name} --from {there.called} --list"


@contextmanager
def from_place(job: Job, there: Copies, typed: str, identities: Sequence[str], record: Record) -> Iterator[Source]:
    """Fetch a copy and give it as a source; the file is gone when the block is left.

    identities: private keys, none for copies that are not encrypted. Raise NoBackup, BackupBad with an older copy as
    the hint, sealed.WrongKey, UsageError where a key is needed, what the place raises.
    """
    if "/" in typed:
        raise UsageError(f"with --from, FILE is a name and not a path: '{typed}'", _see(there))
    found = listed(there)
    copy = _chosen(there, typed, found)
    with workfiles.partial(job.place, job.run.owner, job.run.token) as (hidden, descriptor):
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
    bad.hint = f"an older one: {_command(there, older[0])}" if older else f"there is no older one; {_see(there)}"
    return bad


def _command(there: Copies, copy: Copy) -> str:
    """What restores that copy."""
    key = " --key FILE" if copy.encrypted else ""
    return f"restore-postgres.sh {there.target.name} --from {there.called} {copy.file}{key}"


def _fetch(job: Job, there: Copies, copy: Copy, identities: Sequence[str], descriptor: int) -> None:
    room = os.fstatvfs(job.place.fd)
    if (free := room.f_bavail * room.f_frsize) < copy.found.bytes:
        raise IoFailed(
            f"too little space in '{job.place.path}' to fetch '{copy.file}': {size(free)} free, it has"
            f" {size(copy.found.bytes)}",
            f"make room or move BACKUP_DIR: df -h '{job.place.path}'",
        )
    with job.reporter.bar(f"{job.target.name}: fetch", copy.found.bytes) as advance:
        for piece in _content(there, copy.found, identities, advance):
            write_all(descriptor, piece)
    os.fsync(descriptor)


def _content(
    there: Copies, found: Object, identities: Sequence[str], advance: Callable[[int], None]
) -> Iterator[bytes]:
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


def globals_at(there: Copies, identities: Sequence[str]) -> Globals:
    """The newest globals of the database's cluster. Raise NoBackup, BackupBad, what the place raises.

    They stay in memory: no hash of a password comes to the disk.
    """
    under = copies.globals_of(there.host, there.target.directory)
    now = datetime.now(timezone.utc)
    found = [
        one
        for one in there.place.list(under)
        if copies.file_in(under, one.name) and copies.is_globals(one.name) and one.bytes <= _LARGEST_GLOBALS
    ]
    if not found:
        raise NoBackup(
            f"there are no roles at '{there.called}' for '{there.target.database}'",
            "without --with-roles; --create-roles makes those that the dump needs, without passwords",
        )
    newest = max(found, key=lambda one: (min(one.modified, now), one.name))
    text = b"".join(_content(there, newest, identities, lambda _: None))
    try:
        return cluster.read(text.decode("utf-8", "surrogateescape"))
    except BackupBad as bad:
        raise BackupBad(f"'{there.called}:{newest.name}' is bad: {bad.message}") from None


def require_key(settings: Settings, called: str, file: str | None) -> None:
    """Raise ConfigurationError before anything is asked or fetched, where the place's copies need a key."""
    if settings.place(called).encrypted and not file:
        raise ConfigurationError(
            f"the copies at '{called}' are encrypted: a key is needed", "--key FILE, or --key - to type it"
        )
