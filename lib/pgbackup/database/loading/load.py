"""Loads a dump into a database with psql, in several sessions side by side where they cannot get in each other's way.

All keeps the dump's order, in the main session, but for rows of tables that depend on nothing else (copying.py), and
for runs of indexes and keys (pool.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from itertools import groupby
from typing import Any

from pgbackup.database.clients import session
from pgbackup.database.clients.client import Client
from pgbackup.database.loading import plain, pool, psql, sessions
from pgbackup.database.loading.copying import Copying
from pgbackup.database.loading.early import Early
from pgbackup.database.loading.plain import Name, Tables
from pgbackup.database.loading.pool import Item
from pgbackup.database.loading.sessions import Crew
from pgbackup.sql import naming
from pgbackup.sql.naming import literal
from pgbackup.sql.parts import (
    CONFIGURATION,
    COPY,
    EVENT_TRIGGER,
    FOREIGN_KEY,
    INDEX,
    KEY,
    ROWS,
    ROWS_END,
    SETTING,
    Part,
)

_CONFIGURATION = (
    "SELECT pg_catalog.set_config('default_text_search_config', {value}, false) FROM pg_catalog.pg_ts_config c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace"
    " WHERE pg_catalog.format('%I.%I', n.nspname, c.cfgname) OPERATOR(pg_catalog.=) {value};"
)
_WAITING_BYTES = 1 << 20  # of statements in a run, or for the main session
_MAIN, _COPIES, _INDEXES, _FOREIGN_KEYS = "main", "copies", "indexes", "foreign keys"
_PHASES = {COPY: _COPIES, ROWS: _COPIES, ROWS_END: _COPIES, INDEX: _INDEXES, KEY: _INDEXES, FOREIGN_KEY: _FOREIGN_KEYS}

Timed = Callable[[str], AbstractContextManager[None]]


def untimed(_phase: str) -> AbstractContextManager[None]:
    """For whom it does not matter how long a phase takes."""
    return nullcontext()


def load(
    client: Client,
    database: str,
    parts: Iterable[Part],
    server: Mapping[str, Any],
    *,
    restricts: bool,
    rows: Mapping[str, int],
    early: Sequence[Part] = (),
    keeps_order: bool = False,
    timed: Timed = untimed,
) -> None:
    """Feed the parts of a guarded dump to RESTORE_JOBS sessions of psql. Raise when one fails, or what `parts` raises.

    server: where the dump comes from, as facts.gather() says it: its sessions' settings are the load's. rows: how many
    each table has, as far as the parts were taken. keeps_order: of rows within a table; a table is then filled by one
    session. timed: takes the time of the phases `load` and `indexes`.

    early: indexes that may begin before their turn, see early.ready_made().

    A failure in one session ends all.
    """
    opening = partial(sessions.opened, client, psql.arguments(client, database, server), restricts)
    configuration = session.origin(server).get(session.TEXT_SEARCH, "")
    with ExitStack() as stack:
        crew = Crew(opening, stack)
        loading = _Loading(client, database, crew, rows, early, cuts=not keeps_order and psql.jobs(client) > 1)
        for phase, group in groupby(completed(parts, configuration), lambda part: _PHASES.get(part.kind, _MAIN)):
            with timed("load" if phase in (_MAIN, _COPIES) else "indexes"):
                loading.take(phase, group)
        with timed("load"):
            crew.gather()


class _Loading:
    """A load, phase by phase."""

    def __init__(
        self,
        client: Client,
        database: str,
        crew: Crew,
        rows: Mapping[str, int],
        early: Sequence[Part],
        *,
        cuts: bool,
    ) -> None:
        self._client, self._database, self._crew, self._rows = client, database, crew, rows
        self._tables = Tables()
        self._early = Early(crew, early, rows)
        self._copying = Copying(crew, self._look, self._early, cuts=cuts)

    def take(self, phase: str, parts: Iterable[Part]) -> None:
        """Take all parts of a phase."""
        if phase == _COPIES:
            for part in parts:
                self._copying.take(part)
            return
        self._crew.gather(but=self._early.rows_before)
        self._copying.close()
        if phase == _MAIN:
            for part in parts:
                self._main(part)
        else:
            self._side_by_side(parts)
            self._crew.gather()

    def _look(self) -> Tables:
        self._tables = plain.ask(self._client, self._database, float(self._client.settings.load_stall_seconds))
        self._crew.most = min(psql.jobs(self._client), 1 + self._tables.room)
        return self._tables

    def _main(self, part: Part) -> None:
        if part.kind == SETTING:
            self._crew.set(part.text)
        else:
            self._crew.main.put(part.text)
            self._crew.hand_over(self._crew.main, _WAITING_BYTES)

    def _side_by_side(self, parts: Iterable[Part]) -> None:
        """Run indexes and keys; what may have to keep its place does so."""
        rows: dict[Name, int] = {naming.parts(name): count for name, count in self._rows.items()}
        run: list[tuple[Part, Item]] = []
        run_bytes = 0
        for part in parts:
            if self._early.has(part):
                continue
            item = pool.item(part, self._tables, rows)
            if not item or run_bytes > _WAITING_BYTES:
                self._run(run)
                run, run_bytes = [], 0
            if item:
                run.append((part, item))
                run_bytes += len(part.text)
            else:
                self._main(part)
        self._run(run)

    def _run(self, run: list[tuple[Part, Item]]) -> None:
        if run:
            self._crew.gather(but=self._early.rows_before)
            pool.run(pool.order(run), self._crew.everybody(), self._early.running)


def completed(parts: Iterable[Part], configuration: str) -> Iterator[Part]:
    """Give the parts in the order in which they are loaded, and settings that are not in the dump.

    Event triggers come last: what the load does would set them off, and it is no act of the database's users.
    configuration: for text searches, if it is not built in the session gets it when the dump has made it.
    """
    held = []
    for part in parts:
        if part.kind == EVENT_TRIGGER:
            held.append(part)
            continue
        yield part
        if part.kind == CONFIGURATION and configuration:
            value = literal(configuration)
            yield Part(f" {_CONFIGURATION.replace('{value}', value)}".encode(), SETTING)  # lines keep their numbers
    yield from held
