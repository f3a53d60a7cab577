"""Names and literals in SQL text, and the names of the databases that a restore makes. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import datetime, timedelta

LONGEST_BYTES = 63  # NAMEDATALEN - 1: the server would cut a longer name in silence
SCRATCH = "_restore_"
BEFORE = "_before_restore_"
STAMP = "%Y%m%d_%H%M%S"
_AMBIGUOUS = BEFORE.removesuffix(SCRATCH)


def identifier(name: str) -> str:
    """Return `name` as a quoted SQL identifier (PostgreSQL manual, 4.1.1)."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return `text` as an SQL string constant, whatever standard_conforming_strings is (manual, 4.1.2.2)."""
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in text else f"'{quoted}'"


_PART = re.compile(r'"((?:[^"]|"")*)"|([^".]+)')


def parts(spelled: str) -> tuple[str, ...]:
    """Return the parts of a qualified name as SQL text spells it: `public."a ""b c"` is (public, a "b c).

    With quote_all_identifiers pg_dump quotes what it would not otherwise; the name is the same.
    """
    return tuple(plain or quoted.replace('""', '"') for quoted, plain in _PART.findall(spelled))


def derived(database: str, infix: str, when: datetime) -> str:
    """Return the name of a database that belongs to `database`: its name, the infix and a local time.

    A name that would become too long is cut, between characters, and has a hash of the whole name in front of the
    infix. So has one that another database could have as well: `shop_before` and `_restore_` would make what
    `shop` and `_before_restore_` do.
    """
    suffix = infix + f"{when.astimezone():{STAMP}}"
    room = LONGEST_BYTES - len(suffix.encode())
    if len(database.encode()) > room or (infix == SCRATCH and database.endswith(_AMBIGUOUS)):
        told = f"_{hashlib.sha256(database.encode()).hexdigest()[:8]}"
        return database.encode()[: room - len(told)].decode("utf-8", "ignore") + told + suffix
    return database + suffix


def next_derived(database: str, infix: str, when: datetime, newest: str | None) -> str:
    """Return derived()'s name, or where that would not come behind `newest`, another of its names, one that does.

    So a second restore within a second, or after a clock was set back, has a name of its own and is the newest.
    """
    name = derived(database, infix, when)
    if newest is None or name > newest:
        return name
    stamp = newest[-len("20000101_000000") :]
    try:
        later = datetime.strptime(stamp, STAMP) + timedelta(seconds=1)  # noqa: DTZ007  a name has no zone
    except (ValueError, OverflowError):
        return name  # somebody else has made that one
    return newest.removesuffix(stamp) + f"{later:{STAMP}}"


def derived_prefix(database: str, infix: str) -> str:
    """What the names that derived() makes begin with."""
    whole = derived(database, infix, datetime(2000, 1, 1).astimezone())
    return whole[: -len("20000101_000000")]


def of_kind(names: Iterable[str], database: str, infix: str) -> list[str]:
    """Return those of the names that derived() makes of that database and infix, newest first. Pure."""
    wanted = re.compile(re.escape(derived_prefix(database, infix)) + "[0-9]{8}_[0-9]{6}")
    return sorted(filter(wanted.fullmatch, names), reverse=True)
