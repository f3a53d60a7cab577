"""How every session of ours begins: what a database, a role or a server has set must not steer what we ask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# From the first moment on, before any trigger on logins: a function in a schema of the user's that fits better than a
# built-in one would run with our rights (CVE-2018-1058). All may be set by every role, on every major since 13.
OPTIONS = {
    "search_path": "pg_catalog",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "standard_conforming_strings": "on",
    "row_security": "off",  # an error instead of fewer rows
    "client_min_messages": "warning",
    "jit": "off",
    "pgbackup.session": "begun",
}

BEGUN = "pgbackup.session"  # a session in which it is not set has lost all of these on the way, in a pooler
# pg_dump sets the same, and more, but only after its first questions.
DUMPING = {name: OPTIONS[name] for name in OPTIONS if name.endswith("_timeout")}
_STYLES = "('DateStyle', 'ISO'), ('IntervalStyle', 'postgres'), ('TimeZone', 'UTC'), ('extra_float_digits', '1')"
# Younger than the oldest major: set where they are known.
_TIMEOUTS = "('idle_session_timeout', '0'), ('transaction_timeout', '0')"
# Only a superuser may set it. The bytes of SQL_ASCII pass as they are, for they may be no UTF-8.
_FURTHER = (
    "SELECT 'lc_messages', 'C' FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user AND rolsuper"
    " UNION ALL SELECT 'client_encoding', 'SQL_ASCII' WHERE pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=)"
    " 'SQL_ASCII'"
)


# Of which major, and whether a superuser.
WHO = (
    "SELECT pg_catalog.concat_ws(' ', pg_catalog.current_setting('server_version_num')::int / 10000, rolsuper)"
    " FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user"
)


def further(major: int, *, superuser: bool) -> dict[str, str]:
    """Return what a role can begin a session with besides OPTIONS. Pure.

    A trigger on logins may refuse ours, or write a row that the backup does not have.
    """
    return {"event_triggers": "off"} if superuser and major >= 17 else {}


def _set(values: str) -> str:
    wanted = f"(VALUES {values}) AS wanted(name, value)"
    known = f"SELECT wanted.name, wanted.value FROM {wanted} JOIN pg_catalog.pg_settings s ON s.name = wanted.name"
    return f"SELECT pg_catalog.set_config(name, value, false) FROM ({known} UNION ALL {_FURTHER}) AS known(name, value)"


# The first statement of a session that asks, and of one that loads: what is loaded may depend on the styles and the
# time zone of its database.
ASKING = _set(f"{_STYLES}, {_TIMEOUTS}")
LOADING = _set(_TIMEOUTS)


# What values and expressions mean in a session: a dump is loaded under those that it was made under. All may be set by
# every role, on every major since 13.
ORIGIN = (
    *("lc_monetary", "lc_numeric", "lc_time", "TimeZone", "timezone_abbreviations", "DateStyle", "IntervalStyle"),
    *("default_text_search_config", "bytea_output", "xmlbinary", "xmloption", "extra_float_digits"),
)
TEXT_SEARCH = "default_text_search_config"
_BUILT_IN = re.compile(r"pg_catalog\.\w+")


def origin(server: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that the session of a dump had at its source, as `server` (facts.gather()) tells. Pure."""
    told = server.get("session")
    found = told if isinstance(told, Mapping) else {}
    return {key: found[key] for key in ORIGIN if isinstance(found.get(key), str)}


def beginning(server: Mapping[str, Any]) -> dict[str, str]:
    """Return those of origin() that a session of an empty database can begin with. Pure."""
    found = origin(server)
    if not _BUILT_IN.fullmatch(found.get(TEXT_SEARCH, "")):
        found.pop(TEXT_SEARCH, None)
    return found


def options(*settings: Mapping[str, str]) -> str:
    """Return libpq's `options` for those settings; the last one of a name counts. Pure.

    White space and backslashes are escaped (PostgreSQL manual, 34.1.2 Parameter Key Words, options).
    """
    together = {key: value for each in settings for key, value in each.items()}
    return " ".join(f"-c {key}={_escaped(value)}" for key, value in together.items())


def _escaped(value: str) -> str:
    return re.sub(r"([\\\s])", r"\\\1", value)
