"""What a database that was just loaded says of itself: indexes, constraints, sequences, and what amcheck finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pgbackup import proc
from pgbackup.database.clients import failures
from pgbackup.database.clients.client import Client, conninfo

_CORRUPT = 2  # pg_amcheck's exit status where it has found corruption (manual, pg_amcheck)
_OF_USERS = "nspname !~ '^pg_' AND nspname <> 'information_schema'"
# A partitioned index whose partitions are not all attached is as it was dumped.
_UNUSABLE = f"""
SELECT 'index ' || indexrelid::regclass || ' is not usable' FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'i' AND NOT (indisvalid AND indisready AND indislive) AND {_OF_USERS}
"""
_NOT_VALID = f"""
SELECT 'constraint ' || quote_ident(conname) || coalesce(' of ' || nullif(conrelid, 0)::regclass, '') || ' is not valid'
FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE NOT convalidated AND {_OF_USERS}
"""
# What the next INSERT would collide with.
_BEHIND = f"""
SELECT format('SELECT %L FROM %s HAVING max(%I) > %s', format('sequence %s stands at %s, and %s.%s holds more',
    s.oid::regclass, value, t.oid::regclass, quote_ident(a.attname)), t.oid::regclass, a.attname, value)
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
JOIN pg_class t ON t.oid = d.refobjid JOIN pg_sequences q ON q.schemaname = nspname AND q.sequencename = s.relname
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
CROSS JOIN LATERAL (SELECT coalesce(q.last_value, q.start_value - 1) AS value) AS v
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
  AND t.relkind IN ('r', 'p') AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
  AND q.increment_by > 0 AND {_OF_USERS}
\\gexec
"""
_AVAILABLE = "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'"


def unusable_indexes(client: Client, seconds: float) -> list[str]:
    """Indexes that no query can use, a sentence each."""
    return client.query(_UNUSABLE, seconds=seconds).splitlines()


def not_valid(client: Client, seconds: float) -> list[str]:
    """Constraints that nobody has checked for the rows that are there, a sentence each."""
    return client.query(_NOT_VALID, seconds=seconds).splitlines()


def behind(client: Client, seconds: float) -> list[str]:
    """Sequences that would next give a value which their column may already have, a sentence each."""
    return client.query(_BEHIND, seconds=seconds).splitlines()


def of_extensions(client: Client, seconds: float) -> set[str]:
    """The tables that belong to extensions, as COPY spells them."""
    sql = (
        "SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'"
    )
    return set(client.query(sql, seconds=seconds).splitlines())


def has_amcheck(client: Client) -> bool:
    """Whether the server can make the extension amcheck."""
    return client.query(_AVAILABLE) == "1"


def corrupt(client: Client, server: Callable[[Sequence[str]], list[str]], seconds: float) -> str:
    """Let pg_amcheck read all tables and indexes; return what it found first, "" for nothing.

    server: given a program, the argument list that runs it. Raise what a failure of the program means.
    """
    where = conninfo(client.connection, client.target.database, client.run.application_name)
    program = ["pg_amcheck", "--no-password", "--install-missing", where]
    finished = proc.run(server(program), seconds=seconds)
    said = finished.stdout.decode("utf-8", "replace").strip()
    if finished.status == _CORRUPT:
        return " ".join(said.split())[:300]
    if finished.status != 0:
        raise failures.explained(finished.stderr, finished.status, "pg_amcheck", client.target)
    return ""
