"""The pieces of a dump that a load treats apart, told by the first words of a statement. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pgbackup.sql.guarding.refusals import UNDECIDED

COPY, ROWS, ROWS_END = "copy", "rows", "end of rows"
INDEX, KEY, FOREIGN_KEY, SETTING = "index", "key", "foreign key", "setting"
EVENT_TRIGGER, CONFIGURATION = "event trigger", "text search configuration"
ALWAYS_APART = (EVENT_TRIGGER, CONFIGURATION)  # whatever wrote the dump
_KINDS = {
    (b"create", b"index"): INDEX,
    (b"create", b"unique", b"index"): INDEX,
    (b"create", b"event", b"trigger"): EVENT_TRIGGER,
    (b"alter", b"event", b"trigger"): EVENT_TRIGGER,
    (b"comment", b"on", b"event", b"trigger"): EVENT_TRIGGER,
    (b"create", b"text", b"search", b"configuration"): CONFIGURATION,
    (b"create", b"extension"): CONFIGURATION,
}
_NAME = rb'(?:"(?:[^"]|"")+"|[a-z_\x80-\xff][a-z0-9_$\x80-\xff]*)'
_TABLE = rb"(" + _NAME + rb"\." + _NAME + rb")"
# As pg_dump writes them, to the byte (dumpConstraint, dumpIndex and dumpTableData_copy in pg_dump.c). Another spelling
# of the same is no part of its own.
_ADDED = re.compile(rb"ALTER TABLE ONLY " + _TABLE + rb"\n    ADD CONSTRAINT " + _NAME + rb" ")
_KEY = re.compile(rb"(?:PRIMARY KEY|UNIQUE(?: NULLS NOT DISTINCT)?) \(")
_FOREIGN_KEY = re.compile(rb"FOREIGN KEY \([^()]*\) REFERENCES " + _TABLE + rb"\(")
_INDEX = re.compile(rb"CREATE (?:UNIQUE )?INDEX (" + _NAME + rb") ON (ONLY )?" + _TABLE + rb" USING (\w+) ")
# On columns alone, with operators of the server's own: nothing in it can look into another table, or be missing yet.
_BARE_INDEX = re.compile(_INDEX.pattern + rb"\([^().]+\);\Z")
_COPY = re.compile(rb"COPY " + _TABLE + rb" (?:\(.*\))? FROM stdin;\Z", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """Text for psql.

    kind: INDEX for one CREATE INDEX statement, KEY and FOREIGN_KEY for one that adds such a constraint, SETTING for one
    SET or set_config, EVENT_TRIGGER for one that makes or changes such a trigger, CONFIGURATION for one that may make a
    text search configuration. COPY for one whose rows follow: as ROWS, which together are a newline and then rows, each
    with its own, in pieces of any length, and as ROWS_END the line behind them. Else "".
    """

    text: bytes
    kind: str


def kind_of(words: list[bytes], text: bytes, *, ended: bool) -> str:
    """Given a statement's first words and bytes as the lexer notes them, return the kind of its part. Pure.

    `undecided` when more has to be seen; ended: there is no more.
    """
    for beginning, kind in _KINDS.items():
        if tuple(words[: len(beginning)]) == beginning:
            return kind
    if words[:1] in ([b"set"], [b"reset"]) or text.startswith(b"SELECT pg_catalog.set_config("):
        return SETTING
    if words[:2] == [b"alter", b"table"][: len(words)]:
        return _constraint(text) if ended else UNDECIDED
    may_become_one = not ended and any(beginning[: len(words)] == tuple(words) for beginning in _KINDS)
    return UNDECIDED if may_become_one else ""


def _constraint(text: bytes) -> str:
    added = _ADDED.match(text)
    if added and _KEY.match(text, added.end()):
        return KEY
    return FOREIGN_KEY if added and _FOREIGN_KEY.match(text, added.end()) else ""


def is_plain_copy(statement: bytes) -> bool:
    """Whether a whole statement is a COPY of rows in the text format, as pg_dump writes it. Pure."""
    return _COPY.match(statement) is not None


@dataclass(frozen=True)
class Work:
    """What a statement is about. tables: names as they are spelled, which it locks. method: of an index, else ""."""

    tables: tuple[bytes, ...]
    method: str = ""


def work_of(part: Part) -> Work | None:
    """What a COPY, an INDEX, a KEY or a FOREIGN_KEY is about; None where it is not spelled as pg_dump does it. Pure."""
    statement = bare(part.text)
    if part.kind == COPY:
        found = _COPY.match(statement)
        return Work((found[1],)) if found else None
    if part.kind == INDEX:
        found = _INDEX.match(statement)
        return Work((found[3],), found[4].decode()) if found else None
    added = _ADDED.match(statement)
    if not added or part.kind == KEY:
        return Work((added[1],), "btree") if added else None
    referenced = _FOREIGN_KEY.match(statement, added.end())
    return Work((added[1], referenced[1])) if referenced else None


@dataclass(frozen=True)
class Index:
    """name: with the table's schema, as it is spelled; table likewise. is_bare: on columns of a table of its own."""

    name: bytes
    table: bytes
    is_bare: bool


def index_of(text: bytes) -> Index | None:
    """The index that a statement makes; None where it is not spelled as pg_dump does it. Pure."""
    statement = bare(text)
    found = _INDEX.match(statement)
    if not found:
        return None
    is_bare = not found[2] and _BARE_INDEX.match(statement) is not None
    return Index(found[3].rpartition(b".")[0] + b"." + found[1], found[3], is_bare)


_BEFORE = re.compile(rb"(?:\s+|--[^\n]*(?:\n|\Z))*")


def bare(text: bytes) -> bytes:
    """A statement without the space and the lines of comment before it. Pure."""
    found = _BEFORE.match(text)
    return text[found.end() :] if found else text
