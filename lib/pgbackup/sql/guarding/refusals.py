"""Which statements of a dump are refused, judged by their first words: all that pg_dump writes is let through."""

from __future__ import annotations

import re

from pgbackup.sql.tokens import TEXT_BYTES

UNDECIDED = "undecided"
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


def refusal(words: list[bytes], text: bytes, *, names_setter: bool, ended: bool) -> str:
    """Given a statement's first words and bytes as the lexer notes them, say why it is refused.

    names_setter: the lexer has seen `set_config` in it, and not in a string. Return "" when it is not refused, and
    UNDECIDED when more has to be seen. Pure.
    """
    verb = words[0] if words else b""
    whole = ended or len(text) >= TEXT_BYTES
    if verb in _VERBS:
        return _VERBS[verb]
    if names_setter and (verb != b"copy" or words[1:2] == [b"("]):  # COPY may read a table or column of that name
        allowed = _SET_CONFIG.fullmatch(text)
        return "" if whole and allowed else "changes a setting in a way that no dump does" if whole else UNDECIDED
    if verb in (b"create", b"alter", b"drop"):
        if not ended and len(words) < 3:
            return UNDECIDED
        shared = words[1:2] and words[1] in _SHARED and words[1:3] != [b"user", b"mapping"]
        return "reaches beyond one database" if shared else ""
    if verb == b"copy":
        return _copy_refusal(words) if ended else UNDECIDED
    if verb in (b"set", b"reset"):
        return _setting_refusal(words, text, whole) if whole or len(words) >= 3 else UNDECIDED
    if verb == b"select":
        return "" if whole else UNDECIDED
    if verb == b"prepare":
        refused = words[1:] == [b"transaction"]
        return "prepares a transaction" if refused else "" if ended or words[1:] else UNDECIDED
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
        return UNDECIDED
    encoding = _SET_ENCODING.fullmatch(text)
    if not encoding and not _SET_STRINGS.fullmatch(text):
        return "changes how psql reads the rest in a way that no dump does"
    if encoding and re.sub(rb"[^a-z0-9]", b"", encoding[1].lower()).decode() in _CLIENT_ONLY:
        return "changes to an encoding that cannot be checked (pg_dump --encoding=UTF8 makes one that can)"
    return ""
