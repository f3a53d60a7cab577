"""Puts a restored database in the place of the live one, in one transaction: it is wholly old or wholly new.

Renaming locks the database against new sessions (a session that begins takes a lock on its database first, and
looks again at the name when it has it), then waits up to five seconds for the present ones to leave. A second
session ends those meanwhile. So no committed state exists in which the database is closed to connections, and
whatever is killed at whatever moment leaves nothing to reopen.
"""

from __future__ import annotations

import json
import time

from pgbackup import interrupt
from pgbackup.database.clients.client import Client
from pgbackup.database.loading import leaving
from pgbackup.errors import SuiteError, Unavailable
from pgbackup.sql import naming
from pgbackup.sql.naming import BEFORE, identifier, literal

_ATTEMPTS = 5
_ENDING_SECONDS = 10.0


def exists(client: Client, name: str) -> bool:
    """Whether the server has a database of this name."""
    sql = f"SELECT 1 FROM pg_database WHERE datname = {literal(name)}"
    return client.server_query(sql) == "1"


def valid(client: Client, name: str) -> bool:
    """Whether the server has it, and whole: a DROP DATABASE that was killed leaves one that nobody can use."""
    sql = f"SELECT 1 FROM pg_database WHERE datname = {literal(name)} AND datconnlimit <> -2"
    return client.server_query(sql) == "1"


def name_problems(client: Client, name: str) -> list[str]:
    """Why a database of this name cannot be made."""
    problems = []
    if exists(client, name):
        problems.append(f"there is a database '{name}' already")
    if len(name.encode("utf-8", "surrogateescape")) > naming.LONGEST_BYTES:
        problems.append(f"'{name}' is longer than the {naming.LONGEST_BYTES} bytes of a database's name")
    return problems


def end_sessions(client: Client) -> None:
    """End what this run and killed ones of the same owner still do on the server, and see it gone.

    A statement goes on when its client was killed. Raise Unavailable when one does not go.
    """
    sql = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        f" WHERE starts_with(application_name, {literal(client.run.family)}) AND pid <> pg_backend_pid()"
    )
    deadline = time.monotonic() + _ENDING_SECONDS
    while client.server_query(sql) != "0":
        if time.monotonic() > deadline:
            raise Unavailable(f"sessions of an earlier restore of '{client.target.database}' do not end")
        time.sleep(0.05)


def drop(client: Client, name: str) -> None:
    """Drop a database with all that hangs on it, its sessions ended; nothing happens when it is not there."""
    leaving.dropped(client, name)


def kept(client: Client) -> list[str]:
    """The old databases that earlier restores have kept, newest first."""
    names = json.loads(client.server_query("SELECT json_agg(datname) FROM pg_database"))
    return naming.of_kind(names, client.target.database, BEFORE)


def swap_sql(live: str, incoming: str, outgoing: str | None) -> str:
    """Return the transaction. outgoing: the live database's new name, or None where there is no live one."""
    away = [f"ALTER DATABASE {identifier(live)} RENAME TO {identifier(outgoing)}"] if outgoing else []
    close = [f"ALTER DATABASE {identifier(outgoing)} WITH ALLOW_CONNECTIONS false"] if outgoing else []
    return "; ".join(
        [
            "BEGIN",
            "SET LOCAL synchronous_commit = on",  # it says done when it is, and all that was loaded before
            *away,
            f"ALTER DATABASE {identifier(incoming)} WITH ALLOW_CONNECTIONS true",
            f"ALTER DATABASE {identifier(incoming)} RENAME TO {identifier(live)}",
            *close,
            "COMMIT",
        ]
    )


def _ending_sql(names: list[str]) -> str:
    """End the sessions of those databases, again and again, until the last one is renamed, for ten seconds at most.

    Their oids are taken only while all the names are there, so before the swap: afterwards another database may have
    one of them. A session that the role may not end is left to the renaming, which says that it is in the way.
    """
    listed, last = ", ".join(map(literal, names)), literal(names[-1])
    body = (
        "DECLARE ids oid[] := (SELECT array_agg(oid) FROM pg_database"
        f" WHERE datname IN ({listed}) HAVING count(*) = {len(names)}); one int;"
        " BEGIN FOR turn IN 1..500 LOOP"
        f" EXIT WHEN NOT EXISTS (SELECT FROM pg_database WHERE oid = ANY (ids) AND datname = {last});"
        " FOR one IN SELECT pid FROM pg_stat_activity WHERE datid = ANY (ids) AND pid <> pg_backend_pid()"
        " AND backend_type <> 'autovacuum worker'"
        f" AND EXISTS (SELECT FROM pg_database WHERE oid = ANY (ids) AND datname = {last}) LOOP"
        " BEGIN PERFORM pg_terminate_backend(one); EXCEPTION WHEN insufficient_privilege THEN NULL; END;"
        " END LOOP;"
        " PERFORM pg_stat_clear_snapshot(); PERFORM pg_sleep(0.02); END LOOP; END"
    )
    return f"DO {literal(body)}"


def _renamed(client: Client, names: list[str], sql: str) -> None:
    """Run the statements that rename those databases, their sessions ended meanwhile, whoever has them.

    A signal is looked at before, between and after the attempts, not in one: the server would go on without us.
    Raise SuiteError when the sessions do not go, or the answer was lost: then only the server knows whether it has
    happened.
    """
    for attempt in range(_ATTEMPTS):
        interrupt.check()
        with interrupt.shielded(), client.meanwhile(_ending_sql(names), about=names[-1]):
            try:
                client.server_query(sql, about=names[-1])
            except SuiteError as error:
                if error.sqlstate != leaving.IN_USE or attempt == _ATTEMPTS - 1:
                    raise
            else:
                return


def rename(client: Client, name: str, new: str) -> None:
    """Give a database another name; who is connected to it is not any more."""
    _renamed(client, [name], f"ALTER DATABASE {identifier(name)} RENAME TO {identifier(new)}")


def swap(client: Client, incoming: str, outgoing: str | None) -> None:
    """Rename the live database to `outgoing`, closed, and `incoming` to the live name, open, in one transaction.

    Raise SuiteError as _renamed() does.
    """
    live = client.target.database
    _renamed(client, [*([live] if outgoing else []), incoming], swap_sql(live, incoming, outgoing))
