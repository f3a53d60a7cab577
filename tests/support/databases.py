"""Databases to back up: on embedded servers for the direct client, or in containers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from demo import servers as demo_servers
from tests.support import embedded, images, servers
from tests.support.backups import Source
from tests.support.effort import chosen

BULK_ROWS = chosen(80_000, 200_000)
_BULK = (
    "CREATE TABLE bulk AS SELECT n AS id, md5(n::text) || md5((n + 1)::text) || md5((n + 2)::text) AS filler"
    " FROM generate_series(1, {rows}) AS n"
)


@contextmanager
def embedded_sources(rows: int = 500, bulk: int = 0) -> Iterator[list[Source]]:
    """auth_db and payment_db on embedded servers, for the direct client. bulk: rows of a larger table in auth_db."""
    with embedded.running(["auth_user", "payment_user"]) as (auth, payment):
        auth.load("auth_db", embedded.AUTH_SQL, rows)
        payment.load("payment_db", embedded.PAYMENT_SQL, rows)
        if bulk:
            auth.psql("auth_db", "-c", _BULK.format(rows=bulk))
        yield [_embedded(auth, "auth"), _embedded(payment, "payment")]


def _embedded(server: demo_servers.Server, name: str) -> Source:
    database, url = f"{name}_db", server.url(f"{name}_db")
    dumped = subprocess.run([server.installation.programs / "pg_dump", url], capture_output=True, check=True).stdout

    def sql(text: str) -> list[tuple[object, ...]]:
        return query(server.url("postgres"), text)

    def said() -> str:
        return server.directory.with_suffix(".log").read_text(errors="replace")

    values = {"DIR": name, "CLIENT": "direct", "URL": url, "DATABASE": database, "USER": server.superuser}
    values["PROGRAMS"] = str(server.installation.programs)
    return Source(name, database, dumped, values, sql, said)


def query(dsn: str, text: str) -> list[tuple[object, ...]]:
    """Run one statement and return its rows."""
    with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as session:
        cursor = session.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def container_source(server: servers.Server, name: str, *, bulk: int = 0, kind: str = "auto") -> Source:
    """Fill the server's database, made anew, and describe it."""
    server.psql("-c", "DROP SCHEMA public CASCADE", "-c", "CREATE SCHEMA public")
    server.psql_file(embedded.AUTH_SQL if name == "auth" else embedded.PAYMENT_SQL)
    if bulk:
        server.psql("-c", _BULK.format(rows=bulk))
    text = server.exec(["pg_dump", "-U", server.user, server.database]).stdout.encode()
    values = {"CONTAINER": server.name, "DIR": name, "CLIENT": kind, "DATABASE": server.database}
    values |= {"USER": server.user}
    return Source(name, server.database, text, values, lambda sql: server.sql(sql, "postgres"), server.logs)


def embedded_programs(major: int) -> Path:
    """The client programs of `major` (16 or 18) on this host."""
    return images.wheel_tree(major) / "bin"
