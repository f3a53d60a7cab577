"""Which tables of a database that is being loaded may be filled, or given keys, beside others."""

from __future__ import annotations

from dataclasses import dataclass

from pgbackup.database.clients.client import Client
from pgbackup.sql.naming import parts

Name = tuple[str, ...]
# pg_dump fills the tables by their names, but for what foreign keys tell it. What else is called when a row comes in
# (CHECKs, generated columns, domains, input functions of types, triggers, rules) may look into another table, and then
# only the dump's own order is right, if any. So it must be known to look at nothing: a function of the server's own
# that is immutable, or that is stable for the sake of the time zone alone.
# In expressions as the server keeps them, each object stands as `:field oid`; those from 16384 on are not its own.
_PLAIN = r"""
WITH RECURSIVE expression(relation, type, tree) AS (
  SELECT conrelid, contypid, conbin::text FROM pg_constraint WHERE contype = 'c'
  UNION ALL
  SELECT adrelid, 0, adbin::text FROM pg_attrdef
    JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum WHERE attgenerated <> ''
), used(relation, type, field, id) AS (
  SELECT relation, type, found[1], found[2]::oid FROM expression,
    regexp_matches(tree, ':(\w*(?:id|type|opno)) (\d+)', 'g') AS found
), odd(relation, type) AS (
  SELECT relation, used.type FROM used WHERE id >= 16384 AND field !~ 'collid$' AND NOT (field ~ 'type(id)?$'
    AND EXISTS (SELECT FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem
      WHERE t.oid = id AND 'e' IN (t.typtype, e.typtype)))
  UNION
  SELECT relation, type FROM used JOIN pg_proc p ON p.oid = id WHERE field ~ 'funcid$' AND provolatile <> 'i'
    AND NOT (provolatile = 's' AND EXISTS (SELECT FROM pg_type t
      WHERE t.oid = ANY (proargtypes::oid[] || prorettype) AND typcategory IN ('D', 'T')))
), odd_type(id) AS (
  SELECT t.oid FROM pg_type t
    WHERE (typtype = 'b' AND typinput::oid >= 16384) OR (typtype IN ('c', 'r', 'm') AND t.oid >= 16384)
      OR EXISTS (SELECT FROM odd WHERE odd.type = t.oid)
  UNION
  SELECT t.oid FROM pg_type t JOIN odd_type ON id IN (typelem, typbasetype)
)
SELECT concat_ws('|', encode(convert_to(nspname, {encoding}), 'hex'), encode(convert_to(relname, {encoding}), 'hex'),
  relpersistence IN ('p', 'u') AND amname = 'heap' AND pg_relation_size(c.oid) = 0
    AND NOT (relhastriggers OR relhasrules OR relhasindex OR relrowsecurity)
    AND NOT EXISTS (SELECT FROM odd WHERE relation = c.oid)
    AND NOT EXISTS (SELECT FROM pg_attribute JOIN odd_type ON id = atttypid WHERE attrelid = c.oid AND attnum > 0)
    AND NOT EXISTS (SELECT FROM pg_partition_ancestors(c.oid) JOIN pg_partitioned_table ON partrelid = relid::oid
      WHERE partexprs IS NOT NULL OR EXISTS (SELECT FROM unnest(partclass::oid[]) AS one WHERE one >= 16384)),
  NOT relispartition AND NOT EXISTS (SELECT FROM pg_inherits WHERE c.oid IN (inhrelid, inhparent)))
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_am a ON a.oid = relam
WHERE relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
""".replace("{encoding}", "(SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database())")


# Of the connections that are left, a load takes no more than half. What others do is not shown to everybody.
_ROOM = """
SELECT least(current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - (SELECT count(*) FROM pg_stat_activity WHERE coalesce(backend_type, 'client backend') = 'client backend'),
  (SELECT rolconnlimit - (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user)
    FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0 AND NOT rolsuper)) / 2
"""


@dataclass(frozen=True)
class Tables:
    """plain: empty tables whose rows depend on nothing else, so that rows of several may come at once, in any order.

    alone: those that a key of another table cannot lock: neither partitions nor parents. room: for so many more
    sessions.
    """

    plain: frozenset[Name] = frozenset()
    alone: frozenset[Name] = frozenset()
    room: int = 0


def room(client: Client, database: str, seconds: float) -> int:
    """For how many more sessions there is room on the server. seconds: the limit."""
    return max(0, int(client.query(_ROOM, database=database, seconds=seconds)))


def ask(client: Client, database: str, seconds: float) -> Tables:
    """Look at a database in which a dump has made its tables, and at its server. seconds: the limit."""
    left, *lines = client.query(f"{_ROOM};\n{_PLAIN}", database=database, seconds=seconds).splitlines()
    found = [line.split("|") for line in lines]
    named = [((_text(schema), _text(table)), plain, alone) for schema, table, plain, alone in found]
    return Tables(
        plain=frozenset(name for name, plain, _ in named if plain == "t"),
        alone=frozenset(name for name, _, alone in named if alone == "t"),
        room=max(0, int(left)),
    )


def name_of(spelled: bytes) -> Name:
    """The name of a table that a dump spells so, as Tables have it. Pure."""
    return parts(spelled.decode("utf-8", "backslashreplace"))


def _text(hexadecimal: str) -> str:
    return bytes.fromhex(hexadecimal).decode("utf-8", "backslashreplace")
