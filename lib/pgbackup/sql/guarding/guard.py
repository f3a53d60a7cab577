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

from pgbackup.errors import BackupBad
from pgbackup.sql.guarding.adapted import Adapter
from pgbackup.sql.guarding.refusals import UNDECIDED, refusal
from pgbackup.sql.parts import (
    ALWAYS_APART,
    COPY,
    EVENT_TRIGGER,
    ROWS,
    ROWS_END,
    SETTING,
    Part,
    bare,
    is_plain_copy,
    kind_of,
)
from pgbackup.sql.scanner import BYTE_ORDER_MARK, DumpScanner
from pgbackup.sql.tokens import TEXT_BYTES

# How much text may wait for a statement's kind to be known. COPY with its 1600 columns has some 200 KiB.
_HELD_BYTES = 1 << 20
_COMMAND = {False: re.compile(rb"\\restrict ([A-Za-z0-9]+)\r?"), True: re.compile(rb"\\unrestrict ([A-Za-z0-9]+)\r?")}
_BEGIN = b"begin"
# What decides how a statement is read; see refusals.py for what of it is let through.
_READING = ([b"standard_conforming_strings"], [b"client_encoding"])
_HINT = "pg_dump writes no such thing; look at the file before you trust it"


def guarded(pieces: Iterable[bytes], scanner: DumpScanner) -> Iterator[bytes]:
    r"""Feed the pieces of a dump to the scanner and yield what of them is decided, in pieces of any length.

    All is yielded as it came, but for `\restrict KEY`, `\unrestrict KEY` (their newlines stay, so lines keep their
    numbers), a byte order mark, names that psql would take for the BEGIN of a body, which come in double quotes, and
    what pg_dump's options add that is not for a new database (see adapted.py).
    Raise BackupBad at the first thing that is refused: nothing from its start on, nor from the start of its statement
    on where that one's first KiB is to blame, has been yielded, nor is it ever.
    """
    for part in parted(pieces, scanner, apart=False):
        yield part.text


def parted(pieces: Iterable[bytes], scanner: DumpScanner, *, apart: bool) -> Iterator[Part]:
    """Do what guarded() does and say what each piece is. apart: yield all that parts.py knows as pieces of their own.

    That is only for what pg_dump has surely written: other scripts may rely on one session, or on a transaction.
    """
    guard = Guard(scanner, apart=apart)
    scanner.on_mark = guard.mark
    for piece in pieces:
        yield from guard.take(piece)
    yield from guard.finish()


class Guard:
    """What has been seen so far. Positions count from the beginning of the dump.

    To be set as the scanner's on_mark: mark. adapter: what it leaves out or changes.
    """

    def __init__(self, scanner: DumpScanner, *, apart: bool) -> None:
        self._scanner = scanner
        self._apart = apart
        self._parts: list[tuple[int, int, str]] = []  # where each begins and ends that is to be a piece of its own
        self._is_partly_out = False  # the statement that has begun
        self._is_tied = False  # it began in a line that psql reads to its end in one session
        self._rows_from: int | None = None  # where the COPY statement ends whose rows are to be pieces of their own
        self._is_moved = False  # a statement was given apart that may be loaded later than it stands here
        self.adapter = Adapter()
        self._statements = 0
        self._key = b""
        self._closed = False
        self._reconnected = False
        self._command: int | None = None  # where a command begins that is still to be decided
        self._held_from = 0  # behind the last statement that is decided
        self._edits: list[tuple[int, int, bytes]] = []  # where from, where to, and what psql gets in its place
        self._waiting = bytearray()
        self._begin = 0  # where that begins
        self._lines = 0  # that lie before it

    def take(self, piece: bytes) -> list[Part]:
        """Take the next piece and return what may go to psql now. Raise BackupBad."""
        return self._release(self.walk(piece))

    def walk(self, piece: bytes) -> int:
        """Read the next piece and return up to where it may go to psql. Raise BackupBad; the scanner has it then."""
        scanner = self._scanner
        self._waiting += piece
        if (at := piece.find(b"\0")) >= 0:
            # psql loses the rest of a line behind a NUL byte, and with it where the line ends.
            scanner.on_mark = None
            scanner.feed(piece)
            at += scanner.sql_bytes - len(piece)
            raise self._refused(at, "a NUL byte, which no plain dump has (is it UTF-16?)")
        scanner.feed(piece)
        return self._settled()

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
            raise self._odd(position, excerpt)
        if kind == "name":
            self._edits.append((position, position + len(_BEGIN), b'"%b"' % _BEGIN))
            return
        if kind == "command":
            if words or not excerpt.startswith(self._expected()):
                raise self._refused(position, f"a command for psql: {_shown(excerpt)}")
            self._command = position
        elif kind == "command end":
            self._close_command(position, text)
        elif kind == "data end":
            self._rows_end(position)
            self._held_from, self._is_partly_out = position, bool(words)
            self._is_tied = self._scanner.awaits_newline
        elif self._closed:
            raise self._refused(position, f"a statement after \\unrestrict: {_shown(text)}")
        else:
            self._statements += 1
            change = self._change(words, text)
            if change is not None:
                self._replace(position + 1, len(text), change)
            elif reason := refusal(words, text, names_setter=self._scanner.names_setter, ended=True):
                raise self._refused(position, f"a statement that {reason}: {_shown(text)}")
            if self._is_moved and words[:1] == [b"set"] and words[1:2] in _READING:
                raise self._refused(position, f"a setting after an event trigger: {_shown(text)}")
            self._rows_from = None  # rows would have come before
            if part := self._kind(ended=True):
                self._part_ends(position, part)
            elif words[:1] == [b"copy"] and self._apart and not (self._is_tied or self._is_partly_out):
                self._copy_ends(position + 1)
            self._reconnected = False
            self._held_from, self._is_partly_out, self._is_tied = position + 1, False, self._scanner.awaits_newline

    def _kind(self, *, ended: bool = False) -> str:
        """What the statement that has begun is to be a part of its own for, if so."""
        kind = kind_of(self._scanner.words, self._scanner.text, ended=ended)
        if kind != SETTING and self._is_tied:
            return ""
        return kind if self._apart or kind in (*ALWAYS_APART, UNDECIDED) else ""

    def _part_ends(self, position: int, kind: str) -> None:
        if not self._is_partly_out:
            self._parts.append((self._held_from, position + 1, kind))
            self._is_moved |= kind == EVENT_TRIGGER
        elif kind == SETTING:  # other sessions would not learn of it
            raise self._refused(position, "a setting after rows or more than 1 MiB of comment")

    def _copy_ends(self, end: int) -> None:
        """A COPY statement, all of which waits, ends before that position."""
        if is_plain_copy(bare(bytes(self._waiting[self._held_from - self._begin : end - self._begin]))):
            self._parts.append((self._held_from, end, COPY))
            self._rows_from = end

    def _rows_end(self, position: int) -> None:
        """The line that ends COPY data ends at that position."""
        if self._rows_from is not None:
            line = bytes(self._waiting[position - self._begin - len(b"\n\\.\r\n") : position - self._begin])
            end = position - (3 if line.endswith(b"\n\\.\n") else 4)
            self._parts += [(self._rows_from, end, ROWS), (end, position, ROWS_END)]
        self._rows_from = None

    def _change(self, words: list[bytes], text: bytes) -> bytes | None:
        """What takes the place of a whole statement of pg_dump's, None for itself."""
        is_pg_dumps = bool(self._scanner.pg_dump_version) and not self._is_partly_out
        return self.adapter.change(words, text) if is_pg_dumps else None

    def _replace(self, end: int, length: int, change: bytes) -> None:
        """Put that in the place of the statement that ends there; lines keep their numbers."""
        before = bytes(self._waiting[self._held_from - self._begin : end - self._begin])
        instead = before[:-length] + change if change else b"\n" * before.count(b"\n")
        self._edits.append((self._held_from, end, instead))

    def _expected(self) -> tuple[bytes, ...]:
        """How a command may begin here: one pair for the whole dump, or with --create one before each `\\connect`."""
        connect = (b"\\connect ", b"\\encoding ") if self.adapter.may_connect else ()
        if self._key:
            return connect if self._closed else (b"\\unrestrict ",)
        return (*connect, b"\\restrict ") if self._reconnected or not self._statements else connect

    def _close_command(self, position: int, text: bytes) -> None:
        start, self._command = self._command, None
        assert start is not None  # noqa: S101  a command has begun before it ends
        if self.adapter.connects(text):
            self._key, self._closed, self._reconnected = b"", False, True
            self._edits.append((start, position, b""))
            self._held_from = position
            return
        found = _COMMAND[bool(self._key)].fullmatch(text)
        if not found or (self._key and found[1] != self._key):
            raise self._refused(start, f"a command for psql: {_shown(text)}")
        self._key, self._closed = found[1], bool(self._key)
        self._edits.append((start, position, b""))
        self._held_from = position

    def _settled(self) -> int:
        """Return the position up to which all is decided and harmless. Raise BackupBad if that cannot be said."""
        scanner, decided = self._scanner, self._scanner.decided_bytes
        if self._command is not None:
            if decided - self._command > TEXT_BYTES:
                raise self._refused(self._command, f"a command for psql: {_shown(scanner.text)}")
            return self._command
        if not scanner.words:
            between = not scanner.in_rows and not self._is_partly_out and decided - self._held_from <= _HELD_BYTES
            if between and (scanner.in_comment or self._apart):
                return min(self._held_from, decided)  # the next statement's own piece begins with whole lines
            # The line that ends COPY data may be known to its end before it is decided.
            self._held_from, self._is_partly_out = max(self._held_from, decided), scanner.in_comment
            return decided
        if self._closed:
            raise self._refused(decided, f"a statement after \\unrestrict: {_shown(scanner.text)}")
        may_change = bool(scanner.pg_dump_version) and self.adapter.may_change(scanner.words, scanner.text)
        if may_change and not self._is_partly_out and decided - self._held_from <= _HELD_BYTES:
            return self._held_from
        reason = refusal(scanner.words, scanner.text, names_setter=scanner.names_setter, ended=False)
        whole = "" if self._is_partly_out else self._kind()
        if whole and not reason and decided - self._held_from <= _HELD_BYTES:
            return self._held_from
        if reason == UNDECIDED or (whole == SETTING and not reason):
            if decided - self._held_from > _HELD_BYTES:
                raise self._refused(self._held_from, f"a statement that does not end: {_shown(scanner.text)}")
            return self._held_from
        if reason:
            raise self._refused(decided, f"a statement that {reason}: {_shown(scanner.text)}")
        self._held_from, self._is_partly_out = decided, True
        return decided

    def _release(self, until: int) -> list[Part]:
        """Take what lies before that position out of what waits, piece by piece."""
        found = []
        for start, end, kind in self._parts:
            found += [Part(self._cut_out(max(start, self._begin)), ""), Part(self._cut_out(end), kind)]
        self._parts.clear()
        rest = self._cut_out(max(until, self._begin))  # rows may be known to their end before that is decided
        return [part for part in [*found, Part(rest, "" if self._rows_from is None else ROWS)] if part.text]

    def _cut_out(self, until: int) -> bytes:
        """Take it out of what waits, edited."""
        if self._begin == 0 and self._waiting.startswith(BYTE_ORDER_MARK):
            self._edits.insert(0, (0, len(BYTE_ORDER_MARK), b""))
        with memoryview(self._waiting) as waiting:
            text = bytes(waiting[: until - self._begin])
        for start, stop, instead in reversed([edit for edit in self._edits if edit[0] < until]):
            text = text[: start - self._begin] + instead + text[stop - self._begin :]
        self.skip(until)
        return text

    def skip(self, until: int, lines: int = 0, rest: bytes = b"") -> None:
        """Let what lies before that position go. lines, rest: of what the scanner alone was fed, its rest undecided."""
        self._lines += self._waiting.count(b"\n", 0, until - self._begin) + lines
        self._waiting[: until - self._begin] = rest
        self._edits = [edit for edit in self._edits if edit[0] >= until]
        self._begin = until

    def _odd(self, position: int, excerpt: bytes) -> BackupBad:
        what = f"text that psql may read in more than one way: {_shown(excerpt)}"
        if self._scanner.words and not self._scanner.text.startswith(excerpt):
            what += f", in the statement {_shown(self._scanner.text)}"
        return self._refused(position, what)

    def _refused(self, position: int, what: str) -> BackupBad:
        line = 1 + self._lines + self._waiting.count(b"\n", 0, position - self._begin)
        return BackupBad(f"refused at line {line:,} of the dump: {what}; neither it nor what follows was run", _HINT)


def _shown(text: bytes) -> str:
    line = re.split(rb"[\r\n]", text[:80])[0]
    return "'" + "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in line) + "'"
