"""What the server knows about a database that pg_dump does not write down, asked in one round trip."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from pgbackup import interrupt
from pgbackup.database.clients import container, failures
from pgbackup.database.clients.client import Client
from pgbackup.database.clients.session import BEGUN, ORIGIN
from pgbackup.errors import PermissionDenied, Unavailable
from pgbackup.sql.naming import literal


@dataclass(frozen=True)
class Facts:
    """size_bytes: of the database on the server. tables: ordinary ones with a row in the catalog, outside
    extensions. restores: nothing about the role stands in the way of one: a superuser asked, in a session that began as
    ours do, and there is another database to ask in. details: what the manifest carries (owner, roles, extensions,
    settings, locale …), as JSON values.
    """

    server_version: str
    size_bytes: int
    tables: int
    restores: bool
    details: dict[str, Any]


# Limits and libraries that a load may need.
INSTANCE = (
    *("shared_preload_libraries", "dynamic_library_path", "max_locks_per_transaction", "max_connections"),
    *("max_prepared_transactions", "max_worker_processes", "max_parallel_workers"),
)

# to_jsonb(row of pg_database) instead of column names: they differ between the majors 13 to 18
# (PostgreSQL manual, 53.15 pg_database). pg_shdepend knows every role that an object of this database
# mentions as owner, in an ACL or in a policy (53.49 pg_shdepend).
_SQL = (
    """
SET LOCAL search_path = pg_catalog \\; -- in one message with what follows, also where a pooler lies between
WITH RECURSIVE me AS (SELECT * FROM pg_database WHERE datname = current_database()),
needed AS (
  SELECT DISTINCT refobjid AS oid FROM pg_shdepend, me
  WHERE refclassid = 'pg_authid'::regclass
    AND (dbid = me.oid OR (dbid = 0 AND classid = 'pg_database'::regclass AND objid = me.oid))
  UNION SELECT datdba FROM me
  -- pg_shdepend does not mention the role that initdb made (53.49), which is POSTGRES_USER of the official image.
  UNION SELECT oid FROM pg_roles WHERE oid = 10 AND (
    EXISTS (SELECT FROM pg_class WHERE relowner = 10 AND oid >= 16384)
    OR EXISTS (SELECT FROM pg_proc WHERE proowner = 10 AND oid >= 16384)
    OR EXISTS (SELECT FROM pg_type WHERE typowner = 10 AND oid >= 16384)
    OR EXISTS (SELECT FROM pg_namespace WHERE nspowner = 10 AND oid >= 16384))
),
-- Who has rights here only through one of them, and the groups that these belong to.
below AS (SELECT oid FROM needed UNION SELECT m.member FROM pg_auth_members m JOIN below b ON b.oid = m.roleid
  WHERE pg_get_userbyid(b.oid) !~ '^pg_'),
family AS (SELECT oid FROM below UNION SELECT m.roleid FROM pg_auth_members m JOIN family f ON f.oid = m.member),
described AS (SELECT r.oid, r.rolname, format('CREATE ROLE %I WITH %s%s%s%s%s%s%s%s%s;', r.rolname,
  CASE WHEN r.rolsuper THEN 'SUPERUSER' ELSE 'NOSUPERUSER' END,
  CASE WHEN r.rolinherit THEN ' INHERIT' ELSE ' NOINHERIT' END,
  CASE WHEN r.rolcreaterole THEN ' CREATEROLE' ELSE ' NOCREATEROLE' END,
  CASE WHEN r.rolcreatedb THEN ' CREATEDB' ELSE ' NOCREATEDB' END,
  CASE WHEN r.rolcanlogin THEN ' LOGIN' ELSE ' NOLOGIN' END,
  CASE WHEN r.rolreplication THEN ' REPLICATION' ELSE ' NOREPLICATION' END,
  CASE WHEN r.rolbypassrls THEN ' BYPASSRLS' ELSE ' NOBYPASSRLS' END,
  CASE WHEN r.rolconnlimit >= 0 THEN ' CONNECTION LIMIT ' || r.rolconnlimit ELSE '' END,
  CASE WHEN r.rolvaliduntil IS NOT NULL THEN format(' VALID UNTIL %L', r.rolvaliduntil) ELSE '' END) AS made
  FROM pg_roles r WHERE r.rolname !~ '^pg_')
SELECT json_build_object(
  'server_version', current_setting('server_version'),
  'in_recovery', pg_is_in_recovery(),
  'restores', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
     AND coalesce(current_setting('{begun}', true), '') <> '' AND EXISTS (SELECT FROM pg_database d
       WHERE d.datallowconn AND d.datconnlimit <> -2 AND d.oid <> me.oid AND has_database_privilege(d.oid, 'CONNECT')),
  'size_bytes', pg_database_size(me.oid),
  'tables', (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
       AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                       AND d.objid = c.oid AND d.deptype = 'e')),
  'encoding', pg_encoding_to_char(me.encoding),
  'database', to_jsonb(me) - 'oid' - 'encoding' - 'datdba' - 'datfrozenxid' - 'datminmxid' - 'datacl' - 'dattablespace',
  'owner', pg_get_userbyid(me.datdba),
  'acl', me.datacl::text,
  'tablespace', (SELECT spcname FROM pg_tablespace t WHERE t.oid = me.dattablespace),
  'comment', shobj_description(me.oid, 'pg_database'),
  'settings', (SELECT coalesce(json_agg(json_build_object(
       'role', CASE WHEN s.setrole = 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END, 'settings', s.setconfig)), '[]')
     FROM pg_db_role_setting s WHERE s.setdatabase = me.oid),
  -- Our own styles are set after the start of the session: what it would be without them is what pg_dump's has.
  'session', (SELECT json_object_agg(name, reset_val) FROM pg_settings WHERE name IN ({origin})),
  -- What a server has to have to which this is restored; what the role may not see is left out.
  'instance', (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name IN ({instance})),
  'extensions', (SELECT coalesce(json_object_agg(extname, extversion), '{}') FROM pg_extension),
  'tablespaces', (SELECT coalesce(json_agg(DISTINCT t.spcname), '[]') FROM pg_class c
     JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE t.spcname <> 'pg_global'),
  'owners', (SELECT coalesce(json_agg(DISTINCT jsonb_build_object('owner', pg_get_userbyid(o.owner),
       'schema', n.nspname, 'schema_owner', pg_get_userbyid(n.nspowner))), '[]') FROM (
     SELECT relowner AS owner, relnamespace AS schema FROM pg_class WHERE relkind IN ('r', 'v', 'm', 'S', 'p', 'f')
       AND oid >= 16384
     UNION SELECT proowner, pronamespace FROM pg_proc WHERE oid >= 16384
     UNION SELECT typowner, typnamespace FROM pg_type WHERE oid >= 16384 AND typtype IN ('e', 'd', 'r', 'b')
       AND typcategory <> 'A') o JOIN pg_namespace n ON n.oid = o.schema
     WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'),
  'privileged', (SELECT coalesce(json_agg(what), '[]') FROM (
     SELECT 'event triggers' AS what FROM pg_event_trigger
     UNION SELECT 'functions in the language ' || lanname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
       WHERE p.oid >= 16384 AND NOT lanpltrusted AND lanname <> 'sql'
         AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e'
                         AND d.classid = 'pg_proc'::regclass)
     UNION SELECT 'leakproof functions' FROM pg_proc p WHERE p.oid >= 16384 AND proleakproof
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e'
                       AND d.classid = 'pg_proc'::regclass)
     UNION SELECT 'operator classes' FROM pg_opclass c WHERE c.oid >= 16384
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'
                       AND d.classid = 'pg_opclass'::regclass)
     UNION SELECT 'foreign-data wrappers' FROM pg_foreign_data_wrapper f
       WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = f.oid AND d.deptype = 'e'
                         AND d.classid = 'pg_foreign_data_wrapper'::regclass)
     UNION SELECT 'publications FOR ALL TABLES' FROM pg_publication WHERE puballtables
     UNION SELECT 'subscriptions' FROM pg_stat_subscription s JOIN me ON true
       WHERE EXISTS (SELECT FROM pg_subscription p WHERE p.oid = s.subid AND p.subdbid = me.oid)) AS privileged),
  'roles', (SELECT coalesce(json_object_agg(rolname, made), '{}') FROM described JOIN needed USING (oid)),
  'members', (SELECT coalesce(json_object_agg(rolname, made), '{}') FROM described JOIN family USING (oid)
     WHERE oid NOT IN (SELECT oid FROM needed)),
  'memberships', (SELECT coalesce(json_agg(jsonb_strip_nulls(jsonb_build_object('role', pg_get_userbyid(roleid),
       'member', rolname, 'admin', admin_option, 'inherit', to_jsonb(m) -> 'inherit_option',
       'set', to_jsonb(m) -> 'set_option'))), '[]') FROM pg_auth_members m JOIN described d ON d.oid = m.member
     WHERE m.member IN (SELECT oid FROM family)),
  'role_settings', (SELECT coalesce(json_agg(json_build_object('role', rolname, 'settings', setconfig)), '[]')
     FROM pg_db_role_setting JOIN described d ON d.oid = setrole
     WHERE setdatabase = 0 AND setrole IN (SELECT oid FROM family))
) FROM me
""".replace("{begun}", BEGUN)
    .replace("{origin}", ", ".join(map(literal, ORIGIN)))
    .replace("{instance}", ", ".join(map(literal, INSTANCE)))
)


# Ends the sessions that killed runs of the same owner have left on the server: only for who holds its lock.
END_EARLIER = """
\\o /dev/null
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE starts_with(application_name, regexp_replace(current_setting('application_name'), '[^-]+$', ''))
  AND application_name LIKE 'pgbackup-%' AND usename = current_user
  AND application_name <> current_setting('application_name');
\\o
"""


def gather(client: Client, first: str = "") -> Facts:
    """Return the database's facts; wait up to WAIT_SECONDS for a server that starts or is out of connections.

    first: a statement to run before, END_EARLIER or none.
    Raise what failures.explained() finds in the server's answer, or what is wrong with the container.
    """
    target, settings = client.target, client.settings
    deadline = time.monotonic() + settings.wait_seconds
    while True:
        try:
            facts = parse(client.query(first + _SQL))
            break
        except (Unavailable, PermissionDenied) as error:
            cause = container.blamed(error, client)
            if not failures.passing(error.message) and client.begin_further():
                continue
            # A container that is paused or restarting may come back, one that is stopped will not.
            if not (failures.passing(error.message) and failures.passing(cause.message)):
                raise cause from None
            if time.monotonic() >= deadline:
                raise cause from None
        interrupt.check()
        time.sleep(0.25)
    if (name := facts.details["database"]["datname"]) != target.database:
        raise Unavailable(f"asked for database '{target.database}', the server gave '{name}'", "check the name")
    return facts


def parse(answer: str) -> Facts:
    """Given the JSON that the server sent, return Facts. Raise Unavailable if it is not that."""
    try:
        details = json.loads(answer)
        return Facts(
            server_version=details.pop("server_version"),
            size_bytes=int(details.pop("size_bytes")),
            tables=int(details.pop("tables")),
            restores=bool(details.pop("restores")),
            details=details,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unavailable(
            f"the server gave an answer that cannot be understood: {answer[:80]!r}", "run it again with --client exec"
        ) from None
