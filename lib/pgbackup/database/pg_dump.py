"""How pg_dump is called. Pure."""

from __future__ import annotations

from pgbackup.database.clients import session
from pgbackup.database.clients.client import Client, conninfo


def arguments(client: Client, encoding: str) -> list[str]:
    """Return the argument list of the dump: plain SQL of everything, as the guide's own `pg_dump` makes it.

    encoding: of the database, for it may have a client_encoding of its own into which not all of it fits.
    No password prompt, and no endless wait for a table that another session holds locked
    (PostgreSQL manual, pg_dump, --lock-wait-timeout).
    """
    begin = {} if client.pooled else {"options": session.options(session.DUMPING, client.further)}
    return [
        "pg_dump",
        "--no-password",
        f"--encoding={encoding}",
        f"--lock-wait-timeout={client.settings.lock_wait_seconds}s",
        f"--dbname={conninfo({**client.connection, **begin}, client.target.database, client.run.application_name)}",
    ]
