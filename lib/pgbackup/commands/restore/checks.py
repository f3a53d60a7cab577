"""What has to be known and right before a restore touches anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from pgbackup.commands.job import Job
from pgbackup.commands.restore import loss
from pgbackup.commands.restore.loss import Compared
from pgbackup.database.clients.client import Client
from pgbackup.database.loading import swap
from pgbackup.database.questions import live_tables, needs, preflight, refused, roles
from pgbackup.database.questions.facts import gather
from pgbackup.database.questions.live_tables import Rows
from pgbackup.database.questions.roles import Lacking
from pgbackup.errors import BackupBad, ConfigurationError, IoFailed, SuiteError
from pgbackup.formats.dumpfile import Contents
from pgbackup.host import services
from pgbackup.report.result import age, size
from pgbackup.store.source import Source
from pgbackup.store.wal.recoverable import counted

_SPACE_FACTOR = 1.2


@dataclass(frozen=True)
class Situation:
    """exists: the live database is there. valid: no DROP of it was interrupted. server: the properties that the
    restored one gets. major: the server's.

    databases, present: the names of all databases and roles that the server has. up: services that run, in stopping
    order; absent: configured ones that do not exist. tables: the backup's and the live ones side by side, None where
    the live ones are not known or do not matter. warnings: what may go otherwise than it was, and stops nothing. fits:
    there is surely room for a second copy.
    """

    exists: bool
    valid: bool
    size_bytes: int
    tables: list[Compared] | None
    server: dict[str, Any]
    major: int
    restricts: bool
    fits: bool
    roles: Lacking
    present: list[str]
    databases: list[str]
    warnings: list[str] = field(default_factory=list)
    up: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def examine(
    job: Job,
    client: Client,
    source: Source,
    read: Callable[[], Contents],
    *,
    into: str,
    create_roles: bool,
    in_place: bool,
) -> Situation:
    """Ask server and Docker all that matters. Raise, naming everything that stands in the way.

    read: gives the contents of the file, which is read meanwhile; called when nothing is left to ask that does not
    depend on them.
    """
    held = source.manifest
    server: dict[str, Any] = held.raw["server"] if held else {}
    found = preflight.look(client, server.get("owners") or [])
    of_roles = roles.lacking(server, found["roles"], found["memberships"])
    up, absent = ([], []) if into else services.running(job.target.services, job.settings.docker)
    _require_restorable(job, client, source, found, of_roles, into=into, create_roles=create_roles)
    free = _free_bytes(job, client, _directory(found, server))
    exists = bool(found["exists"])
    live = exists and not found["closed"]
    now = _live(job, client, set(held.rows if held else read().rows)) if live and not into else None
    if not server and live:
        server = gather(client).details
    contents = read()
    wanted = int((server.get("size_bytes") or contents.sql_bytes) * _SPACE_FACTOR)
    if not in_place:
        _require_space(job, free, wanted)
    return Situation(
        exists=exists,
        valid=exists and not found["invalid"],
        size_bytes=found["size_bytes"] or 0,
        tables=loss.compared(contents.rows, now) if now is not None else None,
        server=server,
        major=found["major"],
        restricts=found["restricts"],
        fits=free is not None and free >= wanted,
        roles=of_roles,
        present=found["roles"],
        databases=found["databases"],
        warnings=[*needs.other_versions(found, server), *([] if create_roles else of_roles.still_to_do())],
        up=up,
        absent=absent,
    )


def lacking_roles(client: Client, source: Source) -> Lacking:
    """What of the roles that a backup needs is not on the server now."""
    server: dict[str, Any] = source.manifest.raw["server"] if source.manifest else {}
    found = preflight.look(client, [])
    return roles.lacking(server, found["roles"], found["memberships"])


def _require_restorable(
    job: Job, client: Client, source: Source, found: dict[str, Any], of_roles: Lacking, *, into: str, create_roles: bool
) -> None:
    """Raise, naming everything that stands in the way, BackupBad where the backup is of another database."""
    held = source.manifest
    server: dict[str, Any] = held.raw["server"] if held else {}
    foreign = _foreign(job, source, into)
    problems = [
        *foreign,
        *needs.lasting(found, server),
        *needs.of_this_backup(found, server, needs.major(held.raw["server_version"]) if held else 0),
        *refused.look(client, server, found["roles"]),
    ]
    if of_roles.needed and not create_roles:
        names = ", ".join(of_roles.needed)
        problems.append(f"roles that the dump needs are missing: {names} (--create-roles makes them)")
    problems += swap.name_problems(client, into) if into else needs.of_a_swap(found)
    if problems:
        kind = BackupBad if foreign else ConfigurationError
        raise kind("; ".join(problems), "nothing was touched; docs/restore.md says what to do about each")


def _foreign(job: Job, source: Source, into: str) -> list[str]:
    if into or source.database == job.target.database:
        return []
    whose = f"of '{source.database}'" if source.database else "of an unknown database (no manifest, unclear name)"
    return [f"'{source.path.name}' is a backup {whose}, not of '{job.target.database}' (--into NAME allows it)"]


def _directory(found: dict[str, Any], server: dict[str, Any]) -> str | None:
    """Where on the server the database's own tablespace lies; None where that is not told."""
    location = found["locations"].get(server.get("tablespace")) or found["data_directory"]
    if location and not location.startswith("/"):  # made in place, below the data directory
        return f"{found['data_directory']}/{location}" if found["data_directory"] else None
    return str(location) if location else None


def _free_bytes(job: Job, client: Client, data_directory: str | None) -> int | None:
    """The room on the server's disk, None where that cannot be seen."""
    if client.kind == "direct" or not data_directory:
        return None
    finished = client.completed(["df", "-Pk", data_directory], job.settings.command_seconds)
    fields = finished.stdout.decode("utf-8", "replace").splitlines()[-1:]
    if finished.status != 0 or not fields or len(fields[0].split()) < 4 or not fields[0].split()[3].isdigit():
        return None
    return int(fields[0].split()[3]) * 1024


def _require_space(job: Job, free: int | None, wanted: int) -> None:
    """Refuse when a second copy does not fit beside the live one, as far as that can be seen."""
    if free is not None and free < wanted:
        raise IoFailed(
            f"too little space for a second copy of '{job.target.database}' on the server: {size(free)} free,"
            f" and {size(wanted)} are wanted",
            "make room, drop the old copy (--drop-old), or use --in-place",
        )


def _live(job: Job, client: Client, names: set[str]) -> dict[str, Rows] | None:
    """What is in the live database's tables now; None where that cannot be asked."""
    try:
        return live_tables.look(client, float(job.settings.command_seconds), names)
    except SuiteError:
        return None


def lines(job: Job, source: Source, contents: Contents, situation: Situation, *, into: str, when: str) -> list[str]:
    """What will happen, for the eyes of whoever has to say yes. Pure but for the clock."""
    taken = (
        source.manifest.started
        if source.manifest
        else datetime.fromtimestamp(os.fstat(source.descriptor).st_mtime, timezone.utc)
    )
    old = age((datetime.now(timezone.utc) - taken).total_seconds())
    proof = "every byte as its manifest says" if source.manifest else "no manifest: only its own completeness"
    told = [
        f"restore '{into or job.target.database}' from '{source.name}'",
        f"  backup    {old} old, {size(contents.sql_bytes)} of SQL, {counted(len(contents.rows), 'table')},"
        f" {sum(contents.rows.values()):,} rows; checked: {proof}",
    ]
    if into:
        return [*told, f"  result    a new database '{into}'; '{job.target.database}' is not touched"]
    if situation.exists:
        told.append(f"  now       {size(situation.size_bytes)}: what came in the last {old} WILL BE LOST")
        if situation.tables is None:
            told.append("            its tables could not be counted: look at what is in it before you say yes")
        elif situation.tables:
            told += loss.lines(situation.tables)
    else:
        told.append(f"  now       there is no database '{job.target.database}'")
    told.append(f"  services  {', '.join(situation.up) + ': stopped ' + when if situation.up else 'none is running'}")
    return told
