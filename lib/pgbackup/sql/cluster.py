"""What `pg_dumpall --globals-only` writes of roles, read into facts: nothing of the text is ever run. Pure.

Such a text may come from a place that others can write to. It is taken apart into names, attributes and values, from
which statements are made anew; what is not of roles is left out and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from pgbackup.errors import BackupBad
from pgbackup.sql.naming import identifier, literal

COMPLETE = "-- PostgreSQL database cluster dump complete"
_TOKEN = re.compile(
    r"""\s+|--[^\n]*|\\(?:un)?restrict[ ][^\n]*"""
    r"""|(?P<name>"(?:[^"]|"")+")|(?P<escaped>E'(?:[^'\\]|''|\\.)*')|(?P<text>'(?:[^']|'')*')"""
    r"""|(?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)|(?P<number>-?\d+)|(?P<mark>[;,=.()])""",
    re.DOTALL,
)
_ATTRIBUTES = frozenset(
    f"{no}{word}"
    for no in ("", "NO")
    for word in ("SUPERUSER", "INHERIT", "CREATEROLE", "CREATEDB", "LOGIN", "REPLICATION", "BYPASSRLS")
)
POWERS = ("SUPERUSER", "REPLICATION", "BYPASSRLS")
_IN_SILENCE = ("SET",)


@dataclass(frozen=True)
class Role:
    """attributes: words such as LOGIN. password: as the server keeps it, a hash. until: of VALID UNTIL. None: none."""

    attributes: tuple[str, ...] = ()
    limit: int | None = None
    password: str | None = None
    until: str | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Grant:
    """A membership. options: ADMIN, INHERIT and SET with TRUE or FALSE, those that are told."""

    role: str
    member: str
    options: dict[str, bool]


@dataclass(frozen=True)
class Globals:
    """roles, by name. settings: role, setting and values. left_out: other statements, by their words."""

    roles: dict[str, Role] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    settings: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def read(text: str) -> Globals:
    """Given what pg_dumpall wrote, return what it says of roles. Raise BackupBad for anything else."""
    if COMPLETE not in text[-4096:]:
        raise BackupBad("the globals are cut off: they lack pg_dumpall's last line")
    found = Globals()
    for statement in _statements(text):
        _take(found, statement)
    return found


def _statements(text: str) -> Iterator[list[_Token]]:
    position, statement = 0, list[_Token]()
    while position < len(text):
        token = _TOKEN.match(text, position)
        if not token:
            raise BackupBad(f"the globals are not what pg_dumpall writes, at character {position:,}")
        position = token.end()
        if token.lastgroup == "mark" and token[0] == ";":
            yield statement
            statement = []
        elif token.lastgroup:
            statement.append(_Token(token.lastgroup, _value(token.lastgroup, token[0])))
    if statement:
        raise BackupBad("the globals end in the middle of a statement")


def _value(kind: str, text: str) -> str:
    if kind == "name":
        return text[1:-1].replace('""', '"')
    if kind == "text":
        return text[1:-1].replace("''", "'")
    if kind == "escaped":
        return re.sub(r"\\(.)|''", lambda found: found[1] or "'", text[2:-1], flags=re.DOTALL)
    return text


def _take(found: Globals, statement: Sequence[_Token]) -> None:
    """Add what one statement says. Raise BackupBad for one of a role that cannot be understood."""
    begin = " ".join(token.text for token in statement[:2] if token.kind == "word").upper()
    rest = list(statement)
    try:
        if begin == "CREATE ROLE" and not rest[3:]:
            found.roles.setdefault(_name(rest[2]), Role())
        elif begin in ("CREATE ROLE", "ALTER ROLE") and rest[3].text.upper() == "WITH":
            found.roles[_name(rest[2])] = _altered(found.roles.get(_name(rest[2]), Role()), rest[4:])
        elif begin == "ALTER ROLE" and rest[3].text.upper() == "SET":
            found.settings.append(_setting(_name(rest[2]), rest[4:]))
        elif begin == "COMMENT ON" and rest[2].text.upper() == "ROLE":
            name = _name(rest[3])
            found.roles[name] = replace(found.roles.get(name, Role()), comment=_text(rest[5]))
            _end(rest[6:])
        elif begin.split(" ")[0] == "GRANT" and rest[2].text.upper() == "TO":
            found.grants.append(_grant(rest))
        elif begin in ("CREATE ROLE", "ALTER ROLE"):
            raise ValueError(begin)
        elif begin.split(" ")[0] not in _IN_SILENCE:
            found.left_out.append(" ".join(_shown(token) for token in rest[:6]))
    except (IndexError, ValueError):
        raise BackupBad(f"the globals have a statement of roles that pg_dumpall does not write: {begin} …") from None


def _altered(role: Role, rest: list[_Token]) -> Role:
    attributes, position = list[str](), 0
    while position < len(rest):
        word = rest[position].text.upper() if rest[position].kind == "word" else ""
        if word in _ATTRIBUTES:
            attributes.append(word)
            position += 1
            continue
        if word == "CONNECTION" and rest[position + 1].text.upper() == "LIMIT":
            role = replace(role, limit=int(rest[position + 2].text))
            position += 3
        elif word == "PASSWORD":
            role = replace(role, password=_text(rest[position + 1]))
            position += 2
        elif word == "VALID" and rest[position + 1].text.upper() == "UNTIL":
            role = replace(role, until=_text(rest[position + 2]))
            position += 3
        else:
            raise ValueError(word)
    return replace(role, attributes=tuple(attributes))


def _setting(role: str, rest: list[_Token]) -> tuple[str, str, tuple[str, ...]]:
    """`name[.name] TO value[, value…]`, as pg_dumpall writes it."""
    to = [token.text.upper() for token in rest].index("TO")
    key = "".join(token.text for token in rest[:to])
    if not re.fullmatch(r"[\w.]+", key):
        raise ValueError(key)
    return role, key, tuple(_text(token) for token in rest[to + 1 :] if token.text != "," or token.kind != "mark")


def _grant(rest: list[_Token]) -> Grant:
    """`GRANT role TO member [WITH ADMIN OPTION | WITH ADMIN TRUE, INHERIT FALSE, …] [GRANTED BY …]`."""
    words = [token.text.upper() for token in rest[4:] if token.kind == "word"]
    options, position = dict[str, bool](), 0
    while position < len(words) and words[position] != "GRANTED":
        if words[position] in ("ADMIN", "INHERIT", "SET"):
            options[words[position]] = words[position + 1] in ("OPTION", "TRUE")
            position += 2
        elif words[position] == "WITH":
            position += 1
        else:
            raise ValueError(words[position])
    return Grant(_name(rest[1]), _name(rest[3]), options)


def _name(token: _Token) -> str:
    if token.kind not in ("name", "word"):
        raise ValueError(token.text)
    return token.text


def _text(token: _Token) -> str:
    if token.kind not in ("text", "escaped"):
        raise ValueError(token.text)
    return token.text


def _end(rest: Sequence[_Token]) -> None:
    if rest:
        raise ValueError(rest[0].text)


def _shown(token: _Token) -> str:
    """A token as people may read it: never a text, which may be a secret."""
    return "'…'" if token.kind in ("text", "escaped") else token.text


def role_statements(found: Globals, new: Iterable[str], major: int) -> list[str]:
    """Return the statements that make the roles `new` as they were, with passwords, and what belongs to them.

    major: of the server; options of memberships of 16 and later are told to nobody older.
    """
    wanted, statements = set(new), list[str]()
    for name, role in found.roles.items():
        if name in wanted:
            statements.append(_create(name, role))
            if role.comment is not None:
                statements.append(f"COMMENT ON ROLE {identifier(name)} IS {literal(role.comment)}")
    statements += [grant_statement(one, major) for one in found.grants if wanted & {one.role, one.member}]
    for name, key, values in found.settings:
        if name in wanted:
            spelled = ".".join(map(identifier, key.split(".")))
            statements.append(f"ALTER ROLE {identifier(name)} SET {spelled} TO {', '.join(map(literal, values))}")
    return statements


def _create(name: str, role: Role) -> str:
    words = [f"CREATE ROLE {identifier(name)} WITH", *role.attributes]
    words += [f"CONNECTION LIMIT {role.limit}"] * (role.limit is not None)
    words += [f"PASSWORD {literal(role.password)}"] if role.password is not None else []
    words += [f"VALID UNTIL {literal(role.until)}"] if role.until is not None else []
    return " ".join(words)


def grant_statement(one: Grant, major: int) -> str:
    """Return the statement of a membership."""
    words = f"GRANT {identifier(one.role)} TO {identifier(one.member)}"
    if major >= 16 and one.options:
        return f"{words} WITH {', '.join(f'{key} {str(value).upper()}' for key, value in one.options.items())}"
    return words + (" WITH ADMIN OPTION" if one.options.get("ADMIN") else "")
