"""The server's side of WAL archiving: what it allows, its slot, and how pg_receivewal and pg_basebackup are called."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime

from pgbackup import proc, wal
from pgbackup.database.clients import failures
from pgbackup.database.clients.client import Client, conninfo
from pgbackup.database.cluster.recovery_needs import ORIGINS
from pgbackup.errors import Unavailable
from pgbackup.sql.naming import literal

_SQL = """
SELECT json_build_object(
  'major', current_setting('server_version_num')::int / 10000,
  'system', (SELECT system_identifier FROM pg_control_system()),
  'segment_bytes', pg_size_bytes(current_setting('wal_segment_size')),
  'wal_level', current_setting('wal_level'),
  'max_wal_senders', current_setting('max_wal_senders')::int,
  'max_replication_slots', current_setting('max_replication_slots')::int,
  'keep', current_setting('max_slot_wal_keep_size'),
  'summarize_wal', coalesce(current_setting('summarize_wal', true), 'off') = 'on',
  'may_replicate', (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user),
  'may_see', pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
  'is_superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  'in_recovery', pg_is_in_recovery(),
  'tablespaces', (SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')),
  'slots', (SELECT count(*) FROM pg_replication_slots),
  'slot', (SELECT coalesce(wal_status, 'lost') FROM pg_replication_slots WHERE slot_name = {slot}),
  'kept_from', (SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = {slot}),
  'slot_in_use', (SELECT coalesce(bool_or(active), false) FROM pg_replication_slots WHERE slot_name = {slot}),
  'lsn', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
  'waited_for', current_setting('synchronous_standby_names') LIKE '%' || {name} || '%',
  'now', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
  -- Those of this session are not the server's.
  'settings', (SELECT coalesce(json_object_agg(name, setting), '{{}}') FROM pg_settings WHERE name IN ({settings})
     AND source NOT IN ('client', 'session', 'database', 'user', 'database user')),
  'written', (SELECT max(write_lsn) FROM pg_stat_replication WHERE application_name = {name}))
"""


@dataclass(frozen=True)
class Server:
    """system: the cluster's identifier. keep: max_slot_wal_keep_size as the server shows it. slots: how many there
    are. slot: the receiver's wal_status, None where there is none; kept_from: the WAL that the server keeps for it.
    may_see: the role may see how far receivers are. waited_for: commits wait for the receiver. lsn: the end of WAL
    at the instant `now`. written: how far the receiver has it, None while there is no receiver. tablespaces:
    further ones. settings: what of recovery_needs.ORIGINS can be seen.
    """

    major: int
    system: int
    segment_bytes: int
    wal_level: str
    max_wal_senders: int
    max_replication_slots: int
    keep: str
    summarize_wal: bool
    may_replicate: bool
    may_see: bool
    is_superuser: bool
    in_recovery: bool
    tablespaces: int
    slots: int
    slot: str | None
    kept_from: int | None
    slot_in_use: bool
    waited_for: bool
    lsn: int
    now: datetime
    written: int | None
    settings: dict[str, str] = field(default_factory=dict)


def receiver_name(owner: str) -> str:
    """What the receiver is called on the server, in pg_stat_replication and for synchronous_standby_names.

    owner: the database, by its name in DATABASES, that archiving was set up for.
    """
    return f"pgbackup_wal_{owner}"


def slot_name(owner: str) -> str:
    """The name of the slot: lower-case letters, digits and _ (manual, 26.2.6 Replication Slots)."""
    return f"pgbackup_{owner}"


def look(client: Client, owner: str) -> Server:
    """Ask the server. Raise what the failure means."""
    settings = ", ".join(map(literal, ORIGINS))
    sql = _SQL.format(slot=literal(slot_name(owner)), name=literal(receiver_name(owner)), settings=settings)
    answer = client.server_query(sql)
    try:
        held = json.loads(answer)
        now = datetime.fromisoformat(held.pop("now"))
        lsn = wal.parse_lsn(held.pop("lsn") or "0/0")
        written, kept_from = [text and wal.parse_lsn(text) for text in (held.pop("written"), held.pop("kept_from"))]
        return Server(lsn=lsn, now=now, written=written, kept_from=kept_from, **held)
    except (ValueError, TypeError, KeyError):
        raise Unavailable(f"the server gave an answer that cannot be understood: {answer[:80]!r}") from None


def has_removed(client: Client, before: Server, segment: wal.Segment, segment_bytes: int) -> bool:
    """Whether the server no longer has a segment, on whatever timeline. Raise what the failure means.

    before: the server as it was when the receiver was started. A role that may not see the server's files is told by
    the slot as it was then: what comes before it, the server need not keep, and a receiver that asks for that in vain
    moves the slot back (PhysicalConfirmReceivedLocation in walsender.c). Ask that after a receiver has failed only.
    """
    end = (segment.number + 1) * segment_bytes
    if client.server_query("SELECT has_function_privilege('pg_ls_waldir()', 'EXECUTE')") == "t":
        name = literal(wal.segment_name(segment, segment_bytes)[8:])
        gone = f"NOT EXISTS (SELECT FROM pg_ls_waldir() WHERE substr(name, 9) = {name})"
    else:
        gone = "true" if before.kept_from is not None and before.kept_from >= end else "false"
    # One that the server still writes to, or will, is not gone.
    return client.server_query(f"SELECT pg_current_wal_lsn() >= {literal(wal.format_lsn(end))} AND {gone}") == "t"


def create_slot(client: Client, owner: str) -> None:
    """Make the slot, with WAL kept from now on. Raise what the failure means."""
    sql = f"SELECT pg_create_physical_replication_slot({literal(slot_name(owner))}, true)"
    client.server_query(sql)


def drop_slot(client: Client, owner: str) -> None:
    """Drop the slot, if there is one, and end its receiver. Raise what the failure means."""
    where = f"slot_name = {literal(slot_name(owner))}"
    ending = f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE {where} AND active"
    dropping = f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE {where}"
    client.server_query(f"{ending}; SELECT pg_sleep(0.2); {dropping}")


def keep_at_most(client: Client, megabytes: int | None) -> None:
    """Set max_slot_wal_keep_size, or for None take our setting of it back. Raise what the failure means."""
    what = "RESET max_slot_wal_keep_size" if megabytes is None else f"SET max_slot_wal_keep_size = '{megabytes}MB'"
    for sql in (f"ALTER SYSTEM {what}", "SELECT pg_reload_conf()"):  # ALTER SYSTEM stands alone
        client.server_query(sql)


def cluster_bytes(client: Client) -> int:
    """How large all databases of the cluster are together. Raise what the failure means."""
    sql = "SELECT coalesce(sum(pg_database_size(oid)), 0) FROM pg_database"
    return int(client.server_query(sql))


def check_allowed(client: Client) -> None:
    """Raise what the failure means unless the role may open a replication connection from where `client` is."""
    # The name by which pg_receivewal and pg_basebackup look for a password, too.
    where = conninfo({**client.connection, "replication": "true"}, "replication", client.run.application_name)
    argv = client.command(["psql", "-X", "-A", "-t", "-w", "-d", where, "-c", "IDENTIFY_SYSTEM"])
    finished = proc.run(argv, seconds=client.settings.command_seconds)
    if finished.status != 0:
        raise failures.explained(finished.stderr, finished.status, "psql", client.target)


def receive(client: Client, owner: str, directory: str, *, synchronous: bool) -> list[str]:
    """Return the argument list of pg_receivewal. Pure.

    --no-loop: a sidecar whose database was restarted is cut off for good, so that its end has to be seen.
    """
    where = conninfo(client.connection, "replication", receiver_name(owner))
    words = ["pg_receivewal", "--no-password", "--no-loop", "--status-interval=1", f"--slot={slot_name(owner)}"]
    return [*words, f"--directory={directory}", f"--dbname={where}", *(["--synchronous"] if synchronous else [])]


def base_backup(client: Client, destination: str, checksums: str, parent_manifest: str = "") -> list[str]:
    """Return the argument list of pg_basebackup. Pure.

    destination: "-" for one tar archive on stdout, or a directory, to which all tablespaces go, compressed. Its WAL is
    in the archive; a fast checkpoint bounds the time. checksums: their kind. parent_manifest: the path of the manifest
    that an incremental one builds upon.
    """
    where = conninfo(client.connection, "replication", client.run.application_name)
    words = ["pg_basebackup", "--no-password", "--format=tar", f"--pgdata={destination}", "--wal-method=none"]
    words += ["--checkpoint=fast", f"--manifest-checksums={checksums}", f"--dbname={where}"]
    words += ["--gzip", "--compress=1"] if destination != "-" else []
    return [*words, *([f"--incremental={parent_manifest}"] if parent_manifest else [])]
