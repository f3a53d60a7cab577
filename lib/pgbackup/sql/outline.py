"""What a dump holds besides rows: its objects by name and text, its sequences' values, its large objects.

Two dumps of one database, and a dump of what was loaded from one of them, have the same outline; only the order of
objects may differ, and expressions that the server writes otherwise than it has read them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

# _printTocEntry in pg_backup_archiver.c: the comment before each object.
_ENTRY = re.compile(
    rb"-- (?:Data for )?Name: (.*); Type: ([A-Z ]+); Schema: ([^;]*)(?:; Owner: (.*?)(?:; Tablespace: .*)?)?$"
)
_OF_THE_RUN = (b"-- Dumped ", b"-- Started on ", b"-- Completed on ", b"\\restrict ", b"\\unrestrict ")
_OF_THE_ORDER = (b"SET default_tablespace = ", b"SET default_table_access_method = ")  # only where it changes
_SET_VALUE = re.compile(rb"SELECT (?:pg_catalog\.)?setval\((.*), (\d+|-\d+), (true|false)\);")
_DATA = {b"DATABASE", b"DATABASE PROPERTIES", b"TABLE DATA", b"SEQUENCE SET", b"STATISTICS DATA"}
_LARGE_OBJECTS = {b"BLOB", b"BLOBS", b"BLOB METADATA"}
# The server keeps expressions parsed and writes them anew: where they can stand in the text of a kind of object.
_ANYWHERE = re.compile(rb"")
_EXPRESSION = {
    "VIEW": _ANYWHERE,
    "MATERIALIZED VIEW": _ANYWHERE,
    "RULE": _ANYWHERE,
    "POLICY": _ANYWHERE,
    "DEFAULT": _ANYWHERE,
    "STATISTICS": _ANYWHERE,
    "DOMAIN": _ANYWHERE,
    "TABLE": re.compile(rb" (?:DEFAULT|CHECK|GENERATED|PARTITION BY) "),
    "FOREIGN TABLE": re.compile(rb" (?:DEFAULT|CHECK|GENERATED) "),
    "CONSTRAINT": re.compile(rb" (?:CHECK|EXCLUDE) "),
    "CHECK CONSTRAINT": _ANYWHERE,
    "INDEX": re.compile(rb" WHERE |\(\(|\w\("),
    "TRIGGER": re.compile(rb" WHEN \("),
    "FUNCTION": re.compile(rb"(?m)^ *BEGIN ATOMIC$"),
    "PROCEDURE": re.compile(rb"(?m)^ *BEGIN ATOMIC$"),
    "PUBLICATION TABLE": re.compile(rb" WHERE "),
}
_BY_LINE = {"TABLE", "FOREIGN TABLE"}
# (x)::text = ANY ((ARRAY['a'::character varying])::text[]) comes back as ANY (ARRAY[('a'::character varying)::text]).
_CAST = re.compile(
    rb"::(?:\"[^\"]+\"|\w+)(?:\.(?:\"[^\"]+\"|\w+))?"
    rb"(?: varying| precision| with(?:out)? time zone)?(?:\([\d, ]*\))?(?:\[\])*"
)
_BRACKETS = re.compile(rb"[()]")


@dataclass(frozen=True)
class Entry:
    """An object of the dump. text: its statements."""

    name: str
    kind: str
    schema: str
    text: bytes

    def __str__(self) -> str:
        where = "" if self.schema in ("-", "") else f" in schema {self.schema}"
        return f"{self.kind} {self.name}{where}"


@dataclass(frozen=True)
class Difference:
    """What one outline has and another has not. rewritten: objects whose expressions are written otherwise."""

    missing: list[str] = field(default_factory=list)
    further: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)


class Outline:
    """Feed it, by the scanner's on_text, all of a dump that is no COPY data; then call finish().

    sequences: name, as setval() spells it -> `value, is_called`. large_objects: a checksum of all of them, "" for none.
    owners: the roles to which objects belong.
    """

    def __init__(self) -> None:
        self.sequences: dict[str, str] = {}
        self.owners: set[str] = set()
        self._entries: dict[tuple[bytes, bytes, bytes], list[bytes]] = {}
        self._large = hashlib.sha256()
        self._has_large = False
        self._rest = b""
        self._key = (b"", b"", b"")
        self._lines: list[bytes] = []

    def take(self, text: memoryview) -> None:
        """Take more of the text, in pieces of any length."""
        lines = (self._rest + bytes(text)).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._line(line)

    def finish(self) -> None:
        """Say that the dump has ended."""
        self._line(self._rest)
        self._end()
        self._rest = b""

    @property
    def large_objects(self) -> str:
        return self._large.hexdigest() if self._has_large else ""

    def fingerprint(self) -> str:
        """SHA-256 of everything that is no data, whatever the order of its objects."""
        digest = hashlib.sha256()
        for key, texts in sorted(self._entries.items()):
            for text in sorted(texts):
                digest.update(b"\0".join([*key, hashlib.sha256(text).digest()]))
        return digest.hexdigest()

    def _line(self, line: bytes) -> None:
        if line.startswith(b"--") or not line.strip():
            if found := _ENTRY.match(line):
                self._end()
                self._key = (found[1], found[2], found[3])
                self.owners |= {_text(found[4])} - {"-"} if found[4] else set()
            if not line.startswith(_OF_THE_RUN) and self._lines:
                self._lines.append(line)
        elif self._key[1] and not line.startswith((*_OF_THE_RUN, *_OF_THE_ORDER)):
            self._content(line)

    def _content(self, line: bytes) -> None:
        name, kind, _ = self._key
        if kind in _LARGE_OBJECTS or name.startswith(b"LARGE OBJECT "):
            self._has_large = True
            self._large.update(line + b"\n")
        elif kind in _DATA:
            if found := _SET_VALUE.match(line):
                self.sequences[_text(found[1])] = f"{_text(found[2])}, {_text(found[3])}"
        else:
            self._lines.append(line)

    def _end(self) -> None:
        while self._lines and (self._lines[-1].startswith(b"--") or not self._lines[-1].strip()):
            self._lines.pop()
        if self._lines:
            self._entries.setdefault(self._key, []).append(b"\n".join(self._lines))
            self._lines = []

    def entries(self) -> list[Entry]:
        """All objects, in the order of their names."""
        return [
            Entry(_text(name), _text(kind), _text(schema), text)
            for (name, kind, schema), texts in sorted(self._entries.items())
            for text in sorted(texts)
        ]


def difference(expected: Outline, found: Outline) -> Difference:
    """Compare what a dump holds with what was found in the database that was loaded from it. Pure."""
    here, there = _by_name(expected), _by_name(found)
    changed: list[str] = []
    rewritten: list[str] = []
    for name in here.keys() & there.keys():
        before, after = ([entry.text for entry in each[name]] for each in (here, there))
        if differing := _differing(here[name][0].kind, before, after):
            may_be = _EXPRESSION.get(here[name][0].kind)
            alike = may_be is not None and len(before) == len(after) and all(map(may_be.search, differing))
            (rewritten if alike else changed).append(name)
    return Difference(
        missing=sorted(here.keys() - there.keys()),
        further=sorted(there.keys() - here.keys()),
        changed=sorted(changed),
        rewritten=sorted(rewritten),
    )


def _by_name(outline: Outline) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in outline.entries():
        found.setdefault(str(entry), []).append(entry)
    return found


def _differing(kind: str, before: list[bytes], after: list[bytes]) -> list[bytes]:
    """The texts of an object, or lines of them, that are not the same on both sides. Pure."""
    if kind in _BY_LINE:
        before, after = ([line for text in texts for line in text.split(b"\n")] for texts in (before, after))
    here, there = ({_plain(text): text for text in texts} for texts in (before, after))
    return [(here | there)[text] for text in here.keys() ^ there.keys()]


def _plain(text: bytes) -> bytes:
    """The text without casts and brackets, which the server sets as it likes. Pure."""
    return _BRACKETS.sub(b"", _CAST.sub(b"", text))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
