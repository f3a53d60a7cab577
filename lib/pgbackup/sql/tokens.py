"""The tokens of SQL text as psql reads it, for the lexer: psqlscan.l, and the manual, 4.1 Lexical Structure."""

from __future__ import annotations

import re

# Enough bytes behind a token's first one to decide what it is; a longer dollar quote's tag is `odd`.
LOOKAHEAD_BYTES = 256
LONGEST_TAG = 200
TEXT_BYTES = 1024
_START = rb"A-Za-z_\x80-\xff"
_WORD = rb"[" + _START + rb"][" + _START + rb"0-9$]*"
_TAG = rb"[" + _START + rb"][" + _START + rb"0-9]"
_OTHER_TOKENS = (
    rb"|['\"();\\]|--|/\*|\$(?:%b{0,%d})?\$|\$%b{%d}" % (_TAG, LONGEST_TAG - 1, _TAG, LONGEST_TAG)
    + rb"|::|:[" + _START + rb"0-9]+|:\{|\r(?!\n)"
)  # fmt: skip
TOKEN = re.compile(_WORD + _OTHER_TOKENS)
# Where words do not matter, many at once, with strings that have no prefix and mean the same with escapes;
# group 1 is the last of them.
_PLAIN = rb"(?:" + _WORD + rb"|(?<![" + _START + rb"])'[^'\\]*(?:''[^'\\]*){0,20}'(?!'))"
TOKEN_OR_MANY = re.compile(_PLAIN + rb"(?:[ \t\n,.0-9=]*(" + _PLAIN + rb")){0,50}" + _OTHER_TOKENS)
STRING = re.compile(rb"'[^']*'")
GLUED = re.compile(
    rb"(?:(?:\A|(?<!["
    + _START
    + rb"0-9]))[0-9]+|[0-9]\.)"
    + rb"(?:%b{0,%d}\$|%b{%d})" % (_TAG, LONGEST_TAG - 1, _TAG, LONGEST_TAG)
)
# A number that a word follows at once: releases differ in how much of the word they take for a part of it.
NUMBER = re.compile(rb"[0-9]\.?\Z")
NAMES_AND_DOT = re.compile(rb"(?<![" + _START + rb"0-9$.])(?:" + _WORD + rb"\.)+\Z")
EXPONENT = re.compile(rb"[eE][0-9]*")
# Variables that psql has anyway and that hold names: their text would be read as SQL.
VARIABLES = {b":DBNAME", b":HOST", b":PORT", b":SERVICE", b":USER"}
# How many words of a statement are worth remembering, by the first one.
WORDS_OF = {b"copy": 8, b"insert": 12, b"create": 5, b"alter": 3, b"drop": 3, b"set": 3, b"reset": 2, b"prepare": 2}
WORDS_OF[b"comment"] = 4
LETTERS = frozenset(range(0x80, 0x100)) | frozenset(b"_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
END_OF = {
    "string": re.compile(rb"'"),
    "bit string": re.compile(rb"'"),
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
ROUTINES = {
    (b"create", *replace, what) for replace in ((), (b"or", b"replace")) for what in (b"function", b"procedure")
}
# Behind these a token that is no plain word would have to be told from one exactly as each release of psql does.
BEGINNINGS = {(), (b"create",), (b"create", b"or"), (b"create", b"or", b"replace")}
# What a statement in such a body begins with, if not with a parenthesis. All else does not belong into one.
IN_BODIES = {b"select", b"insert", b"update", b"delete", b"merge", b"with", b"values", b"table", b"return", b"end"}
# Run at once and able to call a function: here every word is looked at, for a setting may change by set_config().
READ_THROUGH = {b"select", b"with", b"values", b"explain", b"prepare", b"execute", b"call", b"declare", b"copy"}
SETTER = b"set_config"
# Behind the BEGIN of a body, in the same line; all else that is spelled so is somebody's name.
ATOMIC = re.compile(rb"[ \t]{1,64}(?i:atomic)(?![" + _START + rb"0-9$])")
COMMENT = re.compile(rb"[ \t]{0,64}(?:--|/\*)")
