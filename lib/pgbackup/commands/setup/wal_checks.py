"""What has to be right on a server before its WAL can be archived, and what to change where it is not."""

from __future__ import annotations

from contextlib import ExitStack

from pgbackup.commands.job import Job
from pgbackup.database.clients import container, sidecar
from pgbackup.database.cluster import replication
from pgbackup.database.cluster.replication import Server
from pgbackup.errors import ConfigurationError, SuiteError, Unavailable
from pgbackup.settings.config import Target
from pgbackup.store import workfiles

_OLDEST_MAJOR = 13  # the first with backup manifests and a limit for slots
_SENDERS = 2  # one for the receiver, one for a base backup


def check_target(target: Target) -> None:
    """Raise ConfigurationError for a database that no sidecar can stand beside."""
    if target.client in ("direct", "exec"):
        key = f"{target.name.upper()}_CLIENT"
        raise ConfigurationError(
            f"WAL is received by a container beside the database's, and {key}={target.client} rules that out",
            f"set {key}=auto",
        )


def hindrances(server: Server, target: Target) -> list[tuple[str, str]]:
    """What stands in the way on the server, each with what to do about it. Pure."""
    found = []
    restart = f"and restart: docker restart {target.container}"
    if server.major < _OLDEST_MAJOR:
        found.append((f"it is PostgreSQL {server.major}", f"WAL archiving needs {_OLDEST_MAJOR} or later"))
    if server.in_recovery:
        found.append(("it is a standby", "set archiving up for its primary"))
    if server.wal_level not in ("replica", "logical"):
        found.append((f"wal_level is {server.wal_level}", f"ALTER SYSTEM SET wal_level = 'replica'; {restart}"))
    if server.max_wal_senders < _SENDERS:
        senders = f"ALTER SYSTEM SET max_wal_senders = 10; {restart}"
        found.append((f"max_wal_senders is {server.max_wal_senders}, and {_SENDERS} are needed", senders))
    if server.slot is None and server.slots >= server.max_replication_slots:
        slots = f"ALTER SYSTEM SET max_replication_slots = {server.max_replication_slots + 5}; {restart}"
        found.append((f"all {server.max_replication_slots} of max_replication_slots are taken", slots))
    if not server.may_replicate:
        found.append((f"the role '{target.user}' may not replicate", f'ALTER ROLE "{target.user}" REPLICATION'))
    if not server.may_see:
        grant = f'GRANT pg_read_all_stats TO "{target.user}"'
        found.append((f"the role '{target.user}' may not see how far the receiver is", grant))
    return found


def check_server(job: Job, server: Server) -> None:
    """Raise ConfigurationError, naming everything on the server that has to be changed first."""
    found = hindrances(server, job.target)
    if not found and (refusal := _refusal(job)):
        rule = f"host replication {job.target.user} 127.0.0.1/32 trust"
        found = [(refusal, f"add to its pg_hba.conf: {rule}; then: SELECT pg_reload_conf()")]
    if found:
        raise ConfigurationError(
            f"the server of '{job.target.name}' cannot be archived: {'; '.join(problem for problem, _ in found)}",
            "; ".join(remedy for _, remedy in found),
        )


def _refusal(job: Job) -> str:
    """Why no replication connection can be opened from beside the database, or "".

    Raise Unavailable where no container can be beside it, for only such a one receives WAL.
    """
    target, settings = job.target, job.settings
    found = container.find(target, settings)
    with ExitStack() as stack:
        pipes = stack.enter_context(workfiles.pipes(job.place, job.run.owner))
        try:
            client = stack.enter_context(sidecar.started(target, settings, job.run, found, pipes))
        except Unavailable as error:
            raise Unavailable(
                f"WAL is received by a container beside '{target.container}', and none can be there: {error.message}",
                "it has to write here as the backup account, and cannot with a Docker that is rootless or remaps users"
                " (userns-remap), or runs on another machine",
            ) from None
        try:
            replication.check_allowed(client)
        except SuiteError as error:
            return f"it refuses a replication connection of '{target.user}' from 127.0.0.1 ({error.message})"
    return ""
