"""Indexes that begin as soon as their table is whole, while rows of other tables still come.

Known beforehand from a file that was read through; see ready_made(). Where that is not so, all indexes wait for the
last row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pgbackup.database.loading import pool
from pgbackup.database.loading.plain import Name, Tables, name_of
from pgbackup.database.loading.pool import Item
from pgbackup.database.loading.sessions import Crew, Session
from pgbackup.sql import naming
from pgbackup.sql.outline import Outline
from pgbackup.sql.parts import INDEX, Part, index_of

# What names it in front of a statement, see locate.py.
_HEADING = "-- Name: {entry.name}; Type: {entry.kind}; Schema: {entry.schema}; Owner: -\n"


def ready_made(outline: Outline) -> list[Part]:
    """Return the indexes of a dump that was read through and may begin before their turn. Pure."""
    found = []
    for entry in outline.indexes():
        index = index_of(entry.text) if entry.text else None
        if entry.text and index and index.is_bare:
            found.append(Part(_HEADING.format(entry=entry).encode("utf-8", "replace") + entry.text, INDEX))
    return found


class Early:
    """The early indexes of one load."""

    def __init__(self, crew: Crew, indexes: Iterable[Part], rows: Mapping[str, int]) -> None:
        """indexes: see ready_made(). rows: how many each table has, as far as the dump has come."""
        self._crew, self._rows = crew, rows
        self._of: dict[Name, list[Part]] = {}
        for part in indexes:
            if found := index_of(part.text):
                self._of.setdefault(name_of(found.table), []).append(part)
        self._given: list[tuple[Name, dict[Session, int]]] = []  # tables, and when each session has done its part
        self._ready: list[Item] = []
        self._begun: set[bytes] = set()
        self.running: dict[Session, Item] = {}
        self._rows_before: dict[Session, int] = {}

    @property
    def rows_before(self) -> dict[Session, int]:
        """The sessions that are at an index, and how many tasks they had been given before: rows."""
        return {session: self._rows_before[session] for session in self.running}

    def given(self, table: Name) -> None:
        """All rows of a table that depends on nothing else were given to sessions."""
        if table in self._of:
            self._given.append((table, {session: session.asked for session in self._crew.members}))

    def go_on(self) -> None:
        """Begin what can begin: in all sessions but the main one, for somebody has to take the rows."""
        for session in [each for each in self.running if each.is_idle]:
            del self.running[session]
        rows: dict[Name, int] | None = None
        for table, asked in list(self._given):
            if all(session.has_done(number) for session, number in asked.items()):
                rows = rows or {naming.parts(name): count for name, count in self._rows.items()}
                self._given.remove((table, asked))
                items = [pool.item(part, Tables(), rows) for part in self._of.pop(table)]
                self._ready = sorted([*self._ready, *filter(None, items)], key=lambda item: item.cost)
        if not self._crew.has_default("default_tablespace"):
            return
        free = [session for session in self._crew.members[1:] if session not in self.running]
        for session in sorted(free, key=lambda each: (len(each.tasks), each.waiting_bytes)):
            if self._ready:
                self._begin(self._ready.pop(), session)

    def _begin(self, item: Item, session: Session) -> None:
        found = index_of(item.text)
        assert found is not None  # noqa: S101  no others are taken
        self._begun.add(found.name)
        self.running[session], self._rows_before[session] = item, session.asked
        session.put(b"\n%b\n" % item.text)
        session.task(item.about)

    def has(self, part: Part) -> bool:
        """Whether an index of the dump was begun already."""
        found = index_of(part.text)
        return found is not None and found.name in self._begun
