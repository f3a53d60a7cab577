"""What a server and a role on it allow, asked in one round trip: by a restore before it begins, and by each backup."""

from __future__ import annotations

import json
from typing import Any

from pgbackup.database.clients import session
from pgbackup.database.clients.client import Client
from pgbackup.database.clients.session import BEGUN
from pgbackup.errors import Unavailable
from pgbackup.sql.naming import literal

# What a role needs to give an object to another one (PostgreSQL manual, ALTER TABLE … OWNER TO): to be able to become
# that one, to act with its rights from then on, and that it may create in the schema. In a new database the schema
# public belongs to whoever has made it.
_SQL = """
WITH me AS (SELECT oid, * FROM pg_roles WHERE rolname = current_user),
live AS (SELECT * FROM pg_database WHERE datname = {name}),
owners AS (SELECT * FROM json_to_recordset({owners}) AS o(owner text, schema text, schema_owner text)),
may_be AS (SELECT rolname FROM pg_roles r WHERE pg_has_role(r.oid, 'USAGE') AND pg_has_role(r.oid,
  CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END))
SELECT json_build_object(
  'major', current_setting('server_version_num')::int / 10000,
  'user', current_user,
  'superuser', (SELECT rolsuper FROM me),
  'begun', coalesce(current_setting('{begun}', true), '') <> '',
  'roles', (SELECT coalesce(json_agg(rolname), '[]') FROM pg_roles),
  'memberships', (SELECT coalesce(json_agg(json_build_array(pg_get_userbyid(roleid), pg_get_userbyid(member))), '[]')
     FROM pg_auth_members),
  'may_be', (SELECT coalesce(json_agg(rolname), '[]') FROM may_be),
  'no_create', (SELECT coalesce(json_agg(DISTINCT o.owner || ' in ' || o.schema), '[]') FROM owners o
    JOIN pg_roles r ON r.rolname = o.owner
    WHERE o.owner <> current_user AND NOT CASE WHEN o.schema_owner IN ('', 'pg_database_owner', current_user)
      THEN pg_has_role(r.oid, current_user::name, 'USAGE')
      ELSE EXISTS (SELECT FROM pg_roles s WHERE s.rolname = o.schema_owner AND pg_has_role(r.oid, s.oid, 'USAGE')) END
      AND NOT r.rolsuper),
  'extensions', (SELECT coalesce(json_object_agg(name, default_version), '{{}}') FROM pg_available_extensions),
  'untrusted', (SELECT coalesce(json_agg(DISTINCT name), '[]') FROM pg_available_extension_versions
     WHERE superuser AND NOT trusted),
  'tablespaces', (SELECT coalesce(json_agg(spcname), '[]') FROM pg_tablespace
     WHERE has_tablespace_privilege(oid, 'CREATE')),
  'locations', (SELECT coalesce(json_object_agg(spcname, pg_tablespace_location(oid)), '{{}}') FROM pg_tablespace),
  'data_directory', (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
  'prepared', (SELECT count(*) FROM pg_prepared_xacts WHERE database = {name}),
  'slots', (SELECT coalesce(json_agg(slot_name), '[]') FROM pg_replication_slots WHERE database = {name}),
  'subscriptions', (SELECT count(*) FROM pg_stat_subscription s JOIN live d ON true
                    JOIN pg_subscription p ON p.oid = s.subid AND p.subdbid = d.oid),
  'databases', (SELECT json_agg(datname) FROM pg_database),
  'exists', (SELECT count(*) FROM live),
  'closed', (SELECT count(*) FROM live WHERE NOT datallowconn OR datconnlimit = -2),
  'invalid', (SELECT count(*) FROM live WHERE datconnlimit = -2),
  'owns', (SELECT coalesce(bool_and(pg_has_role(datdba, 'USAGE')), true) FROM live),
  'owner', (SELECT pg_get_userbyid(datdba) FROM live),
  'unendable', (SELECT coalesce(json_agg(DISTINCT usename), '[]') FROM pg_stat_activity a
     JOIN live ON live.oid = a.datid JOIN pg_roles u ON u.oid = a.usesysid, me
     WHERE coalesce(a.backend_type, 'client backend') = 'client backend' AND NOT me.rolsuper
       AND (u.rolsuper OR NOT (pg_has_role(u.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')))),
  'size_bytes', (SELECT pg_database_size(oid) FROM live WHERE datconnlimit <> -2),
  'may_create', (SELECT rolsuper OR rolcreatedb FROM me),
  'elsewhere', (SELECT count(*) FROM pg_database WHERE datallowconn AND datconnlimit <> -2 AND datname <> {name}
     AND has_database_privilege(oid, 'CONNECT'))
)
"""


def sql(database: str, owners: list[dict[str, str]]) -> str:
    """Return the question. Pure. owners: who owns objects in which schema of whom, as facts.gather() tells."""
    return _SQL.format(name=literal(database), owners=literal(json.dumps(owners)), begun=BEGUN)


def look(client: Client, owners: list[dict[str, str]]) -> dict[str, Any]:
    """Return what has to be known of the server before a restore. Raise what the failure means."""
    said, _, version = client.server_query(sql(client.target.database, owners) + _VERSION).rpartition("\n")
    answer: dict[str, Any] = json.loads(said) | {"restricts": restricts(version)}
    client.further |= session.further(answer["major"], superuser=answer["superuser"])
    return answer


_VERSION = ";\n\\echo :VERSION_NUM\n"
_RESTRICTS_FROM = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}


def restricts(version: str) -> bool:
    r"""Whether a psql of this number, `150014`, knows `\restrict` (minor releases of August 2025). Pure.

    One that does not can load a dump all the same: the guard lets no line of psql's own through.
    """
    if not version.isdigit():
        raise Unavailable(f"psql beside the database did not report its version: '{version}'")
    major, minor = divmod(int(version), 10_000)
    return major >= 18 or minor >= _RESTRICTS_FROM.get(major, 1 << 30)
