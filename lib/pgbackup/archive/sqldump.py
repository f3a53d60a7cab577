"""Reads what pg_dump writes while it flows by: exact row counts, statements, and whether it is all there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pgbackup.archive.sqllexer import Lexer

_COPY_KEEP_BYTES = 4
_TAIL_BYTES = 1024
_LONGEST_COPY_HEAD = 4 << 20
_COPY = re.compile(rb"COPY (?P<table>.+?)(?: \((?P<columns>.*)\))? FROM stdin;", re.DOTALL)
_NAME = re.compile(rb'(?:"(?:[^"]|"")*"|[^\s".(]+)(?:\.(?:"(?:[^"]|"")*"|[^\s".(]+))?')
_INSERT = re.compile(rb"INSERT INTO (?P<table>" + _NAME.pattern + rb") ")
_TABLE = re.compile(rb"CREATE (?:UNLOGGED |FOREIGN )?TABLE ")
_OLD_STRINGS = re.compile(rb"SET standard_conforming_strings = '?(on|off)'?\s*;")
_VERSION = re.compile(rb"-- Dumped (from database|by pg_dump) version ([^\n]+)")
# The completion comment, since 2025 followed by `\unrestrict KEY`; nothing else but blank lines.
_END = re.compile(rb"(?:\A|\n)--\r?\n-- PostgreSQL database dump complete\r?\n--\s*(?:\\unrestrict [A-Za-z0-9]+\s*)?\Z")


@dataclass
class DumpScanner:
    """Counts what is in a plain dump. Feed it every byte in any pieces, then call finish().

    rows: rows per table, named as the COPY statement spells it, quotes included. With `pg_dump --inserts`
    one per INSERT statement. tables: CREATE TABLE statements. complete: the text ended at the top level
    and its last lines are pg_dump's own completion comment.
    """

    rows: dict[str, int] = field(default_factory=dict)
    statements: int = 0
    tables: int = 0
    sql_bytes: int = 0
    complete: bool = False
    server_version: str = ""
    pg_dump_version: str = ""
    _carry: bytes = b""
    _tail: bytes = b""
    _copying: str | None = None
    _head: bytes = b""
    _head_from: int = 0
    _lexer: Lexer = field(init=False)

    def __post_init__(self) -> None:
        self._lexer = Lexer(self._mark)

    @property
    def state(self) -> str:
        """Where the text stands now, for a message: `at the top level`, `in COPY data of public.users`, …"""
        if self._copying is not None:
            return f"in COPY data of {self._copying}"
        return f"in a {self._lexer.inside}" if self._lexer.inside else "at the top level"

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the dump, of any length."""
        if self.sql_bytes == 0:
            self._read_versions(chunk)
        self.sql_bytes += len(chunk)
        self._tail = (self._tail + chunk[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        self._advance(self._carry + chunk if self._carry else chunk, final=False)

    def finish(self) -> None:
        """Say that the dump has ended. Afterwards `complete` is decided."""
        self._advance(self._carry, final=True)
        at_top = self._copying is None and not self._lexer.inside
        self.complete = at_top and _END.search(self._tail) is not None

    def _advance(self, data: bytes, *, final: bool) -> None:
        position = 0
        while position < len(data):
            before = position
            if self._copying is not None:
                position = self._copy_data(data, position, final)
            else:
                position = self._sql(data, position, final)
            if position == before:
                break
        self._carry = data[position:]

    def _copy_data(self, data: bytes, position: int, final: bool) -> int:
        r"""Count newlines up to the line `\.`. Every row of the text format is exactly one line.

        PostgreSQL manual, COPY, File Formats, Text Format: newlines in data are written as `\n`.
        The data is entered at the newline that ends the COPY statement, so every row begins behind one.
        """
        assert self._copying is not None  # noqa: S101  the caller has looked
        at = position
        while True:
            at = data.find(b"\n\\.", at)
            if at < 0:
                end = len(data) if final else max(position, len(data) - _COPY_KEEP_BYTES)
                self.rows[self._copying] += data.count(b"\n", position, end)
                return end
            after = data[at + 3 : at + 5]
            if after[:1] == b"\n" or after == b"\r\n" or (final and after in (b"", b"\r")):
                break
            if len(after) < 2 and not final:
                self.rows[self._copying] += data.count(b"\n", position, at)
                return at
            at += 3
        self.rows[self._copying] += data.count(b"\n", position, at)
        self._copying = None
        return at + 3

    def _sql(self, data: bytes, position: int, final: bool) -> int:
        self._head_from = position
        reached = self._lexer.walk(data, position, final)
        if self._copying is None:
            self._keep_head(data, reached)
        return reached

    def _keep_head(self, data: bytes, until: int) -> None:
        """Remember how the present statement begins; all of it only where it may be a COPY."""
        limit = _LONGEST_COPY_HEAD if self._head.startswith(b"COPY ") else 128
        if len(self._head) < limit:
            self._head += data[self._head_from : min(until, self._head_from + limit)]
            self._head = self._head.lstrip()
        self._head_from = until

    def _mark(self, data: bytes, start: int, end: int) -> None:
        token = data[start:end]
        if token == b";":
            self._keep_head(data, end)
            self._statement(self._head)
            self._head = b""
        elif token == b"\n" and (not self._head.strip() or self._head.startswith(b"--")):
            # Comments and blank lines between statements are not the beginning of one.
            self._keep_head(data, end)
            if not self._head or self._head.startswith(b"--"):
                self._head = b""

    def _statement(self, head: bytes) -> None:
        self.statements += 1
        if head.startswith(b"COPY "):
            found = _COPY.fullmatch(head)
            if found:
                name = _NAME.match(found["table"])
                self._copying = (name.group() if name else found["table"]).decode("utf-8", "backslashreplace")
                self.rows.setdefault(self._copying, 0)
                # The newline behind the statement is the one that the data is entered at: nothing is counted yet.
                self._lexer.stopped = True
                self.rows[self._copying] -= 1
        elif found := _INSERT.match(head):
            table = found["table"].decode("utf-8", "backslashreplace")
            self.rows[table] = self.rows.get(table, 0) + 1
        elif _TABLE.match(head):
            self.tables += 1
        elif found := _OLD_STRINGS.match(head):
            self._lexer.escapes = found[1] == b"off"

    def _read_versions(self, chunk: bytes) -> None:
        for what, version in _VERSION.findall(chunk[:4096]):
            text = version.decode("utf-8", "replace").strip()
            if what == b"by pg_dump":
                self.pg_dump_version = text
            else:
                self.server_version = text
