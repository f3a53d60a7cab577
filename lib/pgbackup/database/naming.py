"""Names and literals in SQL text, and the names of the databases that a restore makes. Pure."""

from __future__ import annotations

import re
from datetime import datetime

LONGEST_BYTES = 63  # NAMEDATALEN - 1: the server would cut a longer name in silence
SCRATCH = "_restore_"
BEFORE = "_before_restore_"
STAMP = "%Y%m%d_%H%M%S"


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

    A name that would become too long is cut in front of the infix, between characters.
    """
    suffix = infix + f"{when.astimezone():{STAMP}}"
    room = LONGEST_BYTES - len(suffix.encode())
    return database.encode()[:room].decode("utf-8", "ignore") + suffix


def derived_prefix(database: str, infix: str) -> str:
    """What the names that derived() makes begin with."""
    whole = derived(database, infix, datetime(2000, 1, 1).astimezone())
    return whole[: -len("20000101_000000")]
