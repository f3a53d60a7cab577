"""What a server and the archive of its WAL agree upon: the slot, and how much WAL it may hold back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from pgbackup import interrupt
from pgbackup.commands.job import Job
from pgbackup.database.clients.client import Client
from pgbackup.database.cluster import replication
from pgbackup.database.cluster.replication import Server
from pgbackup.errors import ConfigurationError, PermissionDenied, SuiteError, Unavailable
from pgbackup.settings.config import Settings, Target
from pgbackup.store.state.statefile import Newer, Unreadable
from pgbackup.store.wal import archive, base_backups
from pgbackup.store.wal.archive import Places, State
from pgbackup.store.wal.window import Confirmed


def known(settings: Settings, target: Target) -> tuple[State | None, Confirmed | None]:
    """What an earlier set-up has left, and how far its archive reaches. Raise Newer.

    Where its file is damaged, the archive itself says whose it is; an empty one is nobody's.
    """
    if not archive.path_of(settings.backup_dir, target.directory).is_dir():
        return None, None
    with archive.opened(settings.backup_dir, target.directory, create=True) as places:
        confirmed = archive.read_confirmed(places)
        try:
            return archive.read_state(places), confirmed
        except Newer:
            raise
        except Unreadable:
            return _guessed(places, target.name), confirmed


def _guessed(places: Places, owner: str) -> State | None:
    """What archive.json would say, as far as segments and base backups do; None without a segment. owner: who asks."""
    found = archive.origin(places)
    if found is None:
        return None
    system, segment_bytes = found
    bases, _ = base_backups.listing(places.base, segment_bytes)
    image, major = next(((record.image, record.major) for _, record in reversed(bases.values())), ("", 0))
    return State(owner, system, image, major, segment_bytes, keep_was_set=False, active=True)


def refuse_others(target: Target, state: State | None, server: Server, *, known: bool) -> None:
    """Raise ConfigurationError where another one archives into this directory, or from this slot."""
    if state and state.active and state.owner != target.name:
        raise ConfigurationError(
            f"'{target.directory}' holds the archive of '{state.owner}', which is another cluster",
            f"give each a directory of its own: {target.name.upper()}_DIR",
        )
    if server.slot_in_use and not known:
        raise ConfigurationError(
            f"the slot '{replication.slot_name(target.name)}' is in use: another installation receives this WAL",
            f"see which: docker exec {target.container} psql -c 'TABLE pg_stat_replication'",
        )


def agree(job: Job, ask: Client, server: Server, places: Places, state: State | None) -> list[str]:
    """Make slot and settings on the server what they have to be, written down first; return what to warn of.

    server: what was seen last. state: of the same cluster's archive, None where it is new.
    """
    target = job.target
    ours = state is not None and state.keep_was_set
    sets = server.is_superuser and (ours or server.keep == "-1")
    agreed = State(
        owner=target.name,
        system=server.system,
        image=ask.image_id,
        major=server.major,
        segment_bytes=server.segment_bytes,
        keep_was_set=sets,
        active=True,
    )
    archive.write_state(places, agreed)
    refusal = f"'{target.user}' may not set it"
    if sets:
        try:
            replication.keep_at_most(ask, target.wal_keep_megabytes)
        except (Unavailable, PermissionDenied) as error:  # allow_alter_system = off, a postgresql.auto.conf that stays
            sets, refusal = False, f"it could not be set ({error.message})"
            archive.write_state(places, replace(agreed, keep_was_set=ours))
    if server.slot is not None and not (state and state.active):
        replication.drop_slot(ask, target.name)  # of another archive, and not in use
    if server.slot is None or not (state and state.active):
        replication.create_slot(ask, target.name)
    if sets or server.keep != "-1":
        return []
    return [
        f"{target.name}: max_slot_wal_keep_size is -1, and {refusal}: a receiver that is away for long fills the"
        " database's disk; where the server's settings are made, or as a superuser: ALTER SYSTEM SET"
        f" max_slot_wal_keep_size = '{target.wal_keep_megabytes}MB'; SELECT pg_reload_conf();"
    ]


def refuse_to_stop_commits(job: Job) -> None:
    """Raise ConfigurationError where commits wait for the receiver: without it they would hang.

    A server that cannot be asked has no commits that could.
    """
    try:
        with job.client() as ask:
            server = replication.look(ask, job.target.name)
    except Unavailable:
        return
    if server.waited_for:
        raise ConfigurationError(
            f"commits of '{job.target.container}' wait for this receiver, and would hang without it:"
            f" '{replication.receiver_name(job.target.name)}' is in synchronous_standby_names",
            "first, as a superuser: ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf();",
        )


def give_up(job: Job, places: Places) -> None:
    """Leave nothing on the server of a set-up that nobody will receive for. Where that fails, --uninstall does it."""
    agreed = archive.read_state(places)
    if agreed:
        archive.write_state(places, replace(agreed, active=False))
        with interrupt.shielded(), suppress(SuiteError):
            take_back(job, agreed)


def take_back(job: Job, state: State | None) -> list[str]:
    """Leave nothing on the server: neither the slot nor a setting of ours. Return what to warn of.

    Raise what the failure means, where the slot could not be dropped.
    """
    with job.client() as ask:
        replication.drop_slot(ask, job.target.name)
        if state and state.keep_was_set:
            try:
                replication.keep_at_most(ask, None)
            except (Unavailable, PermissionDenied) as error:
                return [
                    f"{job.target.name}: max_slot_wal_keep_size stays as it was set here ({error.message});"
                    " as a superuser: ALTER SYSTEM RESET max_slot_wal_keep_size; SELECT pg_reload_conf();"
                ]
    return []
