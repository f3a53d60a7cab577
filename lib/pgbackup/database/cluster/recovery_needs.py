"""What a recovering server has to be given: limits, libraries and directories of its origin. Pure.

What the origin was given after the base backup is in WAL. So what is missing shows as the recovery goes on; it is given
then, and the server is started again, from its last checkpoint on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pgbackup.database.clients import session
from pgbackup.database.clients.sidecar import INSIDE
from pgbackup.database.cluster.libraries import PATH, PRELOADED, preloaded
from pgbackup.database.cluster.throwaway import DISK
from pgbackup.errors import BackupBad

# What the origin has set for all databases, and what changes how values are written, or which library is found.
ORIGINS = (*session.ORIGIN, "array_nulls", "quote_all_identifiers", PRELOADED, PATH)
_CONNECTIONS = 20  # pg_dump has one
_LOCK_BYTES = 400  # of a lock and those who hold it, in shared memory
_NO_DIRECTORY = re.compile(
    r'FATAL: +(?:directory "(?P<absent>[^\0]+?)" does not exist\n.*HINT: +Create this directory'
    r'|could not set permissions on directory "(?P<closed>[^\0]+?)": )'
)
_NO_VALUE = re.compile(r'invalid value for parameter "([^"\n]+)"')
_BEGUN = "redo starts at"
_NO_LIBRARY = re.compile(r'FATAL: +(?:could not access file|could not load library) "([^"\n]+)"')


@dataclass(frozen=True)
class Needs:
    """prepared: max_prepared_transactions. locks: how many objects may be locked at once. libraries: to be preloaded;
    missing: those that are not in the image. directories: of tablespaces made after the base backup; opened: those that
    are there and somebody else's.
    """

    prepared: int
    locks: int
    libraries: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    origin: Mapping[str, str] = field(default_factory=dict)


def known(control: str, origin: Mapping[str, str]) -> Needs:
    """What is known before the recovery. control: what pg_controldata says. origin: its settings, by name."""
    return _as_in(control, Needs(0, 0, libraries=preloaded(origin), origin=origin))


def further(needs: Needs, control: str, said: str) -> Needs:
    """What is known when the server has ended. said: its log. The same as before where that tells nothing new."""
    found = _as_in(control, needs)
    if directory := _NO_DIRECTORY.search(said):
        if (absent := directory["absent"]) and absent not in needs.directories:
            found = replace(found, directories=(*needs.directories, absent))
        if (closed := directory["closed"]) and closed not in needs.opened:
            found = replace(found, opened=(*needs.opened, closed))
    if (library := _NO_LIBRARY.search(said)) and library[1] in needs.libraries:
        kept = tuple(name for name in needs.libraries if name != library[1])
        found = replace(found, libraries=kept, missing=(*needs.missing, library[1]))
    if refused := {name.lower() for name in _NO_VALUE.findall(said)}:  # another image, without the locale
        kept_values = {name: value for name, value in needs.origin.items() if name.lower() not in refused}
        found = replace(found, origin=kept_values)
    if found == needs and _BEGUN not in said:  # a library that cannot be loaded here, for a reason of its own
        found = replace(found, libraries=(), missing=(*needs.missing, *needs.libraries))
    return found


def _as_in(control: str, needs: Needs) -> Needs:
    """With the limits that the origin had when the last record was written that was replayed."""

    def setting(name: str) -> int:
        told = re.search(rf"{name} setting: +(\d+)", control)
        return int(told[1]) if told else 0

    prepared = setting("max_prepared_xacts")
    locks = setting("max_locks_per_xact") * (setting("max_connections") + prepared)
    return replace(needs, prepared=max(needs.prepared, prepared), locks=max(needs.locks, locks))


def configuration(target: Mapping[str, str], needs: Needs, memory_megabytes: int) -> str:
    """Return the text of postgresql.conf. target: recovery_target_time or another one, none for all WAL.

    Without hot standby the server needs none of the origin's limits but that for prepared transactions (manual,
    27.4.3 Administrator's Overview); nothing in it has to survive a crash. pg_dump locks all tables of a database at
    once. No worker: a library's own would go on with its work on the data.
    """
    least, most = (memory_megabytes * (1 << 20) // part // _LOCK_BYTES for part in (16, 4))
    locks = max(least, min(needs.locks, most))
    settings = {
        **{name: value for name, value in needs.origin.items() if value.isprintable()},
        PRELOADED: ", ".join('"' + name.replace('"', '""') + '"' for name in needs.libraries),
        "listen_addresses": "",
        "unix_socket_directories": DISK,
        "hba_file": f"{INSIDE}/pg_hba.conf",
        "ident_file": f"{INSIDE}/pg_ident.conf",
        "hot_standby": "off",
        "max_connections": str(_CONNECTIONS),
        "max_worker_processes": "0",
        "max_prepared_transactions": str(needs.prepared),
        "max_locks_per_transaction": str(max(64, locks // (_CONNECTIONS + needs.prepared))),
        "shared_buffers": f"{max(16, memory_megabytes // 4)}MB",
        "maintenance_work_mem": f"{max(16, memory_megabytes // 8)}MB",
        "huge_pages": "off",
        "autovacuum": "off",
        "fsync": "off",
        "full_page_writes": "off",
        "max_wal_size": "4GB",
        "lc_messages": "C",
        "logging_collector": "off",
        "log_destination": "stderr",
        "restore_command": f'sh {INSIDE}/fetch "%f" "%p"',
        "recovery_target_timeline": "latest",
        "recovery_target_action": "promote",
        **target,
    }
    return "".join(f"{key} = '{_escaped(value)}'\n" for key, value in settings.items())


def _escaped(value: str) -> str:
    """As a quoted value of postgresql.conf (manual, 20.1.2)."""
    if any(not char.isprintable() for char in value):
        raise BackupBad(f"{value!r} is no recovery target")
    return value.replace("\\", "\\\\").replace("'", "''")
