"""The database that a backup is loaded into beside the live one, and what the server can give it."""

from __future__ import annotations

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
# A partitioned table brings its partitions with it. Each session takes the tables in turn, by what does not change
# meanwhile; a large one costs no more than others, for a sample of its rows is read.
_ANALYZE = f"""SELECT statement FROM ({PATH} UNION ALL
  SELECT 1 + turn, format('ANALYZE %I.%I', nspname, relname) FROM (
    SELECT nspname, relname, row_number() OVER (ORDER BY c.oid) AS turn
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'm', 'p') AND relpersistence <> 't' AND NOT relispartition) AS of_all
  WHERE turn % {{count}} = {{number}}) AS one(turn, statement) ORDER BY turn
\\gexec
"""


def analyze(client: Client, database: str, seconds: float, sessions: int) -> str:
    """Give the planner its statistics before anybody asks: a dump has none. Return why not, "" where it has them.

    Where an index has an expression that only the database's own sessions can evaluate, autovacuum cannot do it either.
    sessions: how many do it side by side.
    """

    def share(number: int) -> str:
        try:
            sql = _ANALYZE.replace("{count}", str(sessions)).replace("{number}", str(number))
            client.query(sql, database=database, seconds=seconds)
        except Unavailable as error:
            if error.sqlstate[:2] not in _OF_STATEMENTS:
                raise
            return error.message
        return ""

    def share_of_another(number: int) -> str | None:
        """None where the server has no connection left for it."""
        try:
            return share(number)
        except Unavailable as error:
            if failures.crowded(error.message):
                return None
            raise

    with ThreadPoolExecutor(max_workers=sessions) as threads:
        others = [threads.submit(share_of_another, number) for number in range(1, sessions)]
        said = [share(0)]
        for number, other in enumerate(others, 1):
            told = other.result()
            said.append(share(number) if told is None else told)
    return next(filter(None, said), "")
