"""What the live database holds now, table by table: counted where that is quick, else estimated; it is in use."""

from __future__ import annotations

from dataclasses import dataclass

from pgbackup.database.clients.client import Client
from pgbackup.proc import NoAnswer
from pgbackup.sql.naming import parts

_SMALL_PAGES = 32 << 10  # 256 MB: such a table is counted in a fraction of a second; to ask for its size takes a lock
# A table that is locked or takes long keeps its estimate, and nobody waits behind our lock.
_LISTED = """
SELECT concat_ws('|', c.oid, encode(convert_to(format('%I.%I', nspname, relname), 'UTF8'), 'hex'),
  greatest(c.reltuples, 0)::bigint,
  (SELECT string_agg(encode(convert_to(format('%I.%I', m.nspname, a.relname), 'UTF8'), 'hex'), ',')
   FROM pg_partition_ancestors(c.oid) p JOIN pg_class a ON a.oid = p.relid JOIN pg_namespace m ON m.oid = a.relnamespace
   WHERE p.relid <> c.oid))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema' AND c.relpersistence <> 't'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e');
"""
_COUNTED = f"""
\\set ON_ERROR_STOP off
SET lock_timeout = '500ms';
SET statement_timeout = '5s';
SELECT format('SELECT %L, count(*) FROM ONLY %I.%I', c.oid, nspname, relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema' AND c.relpersistence <> 't'
  AND c.relpages < {_SMALL_PAGES} ORDER BY c.relpages
\\gexec
"""


@dataclass(frozen=True)
class Rows:
    """exact: counted, and not estimated by the planner's statistics."""

    count: int
    exact: bool


def look(client: Client, seconds: float, told: set[str]) -> dict[str, Rows]:
    """Return the rows of every table of the live database, by name as SQL spells it.

    told: the names of the backup's tables; rows of partitions below one of those are its. seconds: the limit for
    counting; where it is too short all are estimates. Raise what the failure means.
    """
    try:
        answer = client.query(_LISTED + _COUNTED, seconds=seconds)
    except NoAnswer:
        answer = client.query(_LISTED)
    return together(answer, told)


def together(answer: str, told: set[str]) -> dict[str, Rows]:
    """Given what the server has listed (three or four words a line) and counted (two), return the rows. Pure."""
    lines = [line.split("|") for line in answer.splitlines()]
    counted = {line[0]: line[1] for line in lines if len(line) == 2}
    spelled = {parts(name): name for name in told}
    found: dict[str, Rows] = {}
    for oid, name, estimate, above in [(*line, "")[:4] for line in lines if len(line) > 2]:
        names = [bytes.fromhex(each).decode() for each in [name, *filter(None, above.split(","))]]
        known = [spelled[parts(each)] for each in names if parts(each) in spelled]
        top = known[-1] if known else names[0]
        old = found.get(top, Rows(0, exact=True))
        rows = Rows(int(counted.get(oid, estimate)), oid in counted)
        found[top] = Rows(old.count + rows.count, old.exact and rows.exact)
    return found
