"""The lexer against a slow, literal copy of the rules of psql's own scanner, in one piece and in many."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pgbackup.sql.lexer import Lexer

from tests.support.effort import chosen

Marks = list[tuple[str, int]]

IDENTIFIER = rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*"
# psqlscan.l of PostgreSQL 16, state INITIAL: what matters for where a quote, a comment or a command begins.
# The longest match wins, of equally long ones the first.
INITIAL = [
    ("space", re.compile(rb"[ \t\n\r\f]+|--[^\n\r]*")),
    ("block", re.compile(rb"/\*")),
    ("bit string", re.compile(rb"[bBxX]'")),
    ("plain string", re.compile(rb"[uU]&'")),
    ("string", re.compile(rb"'")),
    ("escape string", re.compile(rb"[eE]'")),
    ("dollar", re.compile(rb"\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$")),
    ("name", re.compile(rb'"|[uU]&"')),
    ("other", re.compile(rb"::|:[A-Za-z0-9_\x80-\xff]+")),
    ("other", re.compile(rb"[0-9]+(?:" + IDENTIFIER + rb")?|\$[0-9]+(?:" + IDENTIFIER + rb")?")),
    ("identifier", re.compile(IDENTIFIER)),
    ("other", re.compile(rb".", re.DOTALL)),
]


def expected(text: bytes, escapes: bool) -> Marks:
    """Where psql ends a statement and where it begins a command of its own."""
    marks: Marks = []
    position = depth = blocks = 0
    identifiers: list[bytes] = []
    while position < len(text):
        matches = [(rule.match(text, position), kind) for kind, rule in INITIAL]
        found, kind = max(((m, k) for m, k in matches if m), key=lambda pair: pair[0].end())
        token, position = found[0], found.end()
        if kind == "block":
            position = end_of_comment(text, position)
        elif kind == "dollar":
            closing = text.find(token, position)
            position = closing + len(token) if closing >= 0 else len(text)
        elif kind == "name":
            position = end_of(rb'(?:[^"]|"")*"', text, position)
        elif kind == "bit string":
            position = end_of(rb"[^']*'", text, position)
        elif kind in ("string", "plain string", "escape string"):
            slashes = kind == "escape string" or (escapes and kind == "string")
            position = end_of(rb"(?:[^\\']|\\.|'')*'" if slashes else rb"(?:[^']|'')*'", text, position)
        elif kind == "identifier":
            identifiers.append(token.lower())
            if depth == 0 and re.match(rb"create (or replace )?(function|procedure) ", b" ".join(identifiers) + b" "):
                blocks += token.lower() == b"begin" or (token.lower() == b"case" and blocks > 0)
                blocks -= token.lower() == b"end" and blocks > 0
        elif token == b"(":
            depth += 1
        elif token == b")":
            depth = max(0, depth - 1)
        elif token == b";" and not depth and not blocks:
            marks.append(("end", found.start()))
            identifiers = []
        elif token == b"\\":
            marks.append(("command", found.start()))
            position = end_of(rb"[^\n]*\n", text, position)
            depth = blocks = 0
            identifiers = []
    return marks


def end_of(pattern: bytes, text: bytes, position: int) -> int:
    found = re.compile(pattern, re.DOTALL).match(text, position)
    return found.end() if found else len(text)


def end_of_comment(text: bytes, position: int) -> int:
    depth = 1
    while depth and position < len(text):
        two = text[position : position + 2]
        depth += (two == b"/*") - (two == b"*/")
        position += 2 if two in (b"/*", b"*/") else 1
    return position


def marks_of(text: bytes, escapes: bool, sizes: list[int]) -> tuple[Marks, int | None]:
    """The lexer's marks, the text cut into pieces of these sizes, and where the first odd one is."""
    marks: Marks = []
    odd: list[int] = []
    offset = 0

    def on_mark(kind: str, _data: bytes, start: int, _end: int) -> None:
        if kind == "odd":
            odd.append(offset + start)
        elif kind != "command end" and not odd:
            marks.append((kind, offset + start))

    lexer = Lexer(on_mark)
    lexer.escapes = escapes
    carry, rest = b"", text
    for size in sizes:
        data, rest = carry + rest[:size], rest[size:]
        reached = lexer.walk(data, 0, len(data), final=False)
        offset, carry = offset + reached, data[reached:]
        assert len(carry) <= 600
    lexer.walk(carry + rest, 0, len(carry + rest), final=True)
    return marks, min(odd, default=None)


FRAGMENTS = [
    *(bytes([byte]) for byte in b"'\"\\;$:()-/*&eEuUbxNa1_ \n\r,."),
    *(b"\xc3\xa9", b"''", b"$$", b"$a$", b"$1", b"--", b"/*", b"*/", b"::", b":e", b"E'", b"u&'", b'U&"', b"\\'"),
    *(
        b" create ",
        b"function ",
        b"or replace ",
        b" begin ",
        b" BEGIN ATOMIC ",
        b" atomic ",
        b".begin",
        b" end ",
        b"case ",
        b"copy ",
        b"values",
        b"a$b$",
        b"; select ",
    ),
    *(b" " * 300, b"x" * 300, b"'" + b"y" * 300, b"'a', 1, b" * 60, b"$" + b"t" * 198 + b"$", b"$" + b"t" * 199 + b"$"),
]
# Most begin as statements do, for what does not is odd and then not compared any further.
TEXTS = st.builds(
    lambda start, fragments: start + b"".join(fragments),
    st.sampled_from([b"", b"SELECT ", b"SELECT (", b"create function f() "]),
    st.lists(st.sampled_from(FRAGMENTS), max_size=25),
)


@settings(max_examples=chosen(400, 2000), deadline=None)
@example(text=b"SELECT :E'\\'; \\! x --'", escapes=False, sizes=[])
@example(text=b"-- a\r\\! x", escapes=False, sizes=[])
@example(text=b"/*/ */ \\! x */", escapes=False, sizes=[])
@example(text=b"SELECT U&'\\';\\! x", escapes=True, sizes=[])
@example(text=b"SELECT (E'abc''d\\'e';\\! x", escapes=False, sizes=[])
@example(text=b"SELECT b'''\\';\\! x", escapes=True, sizes=[])
@example(text=b"SELECT (1E'" + b" " * 300 + b"'", escapes=False, sizes=[])
@example(text=b"SELECT (1, ab" + b"c" * 300 + b", 'a'", escapes=False, sizes=[310, 1])
@example(text=b"SELECT (" + b"'a', " * 60 + b"'it''s \\! x", escapes=False, sizes=[310, 2])
@example(text=b"SELECT (" + b"a        ," * 40 + b"abe'\\'; \\! x", escapes=False, sizes=[410])
@given(TEXTS, st.booleans(), st.lists(st.integers(0, 400), max_size=30))
def test_marks_are_where_psql_ends_statements_and_begins_commands(text: bytes, escapes: bool, sizes: list[int]) -> None:
    marks, odd = marks_of(text, escapes, sizes)
    limit = len(text) if odd is None else odd
    names = [at for kind, at in marks if kind == "name" and at < limit]
    quoted = text
    for at in reversed(names):
        assert text[at : at + 5] == b"begin"
        quoted = quoted[:at] + b'"begin"' + quoted[at + 5 :]

    def moved(position: int) -> int:
        return position + 2 * sum(at < position for at in names)

    found = [(kind, moved(at)) for kind, at in marks if kind != "name" and at < limit]
    assert found == [mark for mark in expected(quoted, escapes) if mark[1] < moved(limit)]
    in_bytes, odd_in_bytes = marks_of(text, escapes, [1] * len(text))
    assert (odd is None) == (odd_in_bytes is None)
    limit = min(limit, len(text) if odd_in_bytes is None else odd_in_bytes)
    assert [mark for mark in marks if mark[1] < limit] == [mark for mark in in_bytes if mark[1] < limit]


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1E'\\'; \\! x --';",
        b"SELECT 1a$b$ \\! x $b$",
        b"SELECT (1a$b$ \\! x $b$",
        b"SELECT 1;\r\\! x",
        b"DO $" + b"t" * 201 + b"$ ' $" + b"t" * 201 + b"$",
        b"CREATE FUNCTION f() BEGIN ATOMIC SELECT 1; COPY t FROM stdin; END;",
    ],
)
def test_what_releases_of_psql_read_differently_is_odd(text: bytes) -> None:
    for sizes in ([], [1] * len(text)):
        assert marks_of(text, False, sizes)[1] is not None


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1, 'it', E'a\\'b', 1e10, 0x1F, x'1F', a1$b$, $1, ('1a$', 2) FROM t;\r\n-- a\r\n",
        b"DO $" + b"t" * 200 + b"$ ' $" + b"t" * 200 + b"$;",
        b"CREATE FUNCTION f() BEGIN ATOMIC SELECT copy FROM copy; SELECT 1; END; COPY t FROM stdin;",
        b"SELECT " + b"x" * 1000 + b", $" + b"1" * 500 + b";",
    ],
)
def test_plain_text_is_not_odd(text: bytes) -> None:
    for sizes in ([], [1] * len(text)):
        assert marks_of(text, False, sizes)[1] is None
