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
    rb"-- (?:Data for )?Name: (.*); Type: ([A-Z ]+); Schema: ([^;]*)(?:; Owner: (.*?)(; Tablespace: .*)?)?$"
)
_OF_THE_RUN = (b"-- Dumped ", b"-- Started on ", b"-- Completed on ", b"\\restrict ", b"\\unrestrict ")
_OF_THE_ORDER = (b"SET default_tablespace = ", b"SET default_table_access_method = ")  # only where it changes
_SET_VALUE = re.compile(rb"SELECT (?:pg_catalog\.)?setval\((.*), (\d+|-\d+), (true|false)\);")
_KEPT_BYTES = 16 << 20
_LONGEST_LINE = 1 << 20
_MOST = 500_000  # objects, sequences, owners
_MOST_LOOSE = 1000
_Key = tuple[bytes, bytes, bytes]
_Text = tuple[bytes, bytes | None]
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
    """An object of the dump. text: its statements, None where they were too long to keep; digest: their SHA-256."""

    name: str
    kind: str
    schema: str
    digest: bytes
    text: bytes | None

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
    owners: the roles to which objects belong. Its memory has a limit, whatever it is fed: of very large schemas it
    keeps the hashes of texts alone, and of more objects than any has, nothing but the fingerprint.
    """

    def __init__(self) -> None:
        self.sequences: dict[str, str] = {}
        self.owners: set[str] = set()
        self._entries: dict[_Key, list[_Text]] = {}
        self._count = 0
        self._beyond = hashlib.sha256()  # of the entries that are not kept
        self._large = hashlib.sha256()
        self._has_large = False
        self._left_bytes = _KEPT_BYTES
        self._key: _Key = (b"", b"", b"")
        self._elsewhere: set[str] = set()  # what is in a tablespace of its own
        self._rest = b""
        self._is_part = False  # the line is longer than any that is kept whole: this is more of it
        self._begin()

    def _begin(self) -> None:
        self._digest = hashlib.sha256()
        self._kept: list[bytes] | None = []
        self._has_text = False
        self._loose: list[bytes] = []  # comments and empty lines: they count where more text follows

    def take(self, text: memoryview) -> None:
        """Take more of the text, in pieces of any length."""
        lines = (self._rest + bytes(text)).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._line(line)
            self._is_part = False
        if len(self._rest) > _LONGEST_LINE:
            self._line(self._rest)
            self._rest, self._is_part = b"", True

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
            for text in sorted(found for found, _ in texts):
                digest.update(b"\0".join([*key, text]))
        if self._count > _MOST:
            digest.update(self._beyond.digest())
        return digest.hexdigest()

    def _line(self, line: bytes) -> None:
        if self._is_part:
            self._content(line)
        elif line.startswith(b"--") or not line.strip():
            if found := _ENTRY.match(line):
                self._end()
                self._key = (found[1], found[2], found[3])
                if found[5] and len(self._elsewhere) < _MOST:
                    self._elsewhere.add(str(Entry(_text(found[1]), _text(found[2]), _text(found[3]), b"", None)))
                if found[4] and found[4] != b"-" and len(self.owners) < _MOST:
                    self.owners.add(_text(found[4]))
            if not line.startswith(_OF_THE_RUN) and self._has_text:
                self._loose.append(line)
                if len(self._loose) > _MOST_LOOSE:
                    self._add_loose()
        elif not line.startswith((*_OF_THE_RUN, *_OF_THE_ORDER)):
            self._content(line)

    def _content(self, line: bytes) -> None:
        name, kind, _ = self._key
        if not kind:
            return  # before the first object
        if kind in _LARGE_OBJECTS or name.startswith(b"LARGE OBJECT "):
            self._has_large = True
            self._large.update(line if self._is_part else b"\n" + line)
        elif kind in _DATA:
            if len(self.sequences) < _MOST and (found := _SET_VALUE.match(line)):
                self.sequences[_text(found[1])] = f"{_text(found[2])}, {_text(found[3])}"
        else:
            self._add_loose()
            self._add(line if self._is_part or not self._has_text else b"\n" + line)

    def _add_loose(self) -> None:
        for line in self._loose:
            self._add(b"\n" + line)
        self._loose = []

    def _add(self, text: bytes) -> None:
        self._has_text = True
        self._digest.update(text)
        if self._kept is not None:
            self._left_bytes -= len(text)
            self._kept.append(text)
            if self._left_bytes < 0:
                self._kept = None

    def _end(self) -> None:
        if self._has_text:
            self._count += 1
            kept = None if self._kept is None else b"".join(self._kept)
            if self._count <= _MOST:
                self._entries.setdefault(self._key, []).append((self._digest.digest(), kept))
            else:
                self._beyond.update(b"\0".join([*self._key, self._digest.digest()]))
        self._begin()

    def indexes(self) -> list[Entry]:
        """Those in the tablespace that the database has by default, as far as that is known."""
        if len(self._elsewhere) == _MOST:
            return []
        return [entry for entry in self.entries() if entry.kind == "INDEX" and str(entry) not in self._elsewhere]

    def entries(self) -> list[Entry]:
        """All objects, in the order of their names."""
        return [
            Entry(_text(name), _text(kind), _text(schema), digest, text)
            for (name, kind, schema), texts in sorted(self._entries.items())
            for digest, text in sorted(texts, key=lambda each: each[0])
        ]


def difference(expected: Outline, found: Outline) -> Difference:
    """Compare what a dump holds with what was found in the database that was loaded from it. Pure."""
    here, there = _by_name(expected), _by_name(found)
    changed: list[str] = []
    rewritten: list[str] = []
    for name in here.keys() & there.keys():
        if sorted(one.digest for one in here[name]) != sorted(one.digest for one in there[name]):
            {"changed": changed, "rewritten": rewritten, "": []}[_how(here[name], there[name])].append(name)
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


def _how(before: list[Entry], after: list[Entry]) -> str:
    """How an object's texts differ: changed, or rewritten, which the server may have done; "" where they mean the same.

    What was too long to keep counts as changed. Pure.
    """
    texts = [[entry.text for entry in side if entry.text is not None] for side in (before, after)]
    if len(before) != len(after) or any(len(side) != len(before) for side in texts):
        return "changed"
    kind = before[0].kind
    if kind in _BY_LINE:
        texts = [[line for text in side for line in text.split(b"\n")] for side in texts]
    here, there = ({_plain(text): text for text in side} for side in texts)
    differing = [(here | there)[text] for text in here.keys() ^ there.keys()]
    may_be = _EXPRESSION.get(kind)
    if differing and (may_be is None or not all(map(may_be.search, differing))):
        return "changed"
    return "rewritten" if differing else ""


def _plain(text: bytes) -> bytes:
    """The text without casts and brackets, which the server sets as it likes. Pure."""
    return _BRACKETS.sub(b"", _CAST.sub(b"", text))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
