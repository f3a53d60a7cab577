"""Which tables may be filled in any order: none of whose rows look at others when they come in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import psycopg
import pytest
from pgbackup.database.clients.client import Client
from pgbackup.database.loading import plain

from demo import servers as demo_servers

SHARED = """
CREATE TYPE state AS ENUM ('new', 'paid');
CREATE TYPE pair AS (a int, b int);
CREATE TYPE span AS RANGE (subtype = int);
CREATE TABLE limits (top int);
CREATE FUNCTION ok(x int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN RETURN x <= (SELECT top FROM public.limits); END $$;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO limits VALUES (1); RETURN NEW; END $$;
CREATE FUNCTION same(state, state) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR === (LEFTARG = state, RIGHTARG = state, FUNCTION = same);
CREATE DOMAIN limited AS int CHECK (ok(VALUE));
CREATE DOMAIN of_limited AS limited;
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
"""
PLAIN = {
    "limits": "",
    "of the server's own types": "(a int, b timestamptz, c numeric(5, 2), d jsonb, e text[], f int4range, g xml)",
    "a CHECK of immutable functions": "(a text CHECK (length(a) < 5 AND a ~ '^x' AND a IN ('x', 'xy')))",
    "a CHECK of the time zone": "(a timestamptz CHECK (a > '2000-01-01'::date AND date_trunc('day', a) < now()))",
    "an enum": "(a state CHECK (a = ANY (ARRAY['new'::state, 'paid'::state])), b state[])",
    "a domain of immutable functions": "(a positive, b positive[])",
    "a generated column": "(a int, b int GENERATED ALWAYS AS (a * 2) STORED, c int GENERATED ALWAYS AS IDENTITY)",
    "a default that is not used": "(a int DEFAULT ok(1)::int)",
    "unlogged": "(a int)",
    "nothing": "()",
    'odd "names".x|y': '("a|b" int)',
    "leaf": "PARTITION OF root FOR VALUES FROM (0) TO (10)",
}
ODD = {
    "a CHECK of a function": "(a int CHECK (ok(a)))",
    "a CHECK of an operator": "(a state CHECK (a === 'new'))",
    "a CHECK of a volatile function": "(a text CHECK (random() < 2))",
    "a CHECK that may read anything": "(a text CHECK (table_to_xml(a, true, true, '') IS NOT NULL))",
    "a CHECK by way of a cast": "(a text CHECK (a::limited > 0))",
    "a domain of a function": "(a limited)",
    "a domain of a domain": "(a of_limited[])",
    "a generated column of a function": "(a int, b bool GENERATED ALWAYS AS (ok(a)) STORED)",
    "a composite": "(a pair)",
    "a range": "(a span)",
    "an index": "(a int PRIMARY KEY)",
    "a trigger": "(a int)",
    "a rule": "(a int)",
    "row security": "(a int)",
    "rows": "(a int)",
    "leaf of an expression": "PARTITION OF root_of_expression FOR VALUES FROM (0) TO (10)",
}
BEHIND = """
CREATE TRIGGER t BEFORE INSERT ON "a trigger" FOR EACH ROW EXECUTE FUNCTION note();
CREATE RULE r AS ON INSERT TO "a rule" DO ALSO INSERT INTO limits VALUES (1);
ALTER TABLE "row security" ENABLE ROW LEVEL SECURITY;
INSERT INTO rows VALUES (1);
CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent);
"""


@pytest.fixture(scope="module")
def tables(embedded: demo_servers.Server) -> Iterator[plain.Tables]:
    with psycopg.connect(embedded.url("postgres"), autocommit=True) as session:
        session.execute("CREATE DATABASE plain")
    with psycopg.connect(embedded.url("plain"), autocommit=True) as session:
        session.execute(SHARED)
        session.execute("CREATE TABLE root (a int) PARTITION BY RANGE (a)")
        session.execute("CREATE TABLE root_of_expression (a int) PARTITION BY RANGE ((ok(a)::int))")
        for name, columns in {**PLAIN, **ODD}.items():
            quoted = name.replace('"', '""')
            if columns:
                unlogged = "UNLOGGED" if name == "unlogged" else ""
                session.execute(f'CREATE {unlogged} TABLE "{quoted}" {columns}'.encode())
        session.execute(BEHIND)
        session.execute("SET search_path = pg_catalog")

        class Asking:
            def query(self, sql: str, **_: Any) -> str:
                cursor = session.execute(sql.encode())
                lines = [str(line) for (line,) in cursor.fetchall()]
                while cursor.nextset():
                    lines += [str(line) for (line,) in cursor.fetchall()]
                return "\n".join(lines)

        yield plain.ask(cast(Client, Asking()), "plain", 10)


@pytest.mark.fault(245, "rows that look at other tables when they come in")
def test_only_tables_whose_rows_look_at_nothing_are_plain(tables: plain.Tables) -> None:
    assert tables.plain == {("public", name) for name in [*PLAIN, "parent", "child"]}


def test_neither_partitions_nor_parents_are_alone(tables: plain.Tables) -> None:
    of_a_tree = {"leaf", "leaf of an expression", "parent", "child"}
    assert tables.alone == {("public", name) for name in [*PLAIN, *ODD] if name not in of_a_tree}


def test_there_is_room_for_half_of_the_connections_that_are_left(tables: plain.Tables) -> None:
    assert 0 < tables.room < 50


def test_names_are_found_as_a_dump_spells_them(tables: plain.Tables) -> None:
    assert plain.name_of(b'public."odd ""names"".x|y"') in tables.plain
