"""What stands around a word or a quote decides what it is: read across the border of two pieces of text. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgbackup.sql.tokens import (
    ATOMIC,
    COMMENT,
    GLUED,
    LETTERS,
    LOOKAHEAD_BYTES,
    NAMES_AND_DOT,
    NUMBER,
    SETTER,
    STRING,
)


@dataclass(frozen=True)
class Surroundings:
    """before: the bytes before the present piece of text, as many as the lexer keeps. Positions are of the piece."""

    before: bytes = b""

    def previous(self, data: bytes, at: int, length: int = 2) -> bytes:
        """The bytes before that position."""
        return data[at - length : at] if at >= length else (self.before + data[:at])[-length:]

    def is_setter(self, data: bytes, at: int, end: int) -> bool:
        """Whether the quoted name that begins there may be set_config: by code points it may be any."""
        last = at + 1 + len(SETTER)
        before, name = self.previous(data, at), data[at + 1 : min(last + 1, end)]
        return (name.lower() == SETTER + b'"' and before[-1:] != b'"') or before.lower() == b"u&"

    def is_name(self, data: bytes, at: int, end: int) -> bool:
        """Whether this `begin` is a name, in such a place that it still is one in double quotes and nothing else.

        PostgreSQL spells names that it need not quote in lower case, and BEGIN in upper case.
        """
        before, behind = self.previous(data, at)[-1:], data[end : end + 1]
        alone = data[at:end] == b"begin" and before not in b"\"'&$:" and behind not in b"\"'&$"
        return alone and not COMMENT.match(data, end) and (before == b"." or not ATOMIC.match(data, end))

    def glued_dollars(self, data: bytes, start: int, end: int) -> Iterator[int]:
        """Where in a word a number ends at a `$`, which releases of psql read differently."""
        before = self.previous(data, start)
        text = before + STRING.sub(lambda string: b"'" * len(string[0]), data[start:end])
        for found in GLUED.finditer(text):
            digits, dollar = found.start(), start + found.end() - 1 - len(before)
            in_word = digits - 2 >= len(before) and text[digits - 1] == 0x24 and text[digits - 2] in LETTERS
            if not in_word:
                yield dollar

    def is_glued(self, data: bytes, at: int) -> bool:
        """Whether a number ends where the word begins; before a dot it may be the end of a name."""
        if NUMBER.search(self.previous(data, at)) is None:
            return False
        return NAMES_AND_DOT.search(self.previous(data, at, LOOKAHEAD_BYTES)) is None


def opened_string(data: bytes, at: int, end: int) -> tuple[str, int]:
    """What a word opens that is a string's prefix, "" for none, and where the text goes on."""
    word = data[at:end].lower()
    quote = end + 1 if word == b"u" and data[end] == 0x26 else end
    if data[quote : quote + 1] != b"'" or word not in (b"e", b"b", b"x", b"u") or (word == b"u" and quote == end):
        return "", end
    return {b"e": "escape string", b"u": "string"}.get(word, "bit string"), quote + 1
