"""Where strings, names, dollar quotes, comments, psql commands and statements begin and end in SQL text that
arrives in pieces.

The rules are psql's, for psql decides what is a command of its own and what goes to the server: psqlscan.l
and mainloop.c of PostgreSQL, and the manual, 4.1 Lexical Structure. Memory stays flat whatever the length
of a literal, a name or a comment: nothing is kept but the position and the first bytes of a statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# Enough bytes behind a token's first one to decide what it is; a longer dollar quote's tag is `odd`.
LOOKAHEAD_BYTES = 256
_LONGEST_TAG = 200
_TEXT_BYTES = 1024
_START = rb"A-Za-z_\x80-\xff"
_WORD = rb"[" + _START + rb"][" + _START + rb"0-9$]*"
_OTHER_TOKENS = (
    rb"|['\"();\\]|--|/\*"
    rb"|\$(?:[" + _START + rb"][" + _START + rb"0-9]{0,%d})?\$" % (_LONGEST_TAG - 1)
    + rb"|::|:[" + _START + rb"0-9]+|\r(?!\n)"
)  # fmt: skip
_TOKEN = re.compile(_WORD + _OTHER_TOKENS)
# Where words do not matter, many at once, together with such strings as are the same with and without escapes;
# group 1 is the last of them.
_PLAIN = rb"(?:" + _WORD + rb"|'[^'\\]*(?:''[^'\\]*){0,20}'(?!'))"
_TOKEN_OR_MANY = re.compile(_PLAIN + rb"(?:[ \t\n,.0-9=]*(" + _PLAIN + rb")){0,50}" + _OTHER_TOKENS)
_STRING = re.compile(rb"'[^']*'")
_GLUED = re.compile(rb"[0-9][" + _START + rb"][" + _START + rb"0-9]*\$")
# How many words of a statement are worth remembering, by the first one.
_WORDS_OF = {b"copy": 8, b"insert": 12, b"create": 5}
_LETTERS = frozenset(range(0x80, 0x100)) | frozenset(b"_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_END_OF = {
    "string": re.compile(rb"'"),
    "escape string": re.compile(rb"\\.|'", re.DOTALL),
    "quoted name": re.compile(rb'"'),
    # A lone carriage return ends a comment for psql, too, and what follows may be a command.
    "line comment": re.compile(rb"[\r\n]"),
    "block comment": re.compile(rb"/\*|\*/"),
    "psql command": re.compile(rb"\n"),
    "word": re.compile(rb"[^" + _START + rb"0-9$]"),
    "variable": re.compile(rb"[^" + _START + rb"0-9]"),
}
# psql counts BEGIN, CASE and END in these statements only (since 14, for SQL-standard function bodies).
_ROUTINES = {
    (b"create", *replace, what) for replace in ((), (b"or", b"replace")) for what in (b"function", b"procedure")
}

Handler = Callable[[str, bytes, int, int], None]


class Lexer:
    """Walks over SQL text outside COPY data and calls on_mark(kind, data, start, end) for each of these:

    `end`: the semicolon that makes psql send the statement; `words`, `text` and `tuples` describe it.
    `command`: a backslash outside quotes and comments, where psql begins a command of its own.
    `command end`: the newline after it; `text` is the line from the backslash on.
    `odd`: text that releases of psql read differently, or that is not worth reading right. pg_dump never
        writes it: a digit glued to E'…' or to a name with $, a lone carriage return, a very long dollar
        quote's tag, COPY behind a semicolon that does not end the statement.

    The handler may set `stopped` to end the walk behind the mark.

    words: the statement's first words outside parentheses in lower case, as many as its kind needs, with `'`,
        `"`, `$` and `(` standing for strings, quoted names, a dollar quote and a pair of parentheses.
    text: the first 1024 bytes of the statement. tuples: pairs of parentheses right after the word VALUES.
    escapes: standard_conforming_strings is off, so a backslash escapes in every string.
    """

    def __init__(self, on_mark: Handler) -> None:
        self.on_mark = on_mark
        self.escapes = False
        self.stopped = False
        self.words: list[bytes] = []
        self.tuples = 0
        self._inside = ""
        self._comments = 0
        self._tag = b""
        self._before = b""
        self._text = b""
        self._text_from = -1  # where in the present piece the text goes on, -1 for nowhere
        self._parentheses = 0
        self._blocks = 0
        self._wanted = 1
        self._counting = False
        self._routine = False
        self._behind_inner_semicolon = False

    @property
    def inside(self) -> str:
        """What the text is in the middle of: `string`, `block comment`, …; `statement`; '' between statements."""
        if self._inside in ("", "word", "variable"):
            return "statement" if self.words or self._parentheses else ""
        return self._inside

    @property
    def text(self) -> bytes:
        """The first bytes of the statement or command that a mark is the end of."""
        return self._text

    def walk(self, data: bytes, position: int, end: int, final: bool) -> int:
        """Go over data[position:end] and return how far the text was decided; the rest is to be given again.

        final: everything is decided, for the text ends here or with this line: no token goes on behind a newline.
        """
        self.stopped = False
        limit = end if final else max(position, end - LOOKAHEAD_BYTES)
        begin = position
        self._text_from = position if self.words or self._inside == "psql command" else -1
        while position < limit and not self.stopped:
            if self._inside:
                position = self._within(data, position, limit, end)
            else:
                position = self._at_top(data, position, limit, end)
        self._keep_text(data, position)
        if position > begin:
            self._before = data[position - 1 : position]
        return position

    def _at_top(self, data: bytes, position: int, limit: int, end: int) -> int:
        while position < limit and not self._inside and not self.stopped:
            words_matter = not self._parentheses and (self._counting or self._routine or len(self.words) < self._wanted)
            found = (_TOKEN if words_matter else _TOKEN_OR_MANY).search(data, position, end)
            if found is None or found.start() >= limit:
                return limit
            at, position = found.span()
            first = data[at]
            if first in _LETTERS or (first == 0x27 and position > at + 1):
                position = self._words(found, data, end, words_matter)
            elif first == 0x27 and not self.escapes:
                position = self._skip(b"'", "string", data, position, limit)
            elif first == 0x22:
                position = self._skip(b'"', "quoted name", data, position, limit)
            elif first == 0x28:  # (
                if not self._parentheses:
                    self._note(b"(", at)
                    self.tuples += self._counting
                self._parentheses += 1
            elif first == 0x29:  # )
                self._parentheses = max(0, self._parentheses - 1)
            elif first == 0x3B:  # ;
                self._semicolon(data, at)
            elif first == 0x3A:  # : and perhaps a variable's name, perhaps cut off
                if position == end and end - at > LOOKAHEAD_BYTES:
                    self._inside = "variable"
            elif first == 0x0D:
                self.on_mark("odd", data, at, position)
            else:
                self._open(data, at, position)
        return position

    def _skip(self, quote: bytes, inside: str, data: bytes, position: int, limit: int) -> int:
        """Skip a string or a quoted name, which are too many to go through `_within` for each."""
        self._note(quote, position - 1)
        at = data.find(quote, position, limit)
        if at < 0:
            self._inside = inside
            return limit
        return at + 1

    def _words(self, found: re.Match[bytes], data: bytes, end: int, matter: bool) -> int:
        """Take one word, or several that do not matter, and the quote that the last one is a prefix of."""
        start, position = found.span()
        last = found.start(1) if found.re.groups and found[1] else start
        if position == end and last > start:
            return last  # it may go on in the next piece
        if data[last] == 0x27:
            if position < end:
                return position
            self._inside = "escape string" if self.escapes else "string"
            return last + 1
        if position - last > _LONGEST_TAG and self._previous(data, last) == b"$":
            self.on_mark("odd", data, last, position)
        if found[0].find(b"$") >= 0 and self._is_glued(data, start, found[0]):
            self.on_mark("odd", data, start, position)
        if matter:
            self._word(data, start, position)
        if position == end and end - last > LOOKAHEAD_BYTES:
            self._inside = "word"
        elif position - last == 1 and data[position : position + 1] in (b"'", b"&"):
            return self._prefixed(data, last, position)
        return position

    def _open(self, data: bytes, at: int, end: int) -> None:
        token = data[at:end]
        if token == b"'":
            self._inside = "escape string"
            self._note(token, at)
        elif token == b"--":
            self._inside = "line comment"
        elif token == b"/*":
            self._inside, self._comments = "block comment", 1
        elif token == b"\\":
            self._inside = "psql command"
            self._text, self._text_from = b"", at
            self.on_mark("command", data, at, end)
        else:
            self._inside, self._tag = "dollar quote", token
            self._note(b"$", at)

    def _within(self, data: bytes, position: int, limit: int, end: int) -> int:
        """Go to the end of what the text is inside of, or to the limit."""
        inside = self._inside
        if inside == "dollar quote":
            at = data.find(self._tag, position, end)
            if at < 0 or at >= limit:
                return limit
            self._inside = ""
            return at + len(self._tag)
        found = _END_OF[inside].search(data, position, end)
        if found is None or found.start() >= limit:
            return limit
        at, position = found.span()
        if inside == "escape string":
            if data[at] == 0x5C:
                return position
            if data[position : min(position + 1, end)] == b"'":
                return position + 1
        elif inside == "block comment":
            self._comments += 1 if data[at] == 0x2F else -1
            if self._comments:
                return position
        elif inside in ("line comment", "word", "variable"):
            position = at
        elif inside == "psql command":
            self._keep_text(data, at)
            self.on_mark("command end", data, at, position)
            # In mid-statement it was most likely \g or one of its kind, which has sent the statement.
            self._start_statement()
        self._inside = ""
        return position

    def _word(self, data: bytes, at: int, end: int) -> None:
        word = data[at : min(end, at + _LONGEST_TAG)].lower()
        if not self.words:
            self._wanted = _WORDS_OF.get(word, 1)
        self._counting = word == b"values"
        if self._routine:
            self._count_blocks(data, at, end, word)
        self._note(word, at)

    def _prefixed(self, data: bytes, at: int, end: int) -> int:
        """Open the string whose prefix the word is, if it is one."""
        word = data[at:end].lower()
        if data[end : end + 2] == b"&'" and word == b"u":
            self._inside = "string"
            return end + 2
        if data[end] != 0x27 or word not in (b"e", b"b", b"x"):
            return end
        if word == b"e" and self._previous(data, at).isdigit():
            self.on_mark("odd", data, at, end)
            return end
        self._inside = "escape string" if word == b"e" else "string"
        return end + 1

    def _count_blocks(self, data: bytes, at: int, end: int, word: bytes) -> None:
        if word == b"begin" or (word == b"case" and self._blocks):
            self._blocks += 1
        elif word == b"end":
            self._blocks = max(0, self._blocks - 1)
        elif word == b"copy" and self._behind_inner_semicolon:
            self.on_mark("odd", data, at, end)
        self._behind_inner_semicolon = False

    def _semicolon(self, data: bytes, at: int) -> None:
        if self._parentheses or self._blocks:
            self._behind_inner_semicolon = self._blocks > 0
            return
        self._keep_text(data, at + 1)
        self.on_mark("end", data, at, at + 1)
        self._start_statement()

    def _start_statement(self) -> None:
        self.words = []
        self.tuples = self._parentheses = self._blocks = 0
        self._wanted = 1
        self._counting = self._routine = self._behind_inner_semicolon = False
        self._text, self._text_from = b"", -1

    def _note(self, word: bytes, at: int) -> None:
        """Remember a word of the statement, and with the first one where the statement begins."""
        if self._parentheses or len(self.words) >= self._wanted:
            return
        if not self.words:
            self._text, self._text_from = b"", at
        elif word in (b'"', b"'") and self.words[-1] == word:
            return  # most likely a doubled quote inside of it
        self.words.append(word)
        self._routine = self._routine or tuple(self.words) in _ROUTINES

    def _keep_text(self, data: bytes, until: int) -> None:
        if self._text_from >= 0:
            self._text += data[self._text_from : min(until, self._text_from + _TEXT_BYTES - len(self._text))]
            self._text_from = until

    def _is_glued(self, data: bytes, at: int, words: bytes) -> bool:
        return _GLUED.search(self._previous(data, at) + _STRING.sub(b"'", words)) is not None

    def _previous(self, data: bytes, at: int) -> bytes:
        return data[at - 1 : at] if at else self._before
