"""restore-postgres.sh --from PLACE: what there is at a place elsewhere, and the roles that lie beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from pgbackup.commands.elsewhere.copies import Copies, Copy, at, command, listed
from pgbackup.commands.elsewhere.fetching import content
from pgbackup.errors import BackupBad, NoBackup
from pgbackup.formats import copies
from pgbackup.report.result import Result, age, document, instant, size, table
from pgbackup.settings.config import Settings, Target
from pgbackup.sql import cluster
from pgbackup.sql.cluster import Globals

_LARGEST_GLOBALS = 64 << 20


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
        lines.append(f"restore the newest: {command(there, good[0])}")
    status = 0 if good else NoBackup.status
    contents = document(
        "restore --list --from", status, database=target.database, place=called, host=there.host, files=files
    )
    return Result(status, lines, contents)


def _state(copy: Copy) -> str:
    return f"DOUBTFUL: {copy.doubt}" if copy.doubt else "encrypted" if copy.encrypted else "not encrypted"


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
    text = b"".join(content(there, newest, identities, lambda _: None))
    try:
        return cluster.read(text.decode("utf-8", "surrogateescape"))
    except BackupBad as bad:
        raise BackupBad(f"'{there.called}:{newest.name}' is bad: {bad.message}") from None
