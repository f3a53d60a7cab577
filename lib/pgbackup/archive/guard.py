r"""Lets through to psql only such text of a plain dump as cannot make psql, or the server, run a program.

A plain dump is a script for psql, and a script may hold commands of psql's own: `\! rm …`, `\copy … program`,
`\connect`. The guard reads along with the `DumpScanner`, by psql's own rules, and nothing from the start of an
undecided or refused command on is handed out.

What it stops: every command of psql's but pg_dump's own pair of `\restrict` and `\unrestrict`; the statements
that are documented to run a program, read or write a file on the server, or load a library (COPY … PROGRAM, COPY with
a file, LOAD, ALTER SYSTEM); those that reach beyond the one database (CREATE, ALTER, DROP of a database, role or
tablespace); and those that change how psql reads what follows (standard_conforming_strings, client_encoding), unless
they are pg_dump's own. pg_dump writes none of these.

What it is not: a judge of SQL. A function, a DO block, a default or a trigger can do whatever the role may do that
loads the dump, and for a superuser that is everything the server's account may do. Such code can also change the two
settings out of the guard's sight; that is what psql's own restricted mode is for, where psql has it. The
connection has to begin with standard_conforming_strings on and an encoding that a server can have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pgbackup.archive.sqldump import BYTE_ORDER_MARK, DumpScanner
from pgbackup.errors import BackupBad

# How much text may wait for a statement's kind to be known. COPY with its 1600 columns has some 200 KiB.
_HELD_BYTES = 1 << 20
_TEXT_BYTES = 1024  # what the lexer keeps of a statement
_COMMAND = {False: re.compile(rb"\\restrict ([A-Za-z0-9]+)\r?"), True: re.compile(rb"\\unrestrict ([A-Za-z0-9]+)\r?")}
_HINT = "pg_dump writes no such thing; look at the file before you trust it"

INDEX, SETTING = "index", "setting"
_UNDECIDED = "undecided"
# What no dump begins a statement with. A ROLLBACK would also take back a SET that the scanner has seen.
_VERBS = {
    b"load": "loads a library",
    b"discard": "resets the session",
    b"rollback": "takes back what came before",
    b"abort": "takes back what came before",
    b"reassign": "reaches beyond one database",
}
_SHARED = {b"database", b"role", b"user", b"group", b"tablespace", b"system", b"owned"}
_STRINGS, _ENCODING = b"standard_conforming_strings", (b"client_encoding", b"names")
_SET_STRINGS = re.compile(rb"SET standard_conforming_strings = (?:on|off);")
_SET_ENCODING = re.compile(rb"SET client_encoding (?:=|TO) '?([A-Za-z0-9_-]+)'?;", re.IGNORECASE)
_SET_CONFIG = re.compile(rb"SELECT pg_catalog\.set_config\('search_path', '[^'\\]*', (?:false|true)\);")
# Encodings in which a byte that looks like a quote or a backslash may be half a character (PostgreSQL manual, 24.3.1,
# the rows without "Server?"; aliases from encnames.c). psql looks at characters then, the guard at bytes.
_CLIENT_ONLY = (
    *("big5", "win950", "windows950", "gbk", "win936", "windows936", "uhc", "win949", "windows949", "gb18030"),
    *("johab", "sjis", "mskanji", "shiftjis", "win932", "windows932", "shiftjis2004"),
)


@dataclass(frozen=True)
class Part:
    """Text for psql. kind: INDEX for one CREATE INDEX statement, SETTING for one SET or set_config, else ""."""

    text: bytes
    kind: str


def guarded(pieces: Iterable[bytes], scanner: DumpScanner) -> Iterator[bytes]:
    r"""Feed the pieces of a dump to the scanner and yield what of them is decided, in pieces of any length.

    All is yielded as it came, but for `\restrict KEY`, `\unrestrict KEY` (their newlines stay, so lines keep their
    numbers) and a byte order mark. Raise BackupBad at the first thing that is refused: nothing from its start on, nor
    from the start of its statement on where the statement is to blame, has been yielded, nor is it ever.
    """
    for part in parted(pieces, scanner, apart=False):
        yield part.text


def parted(pieces: Iterable[bytes], scanner: DumpScanner, *, apart: bool) -> Iterator[Part]:
    """Do what guarded() does and say what each piece is. apart: yield settings and indexes as pieces of their own.

    Only for what pg_dump has surely written: other scripts may rely on one session, or on a transaction.
    """
    guard = _Guard(scanner, apart=apart)
    scanner.on_mark = guard.mark
    for piece in pieces:
        yield from guard.take(piece)
    yield from guard.finish()


class _Guard:
    """What has been seen so far. Positions count from the beginning of the dump."""

    def __init__(self, scanner: DumpScanner, *, apart: bool) -> None:
        self._scanner = scanner
        self._apart = apart
        self._parts: list[tuple[int, int, str]] = []  # where each begins and ends that is to be a piece of its own
        self._is_partly_out = False  # the statement that has begun
        self._is_tied = False  # it began in a line that psql reads to its end in one session
        self._statements = 0
        self._key = b""
        self._closed = False
        self._command: int | None = None  # where a command begins that is still to be decided
        self._held_from = 0  # behind the last statement that is decided
        self._cuts: list[tuple[int, int]] = []
        self._waiting = bytearray()
        self._begin = 0  # where that begins
        self._lines = 0  # that lie before it

    def take(self, piece: bytes) -> list[Part]:
        """Take the next piece and return what may go to psql now. Raise BackupBad."""
        scanner = self._scanner
        if (at := piece.find(b"\0")) >= 0:
            # psql loses the rest of a line behind a NUL byte, and with it where the line ends.
            raise self._refused(scanner.sql_bytes + at, "a NUL byte, which no plain dump has (is it UTF-16?)")
        self._waiting += piece
        scanner.feed(piece)
        return self._release(self._settled())

    def finish(self) -> list[Part]:
        """The dump is over: return the rest. Raise BackupBad unless it is so between statements, `\restrict` ended."""
        scanner = self._scanner
        scanner.finish()
        self._settled()
        if scanner.state != "at the top level":
            raise self._refused(scanner.sql_bytes, f"the end of the file {scanner.state}")
        if self._key and not self._closed:
            raise self._refused(scanner.sql_bytes, "the end of the file without \\unrestrict")
        return self._release(scanner.sql_bytes)

    def mark(self, kind: str, position: int, excerpt: bytes) -> None:
        """Take a mark of the lexer's. Raise BackupBad unless it is harmless."""
        words, text = self._scanner.words, self._scanner.text
        if kind == "odd":
            raise self._refused(position, f"text that psql may read in more than one way: {_shown(excerpt)}")
        if kind == "command":
            opened = bool(self._key)
            in_place = not words and not self._closed and (opened or not self._statements)
            if not in_place or not excerpt.startswith((b"\\restrict ", b"\\unrestrict ")[opened]):
                raise self._refused(position, f"a command for psql: {_shown(excerpt)}")
            self._command = position
        elif kind == "command end":
            self._close_command(position, text)
        elif kind == "data end":
            self._held_from, self._is_partly_out = position, bool(words)
            self._is_tied = self._scanner.awaits_newline
        elif self._closed:
            raise self._refused(position, f"a statement behind \\unrestrict: {_shown(text)}")
        else:
            self._statements += 1
            if reason := refusal(words, text, ended=True):
                raise self._refused(position, f"a statement that {reason}: {_shown(text)}")
            if part := self._kind():
                self._part_ends(position, part)
            self._held_from, self._is_partly_out, self._is_tied = position + 1, False, self._scanner.awaits_newline

    def _kind(self) -> str:
        """What the statement that has begun is to be a part of its own for, if so: INDEX or SETTING."""
        kind = kind_of(self._scanner.words, self._scanner.text) if self._apart else ""
        return "" if kind == INDEX and self._is_tied else kind

    def _part_ends(self, position: int, kind: str) -> None:
        if not self._is_partly_out:
            self._parts.append((self._held_from, position + 1, kind))
        elif kind == SETTING:  # other sessions would not learn of it
            raise self._refused(position, "a setting behind rows or more than 1 MiB of comment")

    def _close_command(self, position: int, text: bytes) -> None:
        start, self._command = self._command, None
        assert start is not None  # noqa: S101  a command has begun before it ends
        found = _COMMAND[bool(self._key)].fullmatch(text)
        if not found or (self._key and found[1] != self._key):
            raise self._refused(start, f"a command for psql: {_shown(text)}")
        self._key, self._closed = found[1], bool(self._key)
        self._cuts.append((start, position))
        self._held_from = position

    def _settled(self) -> int:
        """Return the position up to which all is decided and harmless. Raise BackupBad if that cannot be said."""
        scanner, decided = self._scanner, self._scanner.decided_bytes
        if self._command is not None:
            if decided - self._command > _TEXT_BYTES:
                raise self._refused(self._command, f"a command for psql: {_shown(scanner.text)}")
            return self._command
        if not scanner.words:
            if self._apart and scanner.in_comment and decided - self._held_from <= _HELD_BYTES:
                return self._held_from  # the next statement's own piece begins with whole lines
            # The line that ends COPY data may be known to its end before it is decided.
            self._held_from, self._is_partly_out = max(self._held_from, decided), scanner.in_comment
            return decided
        if self._closed:
            raise self._refused(decided, f"a statement behind \\unrestrict: {_shown(scanner.text)}")
        reason = refusal(scanner.words, scanner.text, ended=False)
        whole = "" if self._is_partly_out else self._kind()
        if whole and not reason and decided - self._held_from <= _HELD_BYTES:
            return self._held_from
        if reason == _UNDECIDED or (whole == SETTING and not reason):
            if decided - self._held_from > _HELD_BYTES:
                raise self._refused(self._held_from, f"a statement without end: {_shown(scanner.text)}")
            return self._held_from
        if reason:
            raise self._refused(decided, f"a statement that {reason}: {_shown(scanner.text)}")
        self._held_from, self._is_partly_out = decided, True
        return decided

    def _release(self, until: int) -> list[Part]:
        """Take what lies before that position out of what waits, piece by piece."""
        found = []
        for start, end, kind in self._parts:
            found += [Part(self._cut_out(start), ""), Part(self._cut_out(end), kind)]
        self._parts.clear()
        return [part for part in [*found, Part(self._cut_out(until), "")] if part.text]

    def _cut_out(self, until: int) -> bytes:
        """Take it out of what waits, without the bytes that psql is not to see."""
        if self._begin == 0 and self._waiting.startswith(BYTE_ORDER_MARK):
            self._cuts.insert(0, (0, len(BYTE_ORDER_MARK)))
        text = bytes(self._waiting[: until - self._begin])
        self._lines += text.count(b"\n")
        del self._waiting[: until - self._begin]
        for start, stop in reversed([cut for cut in self._cuts if cut[0] < until]):
            text = text[: start - self._begin] + text[stop - self._begin :]
        self._cuts = [cut for cut in self._cuts if cut[0] >= until]
        self._begin = until
        return text

    def _refused(self, position: int, what: str) -> BackupBad:
        line = 1 + self._lines + self._waiting.count(b"\n", 0, position - self._begin)
        return BackupBad(f"refused at line {line:,} of the dump: {what}; neither it nor what follows was run", _HINT)


def kind_of(words: list[bytes], text: bytes) -> str:
    """Given a statement's first words and bytes as the lexer notes them, return INDEX, SETTING or "". Pure."""
    if words[:2] == [b"create", b"index"] or words[:3] == [b"create", b"unique", b"index"]:
        return INDEX
    is_setting = words[:1] in ([b"set"], [b"reset"]) or text.startswith(b"SELECT pg_catalog.set_config(")
    return SETTING if is_setting else ""


def refusal(words: list[bytes], text: bytes, *, ended: bool) -> str:
    """Given a statement's first words and bytes as the lexer notes them, say why it is refused.

    Return "" when it is not, and `undecided` when more has to be seen. Pure.
    """
    verb = words[0] if words else b""
    whole = ended or len(text) >= _TEXT_BYTES
    if verb in _VERBS:
        return _VERBS[verb]
    if verb in (b"create", b"alter", b"drop"):
        if not ended and len(words) < 3:
            return _UNDECIDED
        shared = words[1:2] and words[1] in _SHARED and words[1:3] != [b"user", b"mapping"]
        return "reaches beyond one database" if shared else ""
    if verb == b"copy":
        return _copy_refusal(words) if ended else _UNDECIDED
    if verb in (b"set", b"reset"):
        return _setting_refusal(words, text, whole) if whole or len(words) >= 3 else _UNDECIDED
    if verb == b"select":
        allowed = b"set_config" not in text.lower() or _SET_CONFIG.fullmatch(text)
        return "" if whole and allowed else "changes a setting as no dump does" if whole else _UNDECIDED
    if verb == b"prepare":
        refused = words[1:] == [b"transaction"]
        return "prepares a transaction" if refused else "" if ended or words[1:] else _UNDECIDED
    return ""


def _copy_refusal(words: list[bytes]) -> str:
    """Only psql's own input and output will do. A second FROM may be the real one: the first can be a name's part."""
    places = [at for at, word in enumerate(words) if word in (b"from", b"to")]
    if len(places) == 1 and words[places[0] + 1 : places[0] + 2] in ([b"stdin"], [b"stdout"]):
        return ""
    return "makes the server read or write a file, or run a program"


def _setting_refusal(words: list[bytes], text: bytes, whole: bool) -> str:
    """SET and RESET of the settings that psql's reading depends on: as pg_dump writes it, or not at all."""
    reset = words[0] == b"reset"
    name = next((word for word in words[1:] if reset or word not in (b"session", b"local")), b"")
    if name in (b'"', b"'", b"$", b"u"):
        return "changes a setting by a quoted name"
    if name != _STRINGS and name not in _ENCODING and not (reset and name == b"all"):
        return ""
    if not whole:
        return _UNDECIDED
    encoding = _SET_ENCODING.fullmatch(text)
    if not encoding and not _SET_STRINGS.fullmatch(text):
        return "changes how psql reads the rest as no dump does"
    if encoding and re.sub(rb"[^a-z0-9]", b"", encoding[1].lower()).decode() in _CLIENT_ONLY:
        return "changes to an encoding that cannot be checked (pg_dump --encoding=UTF8 makes one that can)"
    return ""


def _shown(text: bytes) -> str:
    line = re.split(rb"[\r\n]", text[:80])[0]
    return "'" + "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in line) + "'"
