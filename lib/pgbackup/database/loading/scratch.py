"""The database that a backup is loaded into beside the live one, and what the server can give it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pgbackup.database.clients import failures
from pgbackup.database.clients.client import Client
from pgbackup.errors import Unavailable
from pgbackup.sql.naming import identifier, literal

_OF_STATEMENTS = ("22", "42")  # classes of what lies in the database (manual, appendix A)
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


def create_sql(name: str, server: dict[str, Any], major: int) -> str:
    """Return the statement that makes an empty database with encoding and locale as `server` has them. Pure.

    server: what facts.gather() says of a database, the manifest's `server`. From template0, as the manual (23.3
    Template Databases) asks for other encodings and locales. major: of the server that it is made on.
    """
    found = server.get("database", {})
    words = [f"CREATE DATABASE {identifier(name)} TEMPLATE template0"]
    if server.get("encoding"):
        words.append(f"ENCODING {literal(server['encoding'])}")
    for option, key in (("LC_COLLATE", "datcollate"), ("LC_CTYPE", "datctype")):
        if found.get(key):
            words.append(f"{option} {literal(found[key])}")
    provider = _PROVIDERS.get(found.get("datlocprovider") or "c", "libc")
    locale = found.get("datlocale") or found.get("daticulocale")
    if major >= 15 and provider != "libc":
        words.append(f"LOCALE_PROVIDER {provider}")
        if locale:
            words.append(f"{'ICU_LOCALE' if provider == 'icu' else 'BUILTIN_LOCALE'} {literal(locale)}")
        if found.get("daticurules") and major >= 16:
            words.append(f"ICU_RULES {literal(found['daticurules'])}")
    if (server.get("tablespace") or "pg_default") != "pg_default":  # which needs no right if it is not named
        words.append(f"TABLESPACE {identifier(server['tablespace'])}")
    return " ".join(words)


def create(client: Client, name: str, sql: str) -> None:
    """Run create_sql()'s statement; up to 14 the server waits for a checkpoint in it."""
    client.server_query(sql, about=name, seconds=client.settings.load_stall_seconds)


# The planner looks into index expressions, also to count, and functions in these may need names of the database's own.
# A statement for psql's \gexec: what is asked is known by then, and nothing in another schema is preferred to it.
PATH = """SELECT 0, 'SET search_path = pg_catalog' || coalesce(string_agg(', ' || quote_ident(nspname), ''
    ORDER BY nspname <> 'public', nspname), '')
  FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"""
# A partitioned table brings its partitions with it. A sample of the rows is read, so a large table costs little more
# than one from which all pages are taken: with the default target, 30,000.
_COSTS = """
SELECT c.oid, least(30000, coalesce((SELECT sum(pg_table_size(relid)) FROM pg_partition_tree(c.oid)),
  pg_table_size(c.oid)) / 8192)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE relkind IN ('r', 'm', 'p') AND relpersistence <> 't' AND NOT relispartition ORDER BY 2 DESC, 1
"""
_ANALYZE = f"""SELECT statement FROM ({PATH} UNION ALL
  SELECT 1, format('ANALYZE %I.%I', nspname, relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN ({{oids}})) AS one(turn, statement)
ORDER BY turn
\\gexec
"""


def analyze(client: Client, database: str, seconds: float, sessions: int) -> str:
    """Give the planner its statistics before anybody asks: a dump has none. Return why not, "" where it has them.

    Where an index has an expression that only the database's own sessions can evaluate, autovacuum cannot do it either.
    sessions: how many do it side by side.
    """
    answer = client.query(_COSTS, database=database, seconds=seconds).splitlines()
    shares = shared_out([(line.split("|")[0], int(line.split("|")[1])) for line in answer], sessions)

    def share(oids: list[str]) -> str:
        try:
            client.query(_ANALYZE.replace("{oids}", ", ".join(oids)), database=database, seconds=seconds)
        except Unavailable as error:
            if error.sqlstate[:2] not in _OF_STATEMENTS:
                raise
            return error.message
        return ""

    def share_of_another(oids: list[str]) -> str | None:
        """None where the server has no connection left for it."""
        try:
            return share(oids)
        except Unavailable as error:
            if failures.crowded(error.message):
                return None
            raise

    with ThreadPoolExecutor(max_workers=sessions) as threads:
        others = [(oids, threads.submit(share_of_another, oids)) for oids in shares[1:]]
        said = [share(oids) for oids in shares[:1]]
        for oids, other in others:
            told = other.result()
            said.append(share(oids) if told is None else told)
    return next(filter(None, said), "")


def shared_out(costs: Iterable[tuple[str, int]], sessions: int) -> list[list[str]]:
    """Give each session its share of tables, none of them empty. costs: of each table, dearest first. Pure."""
    shares: list[tuple[int, int, list[str]]] = [(0, number, []) for number in range(sessions)]
    for table, cost in costs:
        least, number, tables = heapq.heappop(shares)
        heapq.heappush(shares, (least + cost + 1, number, [*tables, table]))
    return [tables for _, _, tables in sorted(shares, key=lambda share: share[1]) if tables]
