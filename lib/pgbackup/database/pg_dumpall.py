"""The roles of a cluster with passwords, memberships and settings, which no dump of a database has: out and back."""

from __future__ import annotations

from pgbackup import proc
from pgbackup.database.clients import failures, session
from pgbackup.database.clients.client import Client, conninfo
from pgbackup.database.questions import preflight
from pgbackup.errors import BackupBad, PermissionDenied, SuiteError
from pgbackup.sql import cluster
from pgbackup.sql.cluster import Globals, Grant

_DENIED = "42501"  # insufficient_privilege


def arguments(client: Client, *, passwords: bool) -> list[str]:
    """Return the argument list of the dump of globals. Pure."""
    begin = {"client_encoding": "UTF8"}
    begin |= {} if client.pooled else {"options": session.options(session.DUMPING, client.further)}
    where = conninfo({**client.connection, **begin}, client.target.database, client.run.application_name)
    without = [] if passwords else ["--no-role-passwords"]
    return ["pg_dumpall", "--globals-only", "--no-password", *without, f"--dbname={where}"]


def dumped(client: Client) -> tuple[bytes, list[str]]:
    """Return the globals of the client's cluster as SQL, and what is missing in them. Raise SuiteError.

    They hold the hashes of all passwords, so they belong into encrypted objects only, and never on the disk in the
    clear. A role that may not read the hashes gets all the rest.
    """
    readable = client.server_query("SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')") == "t"
    argv = client.command([*arguments(client, passwords=readable), f"--database={client.maintenance()}"])
    finished = proc.run(argv, seconds=client.settings.command_seconds)
    if finished.status != 0:
        raise failures.explained(finished.stderr, finished.status, "pg_dumpall", client.target)
    if cluster.COMPLETE.encode() not in finished.stdout[-4096:]:
        raise BackupBad("pg_dumpall ended with status 0, but its output is incomplete", "run it again")
    missing = f"the role '{client.target.user}' may not read passwords, so the globals have none"
    return finished.stdout, [] if readable else [missing]


def missing(found: Globals, present: list[str]) -> list[str]:
    """The roles of the globals that a server lacks. Pure."""
    return [name for name in found.roles if name not in present]


def told(found: Globals, new: list[str]) -> list[str]:
    """What bringing back will do, for people who say yes. Pure."""
    lines = []
    for name in new:
        role = found.roles[name]
        powers = [word for word in cluster.POWERS if word in role.attributes]
        secret = "with its password" if role.password is not None else "without a password"
        lines.append(f"  role      '{name}' is made, {secret}" + (f"; it is {', '.join(powers)}" if powers else ""))
    return lines or ["  role      none is missing: all stay as they are"]


def bring_back(client: Client, found: Globals) -> list[str]:
    """Make the roles that the server lacks as they were; those that are there stay. Return what is left to do.

    All are made or none. Raise SuiteError, without a password in it.
    """
    server = preflight.look(client, [])
    new = missing(found, server["roles"])
    statements = cluster.role_statements(found, new, server["major"])
    if statements:
        # In a transaction of its own, and not in the server's log, as far as this role may decide that.
        quiet = ["SET LOCAL log_statement = 'none'", "SET LOCAL log_min_error_statement = 'panic'"]
        begin = ["BEGIN", *(quiet if server["superuser"] else [])]
        try:
            client.server_query("; ".join([*begin, *statements, "COMMIT"]))
        except SuiteError as error:
            kind = PermissionDenied if error.sqlstate == _DENIED else type(error)
            raise kind(f"the roles could not be brought back: {error.message}", error.hint) from None
    left = [one for one in found.grants if not {one.role, one.member} & {*new}]
    known = [tuple(pair) for pair in server["memberships"]]
    return [
        *(_still_to_do(one, server["major"]) for one in left if (one.role, one.member) not in known),
        *(f"not of roles, so not brought back: {words} …" for words in found.left_out),
    ]


def _still_to_do(one: Grant, major: int) -> str:
    return f"role '{one.member}' is no longer a member of '{one.role}': {cluster.grant_statement(one, major)}"
