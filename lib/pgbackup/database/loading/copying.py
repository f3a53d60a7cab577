"""Rows of tables: those that depend on nothing else go to whichever session is free, large tables in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pgbackup.database.loading.early import Early
from pgbackup.database.loading.plain import Name, Tables, name_of
from pgbackup.database.loading.sessions import Crew, Session
from pgbackup.sql import locate
from pgbackup.sql.parts import COPY, ROWS, Part, bare, work_of
from pgbackup.sql.rows import Cutter, Run

# Large enough for a COPY of its own to cost nothing; small enough for rows that come together to stay together in the
# table, and for some pieces to wait in memory.
_PIECE_BYTES = 2 << 20
_MOST_TASKS = 2  # of a session: one at work, one waiting
# Rows that come in the transaction that has emptied their table are written as frozen (manual, COPY, FREEZE): nobody
# has to write them once more. For few rows, a new file for the table costs more than that.
_FREEZE_BYTES = 128 << 10
_END = b"\\.\n"


@dataclass
class _Table:
    """A table that goes to all sessions. session: has the piece that was begun; rows: those that were given before."""

    name: bytes
    statement: bytes
    about: str
    cutter: Cutter
    session: Session
    rows: int = 0
    rows_before: int = 0
    is_frozen: bool = False


class Copying:
    """Takes the COPY, ROWS and ROWS_END parts of a dump, in their order."""

    def __init__(self, crew: Crew, look: Callable[[], Tables], early: Early, *, cuts: bool) -> None:
        """look: says which tables are plain now. cuts: several sessions may fill a table, in another order of rows."""
        self._crew, self._look, self._early, self._cuts = crew, look, early, cuts
        self._plain: set[Name] | None = None  # and not filled yet
        self._copy: Part | None = None  # its rows are still to begin
        self._table: _Table | None = None
        self._about = ""  # what is copied by the main session

    def take(self, part: Part) -> None:
        """Take the next part. Raise as pump() does."""
        if part.kind == COPY:
            self._copy = part
        elif part.kind == ROWS:
            text = self._begun(part.text) if self._copy else part.text
            if self._table:
                self._give(self._table.cutter.take(text))
            else:
                self._crew.main.put_rows(text)
                self._crew.hand_over(self._crew.main, _PIECE_BYTES)
        elif self._table:
            self._give(self._table.cutter.finish(), part.text)
            self._early.given(name_of(self._table.name))
            self._table = None
        else:
            self._crew.main.put(part.text)
            self._crew.main.task(self._about)

    def close(self) -> None:
        """Other statements follow, which may change what tables depend on, or fill them."""
        self._leave_to_main()
        self._plain = set() if self._plain is not None else None

    def _leave_to_main(self) -> None:
        if self._copy:
            self._crew.main.put(self._copy.text)
            self._about = locate.heading(self._copy.text)
        self._copy = None

    def _begun(self, text: bytes) -> bytes:
        """These are the first rows behind the COPY. Return them without the newline that ends its line."""
        copy = self._copy
        assert copy is not None  # noqa: S101  the caller has looked
        work = work_of(copy)
        if self._plain is None:
            self._crew.gather()
            self._plain = set(self._look().plain)
        if not work or not text.startswith(b"\n") or name_of(work.tables[0]) not in self._plain:
            self._crew.gather(but=self._early.rows_before)
            self._leave_to_main()
            return text
        self._plain.remove(name_of(work.tables[0]))
        cutter = Cutter(_PIECE_BYTES, cuts=self._cuts)
        self._table = _Table(work.tables[0], bare(copy.text), locate.heading(copy.text), cutter, self._crew.main)
        self._copy = None
        return text[1:]

    def _give(self, runs: Iterable[Run], end: bytes = _END) -> None:
        """Give the rows of a table to a session. end: the line that ends them."""
        table = self._table
        assert table is not None  # noqa: S101  the caller has looked
        for run in runs:
            if run.begins:
                table.session, table.rows_before = self._freest(), table.rows
                table.is_frozen = run.whole and (not run.ends or sum(map(len, run.texts)) >= _FREEZE_BYTES)
                table.session.put(_head(table))
            for text in run.texts:
                table.rows += table.session.put_rows(text)
            if run.ends:
                table.session.put(end + b"COMMIT;\n" * table.is_frozen)
                table.session.task(table.about, table.rows_before)
            self._crew.hand_over(table.session, _PIECE_BYTES)

    def _freest(self) -> Session:
        """The session that has least to do, when one has room for a piece."""
        sessions = self._crew.everybody()

        free: list[Session] = []

        def is_one_free() -> bool:
            self._early.go_on()
            takers = [each for each in sessions if each not in self._early.running]
            free[:] = [each for each in takers if len(each.tasks) < _MOST_TASKS and each.waiting_bytes <= _PIECE_BYTES]
            return bool(free)

        self._crew.pump(is_one_free)
        return min(free, key=lambda each: (len(each.tasks), each.waiting_bytes))


def _head(table: _Table) -> bytes:
    """What stands before the rows of a piece. Pure."""
    if not table.is_frozen:
        return b"\n%b\n" % table.statement
    copy = table.statement.removesuffix(b";") + b" WITH (FREEZE);"
    return b"\nBEGIN;\nTRUNCATE TABLE ONLY %b;\n%b\n" % (table.name, copy)
