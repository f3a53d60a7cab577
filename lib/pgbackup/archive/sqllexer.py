"""Where strings, quoted names, dollar quotes and comments begin and end in SQL text that arrives in pieces.

The rules are those of the server and of psql: PostgreSQL manual, 4.1 Lexical Structure, and psqlscan.l.
Nothing is kept but the position: memory stays flat whatever the length of a literal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

_IDENTIFIER = rb"A-Za-z0-9_$\x80-\xff"
_IS_IDENTIFIER = re.compile(rb"[" + _IDENTIFIER + rb"]")
_INTERESTING = re.compile(
    rb"'|\"|\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$|--|/\*|;|\\|\n",
)
_COMMENT_EDGE = re.compile(rb"/\*|\*/")
_ESCAPED_END = re.compile(rb"\\.|'", re.DOTALL)
# The longest piece that a decision may need to see at once: a dollar quote's tag is an identifier.
_LOOKAHEAD_BYTES = 256

Handler = Callable[[bytes, int, int], None]


@dataclass
class Lexer:
    """Walks over SQL text outside COPY data.

    on_mark(data, start, end) is called for every `;`, backslash and newline that stands outside quotes and
    comments; a comment's final newline counts as outside. It may set `stopped` to end the walk there.
    escapes: standard_conforming_strings is off, so a backslash escapes in every string.
    """

    on_mark: Handler
    escapes: bool = False
    stopped: bool = False
    _inside: str = ""
    _tag: bytes = b""
    _depth: int = 0
    _before: bytes = field(default=b"\n\n")

    @property
    def inside(self) -> str:
        """What the text is in the middle of: '' at the top level, else string, name, dollar quote or comment."""
        return self._inside

    def walk(self, data: bytes, position: int, final: bool) -> int:
        """Go over data[position:] and return how far the text was decided; the rest is to be given again.

        final: no more will come, so everything is decided. Stops early behind a mark whose handler said so.
        """
        self.stopped = False
        limit = len(data) if final else max(position, len(data) - _LOOKAHEAD_BYTES)
        start = position
        while position < limit and not self.stopped:
            step = getattr(self, "_in_" + self._inside.replace(" ", "_")) if self._inside else self._at_top
            position = step(data, position, limit, start)
        self._before = (self._before + data[max(start, position - 2) : position])[-2:]
        return position

    def _previous(self, data: bytes, position: int, start: int, count: int) -> bytes:
        """The `count` (1 or 2) bytes before `position`, also where they came with an earlier piece."""
        have = data[max(start, position - count) : position]
        return (self._before + have)[-count:]

    def _at_top(self, data: bytes, position: int, limit: int, start: int) -> int:
        found = _INTERESTING.search(data, position)
        if found is None or found.start() >= limit:
            return limit
        token, at = found.group(), found.start()
        if token in (b";", b"\\", b"\n"):
            self.on_mark(data, at, found.end())
        elif token == b"'":
            self._inside = "escape string" if self.escapes or self._escape_prefix(data, at, start) else "string"
        elif token == b'"':
            self._inside = "quoted name"
        elif token == b"--":
            self._inside = "line comment"
        elif token == b"/*":
            self._inside, self._depth = "block comment", 1
        elif _IS_IDENTIFIER.match(self._previous(data, at, start, 1)):
            return at + 1  # a$b$c is one identifier
        else:
            self._inside, self._tag = "dollar quote", token
        return found.end()

    def _escape_prefix(self, data: bytes, at: int, start: int) -> bool:
        before = self._previous(data, at, start, 2)
        return before[-1:] in (b"e", b"E") and not _IS_IDENTIFIER.match(before[:1])

    def _to(self, delimiter: bytes, data: bytes, position: int, limit: int) -> int:
        at = data.find(delimiter, position)
        if at < 0 or at >= limit:
            return limit
        self._inside = ""
        return at + len(delimiter)

    def _in_string(self, data: bytes, position: int, limit: int, _start: int) -> int:
        return self._to(b"'", data, position, limit)

    def _in_quoted_name(self, data: bytes, position: int, limit: int, _start: int) -> int:
        return self._to(b'"', data, position, limit)

    def _in_dollar_quote(self, data: bytes, position: int, limit: int, _start: int) -> int:
        at = data.find(self._tag, position)
        if at < 0 or at >= limit:
            # The tag may begin before `limit` and end behind it: leave as much as a tag is long.
            return limit if limit == len(data) else max(position, limit - len(self._tag)) or limit
        self._inside = ""
        return at + len(self._tag)

    def _in_line_comment(self, data: bytes, position: int, limit: int, _start: int) -> int:
        at = data.find(b"\n", position)
        if at < 0 or at >= limit:
            return limit
        self._inside = ""
        return at

    def _in_block_comment(self, data: bytes, position: int, limit: int, _start: int) -> int:
        found = _COMMENT_EDGE.search(data, position)
        if found is None or found.start() >= limit:
            return limit
        self._depth += 1 if found.group() == b"/*" else -1
        if self._depth == 0:
            self._inside = ""
        return found.end()

    def _in_escape_string(self, data: bytes, position: int, limit: int, _start: int) -> int:
        found = _ESCAPED_END.search(data, position)
        if found is None or found.start() >= limit:
            return limit
        if found.group() == b"'":
            if data[found.end() : found.end() + 1] == b"'":
                return found.end() + 1  # a doubled quote stays inside an escape string
            self._inside = ""
        return found.end()
