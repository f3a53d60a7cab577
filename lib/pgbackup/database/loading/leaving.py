"""Drops a database with what would hold it: sessions, subscriptions, prepared transactions, replication slots."""

from __future__ import annotations

import json
import time

from pgbackup import interrupt
from pgbackup.database.clients.client import Client
from pgbackup.errors import SuiteError
from pgbackup.sql.naming import identifier, literal

IN_USE = "55006"  # object_in_use (PostgreSQL manual, appendix A)
_NO_DATABASE = "3D000"
_ATTEMPTS = 5

# FORCE ends sessions only (manual, DROP DATABASE). Slots that nobody reads go with their database.
_HOLDING = """
SELECT json_build_object(
  'closed', NOT d.datallowconn,
  'template', d.datistemplate,
  'subscriptions', (SELECT count(*) FROM pg_subscription WHERE subdbid = d.oid),
  'prepared', (SELECT coalesce(json_agg(encode(convert_to(gid, 'UTF8'), 'hex')), '[]') FROM pg_prepared_xacts
     WHERE database = d.datname),
  'readers', (SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots
     WHERE database = d.datname AND active_pid IS NOT NULL))
FROM pg_database d WHERE d.datname = %s AND d.datconnlimit <> -2
"""
# Without its slot's name a subscription is dropped here and nothing is asked of the publisher, whose slot may serve
# the database that the dump came from.
_UNSUBSCRIBE = """
DO $$
DECLARE one record;
BEGIN
  FOR one IN SELECT subname FROM pg_subscription
    WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  LOOP
    EXECUTE format('ALTER SUBSCRIPTION %I DISABLE', one.subname);
    EXECUTE format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', one.subname);
    EXECUTE format('DROP SUBSCRIPTION %I', one.subname);
  END LOOP;
END $$
"""


def dropped(client: Client, name: str) -> bool:
    """Drop a database; return whether it was there to the server's last word: nothing comes between.

    It may take long: the server waits for a checkpoint and for each of its processes (LOAD_STALL_SECONDS).
    """
    for attempt in range(_ATTEMPTS):
        interrupt.check()
        _release(client, name)
        try:
            sql = f"DROP DATABASE {identifier(name)} WITH (FORCE)"
            client.server_query(sql, about=name, seconds=client.settings.load_stall_seconds)
        except SuiteError as error:
            if error.sqlstate == _NO_DATABASE:
                return False
            if error.sqlstate != IN_USE or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.1 * attempt)
        else:
            break
    return True


def _release(client: Client, name: str) -> None:
    """Detach what would hold the database, for it is about to be dropped."""
    answer = client.server_query(_HOLDING, name, about=name)
    holding = json.loads(answer) if answer else {}
    if holding.get("template"):
        client.server_query(f"ALTER DATABASE {identifier(name)} WITH IS_TEMPLATE false", about=name)
    if not (holding.get("subscriptions") or holding.get("prepared")):
        return
    if holding["closed"]:
        client.server_query(f"ALTER DATABASE {identifier(name)} WITH ALLOW_CONNECTIONS true", about=name)
    for gid in holding["prepared"]:
        client.query(f"ROLLBACK PREPARED {literal(bytes.fromhex(gid).decode())}", database=name)
    if holding["subscriptions"]:
        client.query(_UNSUBSCRIBE, database=name)


def subscriptions(client: Client, name: str) -> list[str]:
    """The subscriptions in a database, which cannot be dropped while it has them."""
    sql = (
        "SELECT coalesce(json_agg(subname ORDER BY subname), '[]') FROM pg_subscription s"
        " JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = %s"
    )
    names: list[str] = json.loads(client.server_query(sql, name))
    return names
