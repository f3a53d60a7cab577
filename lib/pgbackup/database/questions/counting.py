"""Counts the rows of tables, each in a transaction of its own, so that no more than one of them is locked at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pgbackup.database.clients.client import Client
from pgbackup.database.loading import scratch
from pgbackup.sql.naming import parts

# The server itself puts the names into the statements, which psql then runs one by one: so no name has to survive a
# change of encoding. They come back in the database's own encoding, as the reader of the dump has seen them.
# `of_extension`: the extension may have filled the table before the dump did.
_ENCODING = "(SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database())"
_COUNTS = f"""
SELECT concat_ws('|', c.oid, c.relkind, encode(convert_to(nspname, {_ENCODING}), 'hex'),
  encode(convert_to(relname, {_ENCODING}), 'hex'),
  EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e'),
  (SELECT string_agg(relid::oid::text, ',') FROM pg_partition_ancestors(c.oid) WHERE relid <> c.oid))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND nspname !~ '^pg_' AND nspname <> 'information_schema';
SELECT statement FROM ({scratch.PATH} UNION ALL
  SELECT 1, format('SELECT %L, pg_catalog.count(*) FROM ONLY %I.%I', c.oid, nspname, relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema') AS one(turn, statement)
ORDER BY turn
\\gexec
"""


@dataclass(frozen=True)
class Counted:
    """rows: of each wanted table that is there. of_extensions: those of them that belong to extensions.

    within: a partition's name -> that of the table above it which rows were loaded through: which partition then
    holds a row is the server's to say (manual, pg_dump, --load-via-partition-root), so that one's rows are those of
    all partitions below it.
    """

    rows: dict[str, int]
    of_extensions: set[str]
    within: dict[str, str]

    def together(self, rows: Mapping[str, int]) -> dict[str, int]:
        """Return rows by table with those of partitions in `within` added to the table above them. Pure."""
        summed: dict[str, int] = {}
        for name, count in rows.items():
            top = self.within.get(name, name)
            summed[top] = summed.get(top, 0) + count
        return summed


def count_rows(client: Client, database: str, tables: set[str], seconds: float) -> Counted:
    """Count, in `database`, the rows of those tables that are there; names as the dump's COPY spells them.

    seconds: the limit for all of it.
    """
    return counted(client.query(_COUNTS, database=database, seconds=seconds), tables)


def counted(answer: str, tables: set[str]) -> Counted:
    """Given what the server says of all tables, return what it says of those. Pure."""
    wanted = {parts(name): name for name in tables}
    lines = [line.split("|") for line in answer.splitlines()]
    count_of = {line[0]: int(line[1]) for line in lines if len(line) == 2}
    listed = [(*line, "")[:6] for line in lines if len(line) > 2]
    name_of: dict[str, str] = {}
    above: dict[str, list[str]] = {}
    parted: set[str] = set()
    of_extensions: set[str] = set()
    for oid, kind, schema, table, of_extension, ancestors in listed:
        above[oid] = ancestors.split(",") if ancestors else []
        parted |= {oid} if kind == "p" else set()
        name = wanted.get((_text(schema), _text(table)))
        if name is not None:
            name_of[oid] = name
            of_extensions |= {name} if of_extension == "t" else set()
    rows = {name_of[oid]: 0 for oid in parted & name_of.keys()}
    within = {}
    for oid, higher in above.items():
        # From the nearest to the farthest; in that one all rows are.
        top = next((one for one in reversed(higher) if one in name_of), oid)
        if top in name_of:
            rows[name_of[top]] = rows.get(name_of[top], 0) + count_of.get(oid, 0)
            if oid in name_of and top != oid:
                within[name_of[oid]] = name_of[top]
    return Counted(rows, of_extensions, within)


def _text(hexadecimal: str) -> str:
    return bytes.fromhex(hexadecimal).decode("utf-8", "backslashreplace")
