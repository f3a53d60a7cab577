"""Which indexes may begin before their turn, and how tables are shared out for statistics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup.database.loading import early, pool, scratch
from pgbackup.database.loading.plain import Tables
from pgbackup.sql.outline import Outline
from pgbackup.sql.parts import INDEX, Part, index_of

PLAIN = "CREATE INDEX i ON public.t USING gin (a jsonb_path_ops, b DESC);"


def read(statement: str, rest: str = "Owner: shop") -> list[Part]:
    outline = Outline()
    outline.take(memoryview(f"--\n-- Name: i; Type: INDEX; Schema: public; {rest}\n--\n\n{statement}\n\n\n".encode()))
    outline.finish()
    return early.ready_made(outline)


@pytest.mark.parametrize(
    "statement",
    [
        PLAIN,
        "CREATE UNIQUE INDEX i ON public.t USING btree (a);",
        'CREATE INDEX "I x" ON "S".t USING btree (a COLLATE "C" NULLS FIRST);',
    ],
)
def test_an_index_on_columns_may_begin_early_and_is_known_again_in_its_place(statement: str) -> None:
    (part,) = read(statement)
    again = Part(f"\n\n--\n-- Name: other; Type: X; Schema: y; Owner: z\n--\n\n{statement}".encode(), INDEX)
    assert index_of(again.text) == index_of(part.text) is not None
    found = pool.item(part, Tables(), {})
    assert found
    assert found.about == "INDEX i in schema public"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX i ON public.t USING btree (lower(a));",
        "CREATE INDEX i ON public.t USING btree (a) WHERE public.f(a);",
        "CREATE INDEX i ON public.t USING gin (a public.gin_trgm_ops);",
        "CREATE INDEX i ON ONLY public.t USING btree (a);",
        "CREATE INDEX i ON public.t USING btree (a);\n\nALTER TABLE public.t CLUSTER ON i;",
        "CREATE INDEX i ON t USING btree (a);",
    ],
)
def test_what_depends_on_more_waits_for_its_turn(statement: str) -> None:
    assert read(statement) == []


def test_what_lies_in_a_tablespace_of_its_own_waits_for_its_turn() -> None:
    assert read(PLAIN, "Owner: shop; Tablespace: fast") == []


@given(st.lists(st.integers(0, 30_000), max_size=40), st.integers(1, 8))
def test_every_table_is_in_one_share_and_no_share_is_much_dearer(costs: list[int], sessions: int) -> None:
    tables = {str(number): cost for number, cost in enumerate(sorted(costs, reverse=True))}
    shares = scratch.shared_out(tables.items(), sessions)
    assert sorted(table for share in shares for table in share) == sorted(tables)
    assert all(shares)
    assert len(shares) <= sessions
    dearest = [sum(tables[table] + 1 for table in share) for share in shares]
    assert max(dearest, default=0) <= sum(dearest) / sessions + max(costs, default=0) + 1
