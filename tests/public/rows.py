"""A few rows for each table of a schema that came without any, so that its restore has something to lose.

A row is a guess: by the column's type, a value of the referenced table for a foreign key. What the schema refuses
(a check, a trigger) is left out, first the columns that need no value, then the row.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

ROWS = 3
LIMITS = "SET statement_timeout = '10s'; SET lock_timeout = '2s'"

_TABLES = """
SELECT c.oid, n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p') AND NOT relispartition AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype = 'e')
ORDER BY 2, 3
"""
_COLUMNS = """
SELECT attname, attnotnull AND NOT atthasdef AND attidentity = '', coalesce(base.typname, of.typname),
       coalesce(base.typtype, of.typtype), coalesce(base.typcategory, of.typcategory),
       coalesce(nullif(of.typtypmod, -1), atttypmod), format_type(coalesce(base.oid, of.oid), NULL),
       (SELECT enumlabel FROM pg_enum WHERE enumtypid = coalesce(base.oid, of.oid) ORDER BY enumsortorder LIMIT 1)
FROM pg_attribute JOIN pg_type AS of ON of.oid = atttypid LEFT JOIN pg_type AS base ON base.oid = of.typbasetype
WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''
AND (NOT atthasdef OR NOT attnotnull) ORDER BY attnum
"""
_REFERENCES = """
SELECT a.attname, confrelid::regclass::text, quote_ident(b.attname) FROM pg_constraint
JOIN LATERAL unnest(conkey, confkey) AS pair (here, there) ON true
JOIN pg_attribute AS a ON a.attrelid = conrelid AND a.attnum = here
JOIN pg_attribute AS b ON b.attrelid = confrelid AND b.attnum = there
WHERE contype = 'f' AND conrelid = %s
"""
_VIEWS = """
SELECT c.oid::regclass::text FROM pg_class AS c WHERE relkind = 'm' AND relispopulated ORDER BY c.oid
"""
_Column = tuple[str, bool, str, str, str, int, str, str | None]  # as _COLUMNS selects it
# Type -> an expression in which %(n)s is the number of the row.
_VALUES = {
    "bool": "%(n)s % 2 = 0",
    "uuid": "md5(%(n)s::text)::uuid",
    "json": """'{"row": %(n)s}'""",
    "jsonb": """'{"row": %(n)s}'""",
    "bytea": r"'\x00ff0%(n)s'",
    "inet": "'192.0.2.%(n)s'",
    "cidr": "'192.0.2.%(n)s/32'",
    "macaddr": "'08:00:2b:01:02:0%(n)s'",
    "interval": "'%(n)s days'",
    "time": "'12:00:0%(n)s'",
    "timetz": "'12:00:0%(n)s+02'",
    "tsvector": "'row %(n)s'",
    "hstore": "'row=>%(n)s'",
    "ltree": "'top.row%(n)s'",
    "point": "'(%(n)s,%(n)s)'",
    "box": "'(%(n)s,%(n)s),(0,0)'",
    "bit": "B'%(n)s'",
    "xml": "'<row/>'",
}


def added(session: psycopg.Connection) -> int:
    """Add rows to every empty table that takes them, referenced tables first; return how many it took."""
    session.execute(LIMITS)
    tables = session.execute(_TABLES).fetchall()
    waiting = [(oid, sql.Identifier(schema, name)) for oid, schema, name in tables]
    total = 0
    for _ in range(3):  # what a table refers to may come behind it
        refused = []
        for oid, name in waiting:
            if taken := _rows_of(session, oid, name):
                total += taken
            else:
                refused.append((oid, name))
        waiting = refused
    for (view,) in session.execute(_VIEWS).fetchall():  # a restore computes them anew
        _done(session, sql.SQL(f"REFRESH MATERIALIZED VIEW {view}"))
    return total


def _rows_of(session: psycopg.Connection, oid: int, name: sql.Identifier) -> int:
    try:
        if session.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(name)).fetchall():
            return 1
        columns = session.execute(_COLUMNS, [oid]).fetchall()
        references = {column: (table, key) for column, table, key in session.execute(_REFERENCES, [oid])}
    except psycopg.Error:
        return 0
    taken = 0
    for number in range(1, ROWS + 1):
        for only_needed in (False, True):
            chosen = [of for of in columns if of[1] or not only_needed]
            if _done(session, _insert(name, chosen, references, number)):
                taken += 1
                break
    return taken


def _done(session: psycopg.Connection, statement: sql.SQL | sql.Composed) -> bool:
    try:
        session.execute(statement)
    except psycopg.Error:
        return False
    return True


def _insert(
    name: sql.Identifier, columns: list[_Column], references: dict[str, tuple[str, str]], number: int
) -> sql.Composed:
    if not columns:
        return sql.SQL("INSERT INTO {} DEFAULT VALUES").format(name)
    names = sql.SQL(", ").join(sql.Identifier(of[0]) for of in columns)
    values = sql.SQL(", ".join(_values(columns, references, number)))
    return sql.SQL("INSERT INTO {} ({}) SELECT {}").format(name, names, values)


def _values(columns: list[_Column], references: dict[str, tuple[str, str]], number: int) -> Iterator[str]:
    for column, _, type_name, kind, category, modifier, full, label in columns:
        if column in references:
            table, key = references[column]
            yield f"(SELECT {key} FROM {table} ORDER BY 1 OFFSET {number - 1} LIMIT 1)"
        else:
            yield _value(type_name, kind, category, modifier, label, number) + f"::{full}"


def _value(type_name: str, kind: str, category: str, modifier: int, label: str | None, number: int) -> str:
    if kind == "e":
        return "'" + (label or "").replace("'", "''") + "'"
    if category == "A":
        return "'{}'"
    if kind in "rm":
        return "'empty'" if kind == "r" else "'{}'"
    if type_name in _VALUES:
        return _VALUES[type_name].replace("%(n)s", str(number))
    if category == "N":
        return str(number)
    if category == "D":
        return f"'2024-02-0{number} 12:00:00'"
    text = f"row {number} \\\\ \\t é"
    length = modifier - 4 if modifier > 4 else len(text)
    return "E'" + (f"{number}" if length < len(text) else text) + "'"
