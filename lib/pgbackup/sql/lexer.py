"""Where strings, names, dollar quotes, comments, psql commands and statements begin and end in SQL text that
arrives in pieces.

The rules are psql's, for psql decides what is a command of its own and what goes to the server: psqlscan.l
and mainloop.c of PostgreSQL, and the manual, 4.1 Lexical Structure. Memory stays flat whatever the length
of a literal, a name or a comment: nothing is kept but the position and the first bytes of a statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pgbackup.sql.surroundings import Surroundings, opened_string
from pgbackup.sql.tokens import (
    BEGINNINGS,
    END_OF,
    EXPONENT,
    IN_BODIES,
    LETTERS,
    LONGEST_TAG,
    LOOKAHEAD_BYTES,
    READ_THROUGH,
    ROUTINES,
    SETTER,
    TEXT_BYTES,
    TOKEN,
    TOKEN_OR_MANY,
    VARIABLES,
    WORDS_OF,
)

Handler = Callable[[str, bytes, int, int], None]


class Lexer:
    """Walks over SQL text outside COPY data and calls on_mark(kind, data, start, end) for each of these:

    `end`: the semicolon that makes psql send the statement; `words`, `text` and `tuples` describe it.
    `command`: a backslash outside quotes and comments, where psql begins a command of its own.
    `command end`: the newline after it; `text` is the line from the backslash on.
    `name`: a function's, a column's or a table's name that psql takes for the BEGIN of a routine's body, so that for
        psql the statement does not end where it ends for the server; in double quotes it is but a name to both.
    `odd`: text that releases of psql read differently, or that is not worth reading right. pg_dump never
        writes it: a number glued to a string or to a name with $, a lone carriage return, a very long dollar
        quote's tag, a psql variable that exists, a statement that does not begin with a plain word, CREATE
        without one behind it, and in a routine's body a number glued to a word, or other than a query.

    The handler may set `stopped` to end the walk behind the mark.

    words: the statement's first words outside parentheses in lower case, as many as its kind needs, with `'`,
        `"`, `$` and `(` standing for strings, quoted names, a dollar quote and a pair of parentheses.
    text: the first 1024 bytes of the statement. tuples: pairs of parentheses right after the word VALUES.
    names_setter: a statement that is run at once has `set_config` as a word or a name, or a name by code points.
    escapes: standard_conforming_strings is off, so a backslash escapes in every string.
    """

    def __init__(self, on_mark: Handler) -> None:
        self.on_mark = on_mark
        self.escapes = False
        self.stopped = False
        self.words: list[bytes] = []
        self.tuples = 0
        self.names_setter = False
        self._inside = ""
        self._comments = 0
        self._tag = b""
        self._before = b""  # what goes before the text that is to come, at most LOOKAHEAD_BYTES
        self._around = Surroundings()
        self.text = b""
        self._text_from = -1  # where in the present piece the text goes on, -1 for nowhere
        self._parentheses = 0
        self._blocks = 0
        self._wanted = 1
        self._counting = False
        self._routine = False
        self._reads_through = False
        self._behind_inner_semicolon = False

    @property
    def inside(self) -> str:
        """What the text is in the middle of: `string`, `block comment`, …; `statement`; '' between statements."""
        if self._inside in ("", "word", "variable"):
            return "statement" if self.words or self._parentheses else ""
        return self._inside

    def walk(self, data: bytes, position: int, end: int, final: bool) -> int:
        """Go over data[position:end] and return how far the text was decided; the rest is to be given again.

        final: everything is decided, for the text ends here or with this line: no token goes on behind a newline.
        """
        self.stopped = False
        limit = end if final else max(position, end - LOOKAHEAD_BYTES)
        begin = position
        if not begin:
            self._around = Surroundings(self._before)
        self._text_from = position if self.words or self._inside == "psql command" else -1
        while position < limit and not self.stopped:
            if self._inside:
                position = self._within(data, position, limit, end)
            else:
                position = self._at_top(data, position, limit, end)
        self._keep_text(data, position)
        if position > begin:
            self._before = self._around.previous(data, position, LOOKAHEAD_BYTES)
        return position

    def _at_top(self, data: bytes, position: int, limit: int, end: int) -> int:
        while position < limit and not self._inside and not self.stopped:
            words_matter = self._reads_through or (
                not self._parentheses and (self._counting or self._routine or len(self.words) < self._wanted)
            )
            found = (TOKEN if words_matter else TOKEN_OR_MANY).search(data, position, end)
            if found is None or found.start() >= limit:
                return limit
            at, position = found.span()
            first = data[at]
            if first in LETTERS or (first == 0x27 and position > at + 1):
                position = self._words(found, data, end, words_matter)
            elif first == 0x27 and not self.escapes:
                position = self._skip(b"'", "string", data, position, limit)
            elif first == 0x22:
                self.names_setter |= self._reads_through and self._around.is_setter(data, at, end)
                position = self._skip(b'"', "quoted name", data, position, limit)
            elif first == 0x28:  # (
                if not self._parentheses:
                    self._note(b"(", data, at)
                    self.tuples += self._counting
                    self._behind_inner_semicolon = False
                self._parentheses += 1
            elif first == 0x29:  # )
                self._parentheses = max(0, self._parentheses - 1)
            elif first == 0x3B:  # ;
                self._semicolon(data, at)
            elif first == 0x3A:  # : and perhaps a variable's name, perhaps cut off
                if data[at:position] in VARIABLES or data[position - 1] == 0x7B:
                    self._odd(data, at, position)
                elif position == end and end - at > LOOKAHEAD_BYTES:
                    self._inside = "variable"
            elif first == 0x0D:
                self._odd(data, at, position)
            else:
                self._open(data, at, position)
        return position

    def _skip(self, quote: bytes, inside: str, data: bytes, position: int, limit: int) -> int:
        """Skip a string or a quoted name, which are too many to go through `_within` for each."""
        self._note(quote, data, position - 1)
        at = data.find(quote, position, limit)
        if at < 0:
            self._inside = inside
            return limit
        return at + 1

    def _words(self, found: re.Match[bytes], data: bytes, end: int, matter: bool) -> int:
        """Take one word, or several that do not matter, and the quote that the last one is a prefix of."""
        start, position = found.span()
        last = found.start(1) if found.re.groups and found[1] else start
        cut = position == end and last > start  # the last one may go on in the next piece
        checked = last if cut else position
        if data.find(b"$", start, checked) >= 0 or checked - start > LONGEST_TAG:
            for dollar in self._around.glued_dollars(data, start, checked):
                self._odd(data, dollar, dollar + 1)
        if cut:
            return last
        if data[last] == 0x27:
            if position < end:
                return position
            self._inside = "escape string" if self.escapes else "string"
            return last + 1
        if matter:
            self._word(data, start, position)
        if position == end and end - last > LOOKAHEAD_BYTES:
            self._inside = "word"
        elif data.startswith((b"'", b"&'"), position) and self._around.is_glued(data, last):
            self._odd(data, last, position)
        elif position - last == 1 and data[position : position + 1] in (b"'", b"&"):
            self._inside, position = opened_string(data, last, position)
        return position

    def _open(self, data: bytes, at: int, end: int) -> None:
        token = data[at:end]
        if token == b"'":
            self._inside = "escape string"
            self._note(token, data, at)
        elif token == b"--":
            self._inside = "line comment"
        elif token == b"/*":
            self._inside, self._comments = "block comment", 1
        elif token == b"\\":
            self._inside = "psql command"
            self.text, self._text_from = b"", at
            self.on_mark("command", data, at, end)
        elif not token.endswith(b"$"):
            self._odd(data, at, end)
        else:
            self._inside, self._tag = "dollar quote", token
            self._note(b"$", data, at)

    def _within(self, data: bytes, position: int, limit: int, end: int) -> int:
        """Go to the end of what the text is inside of, or to the limit."""
        inside = self._inside
        if inside == "dollar quote":
            at = data.find(self._tag, position, end)
            if at < 0 or at >= limit:
                return limit
            self._inside = ""
            return at + len(self._tag)
        found = END_OF[inside].search(data, position, end)
        if found is None or found.start() >= limit:
            return limit
        at, position = found.span()
        if inside in ("string", "escape string"):
            if data[at] == 0x5C:
                return position
            if data[position : min(position + 1, end)] == b"'":
                return position + 1  # a doubled quote; a bit string has none
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
        word = data[at : min(end, at + LOOKAHEAD_BYTES)].lower()
        if not self.words:
            self._wanted = WORDS_OF.get(word, 1)
        self._counting = word == b"values"
        self.names_setter |= self._reads_through and word == SETTER
        if self._routine:
            if self._around.is_glued(data, at) and not EXPONENT.fullmatch(word):
                self._odd(data, at, end)
            self._count_blocks(data, at, end, word)
        self._note(word, data, at, end)

    def _count_blocks(self, data: bytes, at: int, end: int, word: bytes) -> None:
        if word == b"begin" and self._around.is_name(data, at, end):
            self._keep_text(data, at)
            self.on_mark("name", data, at, end)
        elif word == b"begin" or (word == b"case" and self._blocks):
            self._blocks += 1
        elif word == b"end":
            self._blocks = max(0, self._blocks - 1)
        if self._behind_inner_semicolon and word not in IN_BODIES:
            self._odd(data, at, end)
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
        self._counting = self._routine = self._reads_through = self._behind_inner_semicolon = False
        self.names_setter = False
        self.text, self._text_from = b"", -1

    def _note(self, word: bytes, data: bytes, at: int, end: int = 0) -> None:
        """Remember a word of the statement, and with the first one where the statement begins.

        end: of a word; not given for what only stands for something else.
        """
        if self._parentheses or len(self.words) >= self._wanted:
            return
        if len(self.words) < 4 and tuple(self.words) in BEGINNINGS:
            is_prefix = end == at + 1 and data.startswith((b"'", b"&"), end)
            if not end or is_prefix or self._around.is_glued(data, at):
                self._odd(data, at, at + 1)
        if not self.words:
            self.text, self._text_from = b"", at
            self._reads_through = word in READ_THROUGH
        elif word in (b'"', b"'") and self.words[-1] == word:
            return  # most likely a doubled quote inside of it
        self.words.append(word)
        self._routine = self._routine or tuple(self.words) in ROUTINES

    def _odd(self, data: bytes, at: int, end: int) -> None:
        if at > self._text_from:
            self._keep_text(data, at)
        self.on_mark("odd", data, at, end)

    def _keep_text(self, data: bytes, until: int) -> None:
        if self._text_from >= 0:
            self.text += data[self._text_from : min(until, self._text_from + TEXT_BYTES - len(self.text))]
            self._text_from = until
