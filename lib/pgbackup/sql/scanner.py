"""Reads what pg_dump writes while it flows by: exact row counts, statements, and whether it is all there."""

from __future__ import annotations

import re
from collections.abc import Callable

from pgbackup.sql.lexer import Lexer

_TAIL_BYTES = 1024
_HEADER_BYTES = 4096
_EXCERPT_BYTES = 80
_SAMPLE_BYTES = 4096
_LONG_LINE_BYTES = 64
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NAME = rb'(?:(?:[Uu]&)?"(?:[^"]|"")*"|[^\s".(;]+)'
_TABLE_OF = {
    kind: re.compile(start + rb"\s+(" + _NAME + rb"(?:\s*\.\s*" + _NAME + rb")*)", re.IGNORECASE)
    for kind, start in ((b"copy", rb"COPY(?:\s+BINARY)?"), (b"insert", rb"INSERT\s+INTO(?:\s+ONLY)?"))
}
_ROUTINE = re.compile(
    rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\s+(" + _NAME + rb"(?:\s*\.\s*" + _NAME + rb")*)",
    re.IGNORECASE,
)
_SCHEMA = re.compile(rb"CREATE\s+SCHEMA\s+(?:IF\s+NOT\s+EXISTS\s+)?(" + _NAME + rb")", re.IGNORECASE)
_ADDS = re.compile(rb"\sADD\s+CONSTRAINT\s", re.IGNORECASE)
_TABLE_MODIFIERS = {b"unlogged", b"foreign", b"temp", b"temporary", b"global", b"local"}
_SET_STRINGS = re.compile(
    rb"SET\s+(?:SESSION\s+|LOCAL\s+)?standard_conforming_strings\s*(?:=|\sTO\s)\s*'?(\w+)'?\s*;", re.IGNORECASE
)
_SERVER_VERSION = re.compile(rb"^-- Dumped from database version ([^\r\n]+)[\r\n]", re.MULTILINE)
_PG_DUMP_VERSION = re.compile(rb"^-- Dumped by pg_dump version ([^\r\n]+)[\r\n]", re.MULTILINE)
_RESTRICT = re.compile(rb"\\(un)?restrict\s+(\S+)\s*")
# The last lines of pg_dump to the byte (RestoreArchive in pg_backup_archiver.c): the comment and an empty line,
# since the minor releases of August 2025 also \unrestrict and an empty line. More empty lines do no harm.
_END = re.compile(
    rb"(?:\A|\n)--\r?\n-- PostgreSQL database dump complete\r?\n--\r?\n\r?\n(?:\\unrestrict \w+\r?\n\r?\n)?\s*\Z"
)
_MAY_BE_COPY_END = re.compile(rb"\n(?:\\(?:\.\r?)?)?\Z")


class DumpScanner:
    r"""Counts what is in a plain dump. Feed it every byte in pieces of any length, then call finish().

    rows: rows per table, named as the COPY statement spells it, quotes included; empty tables too. With
        `pg_dump --inserts` (--column-inserts, --rows-per-insert, --on-conflict-do-nothing) the rows that the
        INSERT statements carry; an empty table then has no statement and is missing.
    statements: SQL statements, by psql's rule where one ends. tables: CREATE TABLE statements of all kinds.
    schemas: those that are made, as they are spelled. extensions, constraints: statements CREATE EXTENSION, and
        ALTER TABLE … ADD CONSTRAINT.
    sql_bytes: bytes fed. server_version, pg_dump_version: from pg_dump's header, "" without one.
    complete: after finish(): the text ends between statements with pg_dump's own last lines to the byte, and
        every `\restrict KEY` was followed by its `\unrestrict KEY`.
    misread: functions and procedures, as they are spelled, that psql by itself takes for longer than they are: they
        have the word `begin` for a name, see the lexer's mark `name`.
    on_mark: what to call, if anything, with each mark of the lexer (see there): its kind, the position of its
        first byte in the dump, and some of the text from there on. `words` and `text` then describe the statement
        or the command. And with `data end` and the position behind the line that ends COPY data.
    on_rows: what to call, if anything, with a table and more of its COPY data, each row with the newline before it, and
        with None at the end of the data.
    on_text: what to call, if anything, with more of what is no COPY data.
    """

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.statements = 0
        self.tables = 0
        self.schemas: set[str] = set()
        self.extensions = 0
        self.constraints = 0
        self.sql_bytes = 0
        self.complete = False
        self.server_version = ""
        self.pg_dump_version = ""
        self.misread: list[str] = []
        self.on_mark: Callable[[str, int, bytes], None] | None = None
        self.on_rows: Callable[[str, memoryview | None], None] | None = None
        self.on_text: Callable[[memoryview], None] | None = None
        self._base = 0  # where in the dump the data begins that the lexer walks over
        self._header = b""
        self._carry = b""
        self._tail = b""
        self._copying: str | None = None
        # What becomes true at the next newline, wherever it is: psql reads COPY data from the next line on,
        # and looks at standard_conforming_strings once a line.
        self._copies: list[str] = []
        self._escapes: bool | None = None
        self._last_dot: int | None = None  # in the present piece; None: not looked for yet
        self._restricted = b""
        self._commands_match = True
        self._has_name = False
        self._lexer = Lexer(self._mark)

    @property
    def decided_bytes(self) -> int:
        """How far from the beginning all is known: what comes next cannot change it."""
        return self.sql_bytes - len(self._carry)

    @property
    def words(self) -> list[bytes]:
        """The first words of the statement that has begun, as the lexer notes them; empty between statements."""
        return self._lexer.words

    @property
    def text(self) -> bytes:
        """The first bytes of the statement or the command that has begun."""
        return self._lexer.text

    @property
    def names_setter(self) -> bool:
        """Whether the statement that has begun may call set_config(), see the lexer."""
        return self._lexer.names_setter

    @property
    def awaits_newline(self) -> bool:
        """Whether the next newline begins COPY data or changes how strings are read."""
        return bool(self._copies) or self._escapes is not None

    @property
    def in_rows(self) -> bool:
        """Whether the text stands in COPY data now, the newline before it included."""
        return self._copying is not None or bool(self._copies)

    @property
    def amid_rows_of(self) -> str | None:
        """The table in whose COPY data the text stands, all of it so far decided; None anywhere else."""
        return None if self._carry or self._copies else self._copying

    @property
    def in_comment(self) -> bool:
        """Whether the text stands inside a comment now."""
        return self._copying is None and self._lexer.inside.endswith("comment")

    @property
    def state(self) -> str:
        """Where the text stands now, for a message: `at the top level`, `in COPY data of public.users`, …"""
        table = self._copying or next(iter(self._copies), None)
        if table is not None:
            return f"in COPY data of {table}"
        inside = self._lexer.inside
        return f"in {'an' if inside[0] in 'aeiou' else 'a'} {inside}" if inside else "at the top level"

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the dump, of any length."""
        if len(self._header) < _HEADER_BYTES:
            self._read_header(chunk)
        self.sql_bytes += len(chunk)
        self._tail = (self._tail + chunk[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        self._advance(self._carry + chunk if self._carry else chunk, final=False)

    def finish(self) -> None:
        """Say that the dump has ended. Afterwards `complete` is decided."""
        self._advance(self._carry, final=True)
        between_statements = self.state == "at the top level"
        commands_match = self._commands_match and not self._restricted
        self.complete = between_statements and commands_match and _END.search(self._tail) is not None

    def _advance(self, data: bytes, *, final: bool) -> None:
        # Not all dumps come straight from pg_dump, and psql skips the mark, too.
        at_start = self.sql_bytes == len(data)
        position = len(BYTE_ORDER_MARK) if at_start and data.startswith(BYTE_ORDER_MARK) else 0
        self._base = self.sql_bytes - len(data)
        self._last_dot = None
        while True:
            before = position, self._copying
            if self._copying is not None:
                position = self._copy_data(data, position)
            elif self.awaits_newline:
                position = self._rest_of_line(data, position, final)
            else:
                position = self._lexer.walk(data, position, len(data), final)
            if self.on_text and before[1] is None and position > before[0]:
                self.on_text(memoryview(data)[before[0] : position])
            if (position, self._copying) == before:
                break
        self._carry = data[position:]

    def _copy_data(self, data: bytes, position: int) -> int:
        r"""Count newlines up to the line `\.`. Every row of the text format is exactly one line.

        PostgreSQL manual, COPY, File Formats, Text Format: newlines in data are written as `\n`. psql's
        handleCopyIn ends the data at such a line, with LF or CRLF, and knows nothing of the format.
        The data is entered at the newline that ends the COPY statement, so every row begins behind one.
        """
        assert self._copying is not None  # noqa: S101  the caller has looked
        if self._last_dot is None:
            self._last_dot = _last_end(data)
        at = position
        while at <= self._last_dot:
            at = data.find(b"\n\\.", at)
            if data.startswith((b"\n", b"\r\n"), at + 3):
                self._rows(self._copying, data, position, at)
                if self.on_rows:
                    self.on_rows(self._copying, None)
                self._copying = None
                if self.on_mark:
                    self.on_mark("data end", self._base + data.index(b"\n", at + 3) + 1, b"")
                return at + 3
            at += 3
        unsure = _MAY_BE_COPY_END.search(data, max(position, len(data) - 4))
        end = unsure.start() if unsure else len(data)
        self._rows(self._copying, data, position, end)
        return end

    def _rows(self, table: str, data: bytes, position: int, end: int) -> None:
        self.rows[table] += _newlines(data[position:end])
        if self.on_rows:
            self.on_rows(table, memoryview(data)[position:end])

    def _rest_of_line(self, data: bytes, position: int, final: bool) -> int:
        """Go over SQL up to the next newline, in whatever it is, and let become true what waits for it."""
        newline = data.find(b"\n", position)
        if newline < 0:
            return self._lexer.walk(data, position, len(data), final)
        position = self._lexer.walk(data, position, newline + 1, final=True)
        if position <= newline:
            return position
        if self._escapes is not None:
            self._lexer.escapes, self._escapes = self._escapes, None
        if not self._copies:
            return position
        self._copying = self._copies.pop(0)
        return newline

    def _mark(self, kind: str, data: bytes, start: int, _end: int) -> None:
        if kind == "end":
            self._statement(self._lexer.words, self._lexer.text)
        elif kind == "name":
            self._has_name = True
        elif kind == "command end" and (found := _RESTRICT.fullmatch(self._lexer.text)):
            ends, key = found.groups()
            self._commands_match = self._commands_match and self._restricted == (key if ends else b"")
            self._restricted = b"" if ends else key
        if self.on_mark:
            self.on_mark(kind, self._base + start, data[start : start + _EXCERPT_BYTES])

    def _statement(self, words: list[bytes], text: bytes) -> None:
        self.statements += 1
        if self._has_name:
            self.misread.append(_routine(text))
            self._has_name = False
        verb = words[0] if words else b""
        if verb == b"copy" and reads_stdin(words):
            table = _table(verb, text)
            self.rows.setdefault(table, 0)
            self._copies.append(table)
        elif verb == b"insert":
            table = _table(verb, text)
            self.rows[table] = self.rows.get(table, 0) + max(1, self._lexer.tuples)
        elif verb == b"alter":
            self.constraints += words[1:2] == [b"table"] and _ADDS.search(text) is not None
        elif verb == b"create" and words[1:2] == [b"extension"]:
            self.extensions += 1
        elif verb == b"create" and (found := _SCHEMA.match(text)):
            self.schemas.add(found[1].decode("utf-8", "backslashreplace"))
        elif verb == b"create":
            self.tables += next((word for word in words[1:] if word not in _TABLE_MODIFIERS), b"") == b"table"
        elif verb == b"set" and (found := _SET_STRINGS.fullmatch(text)):
            self._escapes = found[1].lower() in (b"off", b"false", b"no", b"0")
        self._lexer.stopped = self.awaits_newline

    def _read_header(self, chunk: bytes) -> None:
        self._header += chunk[: _HEADER_BYTES - len(self._header)]
        if not self.server_version and (found := _SERVER_VERSION.search(self._header)):
            self.server_version = found[1].decode("utf-8", "replace").strip()
        if not self.pg_dump_version and (found := _PG_DUMP_VERSION.search(self._header)):
            self.pg_dump_version = found[1].decode("utf-8", "replace").strip()


def _last_end(data: bytes) -> int:
    """Where the last line that may end COPY data begins, or -1: bytes.rfind is three times as fast as find."""
    with_carriage_return = data.rfind(b"\n\\.\r\n") if b"\r" in data else -1
    return max(data.rfind(b"\n\\.\n"), with_carriage_return)


def _newlines(data: bytes) -> int:
    """How many there are. Where lines are long, replace is several times as fast as count: it jumps to the next one."""
    if data.count(b"\n", 0, _SAMPLE_BYTES) > _SAMPLE_BYTES // _LONG_LINE_BYTES:
        return data.count(b"\n")
    return len(data) - len(data.replace(b"\n", b""))


def reads_stdin(words: list[bytes]) -> bool:
    """Whether a COPY statement of these words makes psql read data; PostgreSQL takes STDOUT for the same here."""
    source = words.index(b"from") + 1 if b"from" in words else len(words)
    return words[source : source + 1] in ([b"stdin"], [b"stdout"])


def _routine(text: bytes) -> str:
    """The routine's name as the statement spells it."""
    found = _ROUTINE.match(text)
    return (found[1] if found else text[:_EXCERPT_BYTES]).decode("utf-8", "backslashreplace")


def _table(verb: bytes, text: bytes) -> str:
    """The table's name as the statement spells it."""
    found = _TABLE_OF[verb].match(text)
    return (found[1] if found else text).decode("utf-8", "backslashreplace")
