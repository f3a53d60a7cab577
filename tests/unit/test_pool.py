"""In which order indexes and keys are begun, and which of them may be at work at once."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from pgbackup.database.loading.plain import Name, Tables
from pgbackup.database.loading.pool import Item, item, next_of, order
from pgbackup.sql.parts import FOREIGN_KEY, INDEX, KEY, Part

BIG, SMALL, LEAF = ("public", "big"), ("public", "small"), ("public", "leaf")
TABLES = Tables(plain=frozenset(), alone=frozenset({BIG, SMALL}))
ROWS: dict[Name, int] = {BIG: 1000, SMALL: 10, LEAF: 500}


def made(kind: str, statement: str) -> tuple[Part, Item | None]:
    part = Part(statement.encode(), kind)
    return part, item(part, TABLES, ROWS)


def key(table: str) -> tuple[Part, Item | None]:
    return made(KEY, f"ALTER TABLE ONLY public.{table}\n    ADD CONSTRAINT k PRIMARY KEY (a);")


def index(table: str, method: str = "btree") -> tuple[Part, Item | None]:
    return made(INDEX, f"CREATE INDEX i ON public.{table} USING {method} (a);")


def foreign_key(table: str, other: str) -> tuple[Part, Item | None]:
    return made(
        FOREIGN_KEY, f"ALTER TABLE ONLY public.{table}\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES {other}(a);"
    )


def test_the_dearest_begins_first_and_keys_before_indexes() -> None:
    run = [index("small"), key("small"), index("big"), index("big", "gin"), index("leaf", "gin"), key("big")]
    sure = [(part, found) for part, found in run if found]
    assert len(sure) == len(run)
    assert [each.cost for each in order(sure)] == [1000, 10, 8000, 4000, 1000, 10]


def test_what_may_lock_other_tables_keeps_its_place() -> None:
    """A key of a partition or of a parent locks the others of its tree."""
    assert key("leaf")[1] is None
    assert foreign_key("small", "public.leaf")[1] is None
    assert foreign_key("small", "public.big")[1] is not None
    assert index("leaf")[1] is not None


@given(st.lists(st.sampled_from(["i big", "i small", "i leaf", "k big", "k small", "f"]), max_size=8))
def test_no_two_are_at_work_that_would_wait_for_each_other(names: list[str]) -> None:
    kinds = {"i": lambda table: index(table), "k": lambda table: key(table)}
    items = [
        found
        for name in names
        if (found := (foreign_key("small", "public.big") if name == "f" else kinds[name[0]](name[2:]))[1])
    ]
    running: list[Item] = []
    while chosen := next_of(items, running):
        items.remove(chosen)
        running.append(chosen)
    for one, other in itertools.combinations(running, 2):
        assert (one.shared and other.shared) or not one.tables & other.tables
    assert not items or running
