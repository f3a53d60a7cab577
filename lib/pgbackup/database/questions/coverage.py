"""Asks a server which databases it has, and what of one a dump by this role would not bring back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pgbackup.database.clients.client import Client
from pgbackup.errors import Unavailable

# Templates and databases that nobody may connect to hold nothing that could be dumped.
_DATABASES = """
SELECT coalesce(json_agg(datname ORDER BY datname), '[]') FROM pg_database
WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2
"""
_TABLES = """
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
# pg_dump locks and reads every table that is no extension's, with row_security off (pg_dump.c, getTables).
# A large object has no function for its privileges before PostgreSQL 18 (manual, 53.30 pg_largeobject_metadata).
_MISSED = """
WITH relations AS (SELECT c.oid, c.relkind, c.relpersistence, c.relrowsecurity, n.oid AS schema,
    format('%I.%I', n.nspname, c.relname) AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d
      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')),
kinds AS (
  SELECT 'unreadable' AS kind, name FROM relations WHERE relkind IN ('r', 'p', 'S') AND NOT (
    has_schema_privilege(schema, 'USAGE') AND has_table_privilege(oid, 'SELECT')
    AND NOT (relkind = 'r' AND relrowsecurity AND row_security_active(oid)))
  UNION ALL SELECT 'unlogged', name FROM relations WHERE relkind IN ('r', 'p') AND relpersistence = 'u'
  UNION ALL SELECT 'foreign', name FROM relations WHERE relkind = 'f'
  UNION ALL SELECT 'tablespace', t.spcname FROM pg_tablespace t WHERE t.spcname NOT IN ('pg_default', 'pg_global')
    AND (EXISTS (SELECT FROM pg_class c WHERE c.reltablespace = t.oid)
      OR EXISTS (SELECT FROM pg_database d WHERE d.datname = current_database() AND d.dattablespace = t.oid))
  UNION ALL SELECT 'large objects', l.oid::text FROM pg_largeobject_metadata l
    WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AND NOT pg_has_role(l.lomowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM aclexplode(l.lomacl) a
        WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
  UNION ALL SELECT 'roles', rolname FROM pg_roles WHERE rolcanlogin AND rolname !~ '^pg_')
SELECT coalesce(json_object_agg(kind, json_build_object('count', number, 'first', names)), '{}') FROM (
  SELECT kind, count(*) AS number, (array_agg(name ORDER BY name))[1:3] AS names FROM kinds GROUP BY kind) AS found
"""


@dataclass(frozen=True)
class Some:
    """How many there are, and the names of the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def named(self, what: str) -> str:
        """In words: `2 tables: a, b`."""
        more = ", …" if self.count > len(self.first) else ""
        return f"{self.count:,} {what}{'' if self.count == 1 else 's'}: {', '.join(self.first)}{more}"


def databases(client: Client, database: str = "") -> list[str]:
    """The databases of the client's server that can be dumped. database: to ask in. Raise SuiteError."""
    found = _parsed(client.query(_DATABASES, database=database))
    if not isinstance(found, list):
        raise _odd(found)
    return [str(name) for name in found]


def is_empty(client: Client, database: str) -> bool:
    """Whether a database has no table of its own. Raise SuiteError."""
    return client.query(_TABLES, database=database) == "0"


def missed(client: Client) -> dict[str, Some]:
    """What of the client's database a dump would miss or need, by kind. Raise SuiteError.

    Kinds: unreadable, unlogged, foreign, tablespace, large objects, roles.
    """
    found = _parsed(client.query(_MISSED))
    try:
        return {kind: Some(int(some["count"]), [str(name) for name in some["first"]]) for kind, some in found.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _odd(found) from None


def _parsed(answer: str) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        raise _odd(answer) from None


def _odd(answer: object) -> Unavailable:
    return Unavailable(f"the server gave an answer that cannot be understood: {str(answer)[:80]!r}")
