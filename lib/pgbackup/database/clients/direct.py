"""Runs the host's own client programs over TCP or a socket: for databases outside Docker."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from pgbackup.database.clients.client import Client, Run, patience
from pgbackup.settings.config import Settings, Target


def connection_of(url: str, user: str) -> dict[str, str]:
    """Given postgresql://user@host:port/database?key=value, return libpq keywords without the database.

    The same parts as in the PostgreSQL manual, 34.1.1.2: a host keeps its letters (it may be a directory), a '+'
    is a '+'. user: the role where the URL names none.
    """
    parts = urlsplit(url)
    login, _, place = parts.netloc.rpartition("@")
    found = {"user": unquote(login.partition(":")[0]) or user}
    address, colon, port = place.rpartition(":")
    if not colon or port.endswith("]"):
        address, port = place, ""
    if address:
        found["host"] = unquote(address.removeprefix("[").removesuffix("]"))
    if port:
        found["port"] = port
    for word in filter(None, parts.query.split("&")):
        key, _, value = word.partition("=")
        found[unquote(key)] = unquote(value)
    found.pop("dbname", None)
    return found


class Direct(Client):
    """The programs come from PATH and must not be older than the server."""

    kind = "direct"

    def __init__(self, target: Target, settings: Settings, run: Run) -> None:
        passfile = {"passfile": str(target.passfile)} if target.passfile else {}
        super().__init__(
            target, settings, run, {**patience(settings), **passfile, **connection_of(target.url, target.user)}
        )

    def command(self, program: Sequence[str], *, fed: bool = False) -> list[str]:
        return list(program)
