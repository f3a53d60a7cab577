"""Indexes and keys side by side: what takes longest begins first, and what a table's lock forbids waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pgbackup.database.loading.plain import Name, Tables, name_of
from pgbackup.database.loading.sessions import Session, pump
from pgbackup.sql import locate
from pgbackup.sql.parts import INDEX, KEY, Part, work_of

# How much longer an index of that method takes than a btree of as many rows, as far as one can say.
_DEARER = {"gin": 8.0, "gist": 6.0, "spgist": 4.0, "brin": 0.2}


@dataclass(frozen=True)
class Item:
    """One statement. tables: that it locks; shared: so that others of its kind may have the same lock."""

    text: bytes
    about: str
    tables: frozenset[Name]
    shared: bool
    cost: float


def item(part: Part, tables: Tables, rows: Mapping[Name, int]) -> Item | None:
    """Return what is to be done, None for what must keep its place. Pure.

    Building an index takes no more than a lock that others like it may have too; a key takes its table for itself, a
    foreign key both of them (manual, 13.3 and the pages of the statements).
    """
    work = work_of(part)
    if work is None:
        return None
    names = frozenset(map(name_of, work.tables))
    if part.kind != INDEX and not names <= tables.alone:
        return None
    cost = max(rows.get(name, 0) for name in names) * _DEARER.get(work.method, 1.0)
    return Item(part.text, locate.heading(part.text), names, part.kind == INDEX, cost)


def order(items: Iterable[tuple[Part, Item]]) -> list[Item]:
    """The order in which they are begun: keys first, for they would wait for all indexes of their table. Pure."""
    return [each for _, each in sorted(items, key=lambda one: (one[0].kind != KEY, -one[1].cost))]


def next_of(waiting: Sequence[Item], running: Iterable[Item]) -> Item | None:
    """The first that need not wait for a lock of one that is running, None if they all must. Pure."""
    busy = list(running)
    for one in waiting:
        if all((one.shared and other.shared) or not one.tables & other.tables for other in busy):
            return one
    return None


def run(items: list[Item], sessions: Sequence[Session], already: Mapping[Session, Item]) -> None:
    """Run them all, in that order as far as locks allow. already: what is running. Raise as pump() does."""
    running = dict(already)
    waiting = list(items)
    while waiting or running:
        for session in [each for each in running if each.is_idle]:
            del running[session]
        for session in sessions:
            if session not in running and (chosen := next_of(waiting, running.values())):
                waiting.remove(chosen)
                running[session] = chosen
                session.put(chosen.text + b"\n")
                session.task(chosen.about)
        if running:
            pump(sessions, lambda: any(session.is_idle for session in running))
