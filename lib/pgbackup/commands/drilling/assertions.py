"""The operator's own assertions: a file of queries, each of which has to answer with nothing but `t`."""

from __future__ import annotations

from pathlib import Path

from pgbackup.database.clients.client import Client
from pgbackup.errors import BackupBad, ConfigurationError, PermissionDenied, Unavailable
from pgbackup.sql import statements

_PATH = 'SET search_path = "$user", public;\n'
_SHOWN = 160
_LARGEST_BYTES = 1 << 20


def read(path: Path, key: str) -> list[str]:
    """Return the queries in a file. key: the setting that names it. Raise ConfigurationError."""
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_BYTES + 1)
        if len(text) > _LARGEST_BYTES:
            raise ConfigurationError(f"'{path}' is larger than 1 MiB", f"{key} names a file of queries")
        found = [query.decode("utf-8") for query in statements.split(text)]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"'{path}' cannot be read: {reason}", f"{key} names a file of queries") from None
    if not found:
        raise ConfigurationError(f"'{path}' holds no query", f"put one in, or leave {key} empty")
    return found


def check(loaded: Client, queries: list[str], seconds: float) -> None:
    """Ask them all. Raise BackupBad, with each that is not true."""
    if wrong := [f"{_short(query)} {problem}" for query in queries if (problem := _problem(loaded, query, seconds))]:
        raise BackupBad(f"not true in what was loaded: {'; '.join(wrong)}", "is it true in the live database?")


def _problem(loaded: Client, query: str, seconds: float) -> str:
    try:
        answer = loaded.query(_PATH + query, seconds=seconds)
    except (Unavailable, PermissionDenied) as error:
        return f"cannot be asked: {error.message}"
    if not answer:
        return "gave no row"
    values = {value for line in answer.splitlines() for value in line.split("|")}
    return "" if values == {"t"} else f"answered {answer[:_SHOWN]!r}"


def _short(query: str) -> str:
    lines = (line.strip() for line in query.splitlines())
    text = " ".join(line for line in lines if not line.startswith("--"))
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
