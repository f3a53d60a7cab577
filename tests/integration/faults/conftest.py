"""Fixtures: dumps of a real server for tests that damage and forge files."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import backups, databases, embedded, servers
from tests.support.backup_files import MARKER
from tests.support.backups import Place, Source
from tests.support.effort import FULL, chosen

LARGE_ROWS = 800_000 if FULL else 40_000


@dataclass(frozen=True)
class Dumps:
    """What pg_dump wrote. small: fits into a backup of 4 KiB; inserts: with --inserts; both hold MARKER as data."""

    small: bytes
    marked: bytes
    inserts: bytes
    large: bytes


@pytest.fixture(scope="session")
def dumps() -> Iterator[Dumps]:
    with embedded.running(["auth_user"]) as (server,):
        server.psql("postgres", "-c", "CREATE DATABASE small", "-c", "CREATE DATABASE marked")
        server.psql("postgres", "-c", "CREATE DATABASE large")
        server.psql(
            "small", "-c", "CREATE TABLE users AS SELECT n AS id, 'user ' || n AS name FROM generate_series(1, 9) n"
        )
        marked = f"CREATE TABLE notes AS SELECT n, '{MARKER}' AS text FROM generate_series(1, 3) n; " + (
            f"CREATE FUNCTION told() RETURNS text LANGUAGE sql AS $$ SELECT '{MARKER}' $$; "
            f"COMMENT ON TABLE notes IS '{MARKER}'"
        )
        server.psql("marked", "-c", marked)
        noise = "encode(sha512(n::text::bytea), 'base64')"
        server.psql(
            "large", "-c", f"CREATE TABLE noise AS SELECT n, {noise} AS text FROM generate_series(1, {LARGE_ROWS}) n"
        )

        def dumped(database: str, *options: str) -> bytes:
            program = server.installation.programs / "pg_dump"
            return subprocess.run([program, *options, server.url(database)], capture_output=True, check=True).stdout

        yield Dumps(dumped("small"), dumped("marked"), dumped("marked", "--inserts"), dumped("large"))


@pytest.fixture(scope="session")
def small() -> Iterator[list[Source]]:
    """Two databases of half a megabyte, for the direct client."""
    with databases.embedded_sources() as sources:
        yield sources


@pytest.fixture(scope="session")
def large() -> Iterator[list[Source]]:
    """The same with 10 MB in auth_db, so that a dump takes a while."""
    with databases.embedded_sources(bulk=databases.BULK_ROWS) as sources:
        yield sources


@pytest.fixture(scope="module", params=chosen(["sidecar"], ["sidecar", "exec"]))
def contained(request: pytest.FixtureRequest, postgres_a: servers.Server) -> Iterator[list[Source]]:
    """auth_db with 10 MB more in a container, for each client that works through Docker."""
    yield [databases.container_source(postgres_a, "auth", bulk=databases.BULK_ROWS, kind=request.param)]


@pytest.fixture
def place(small: list[Source], tmp_path: Path) -> Place:
    """auth alone, with three old backups."""
    made = backups.place(tmp_path / "backups", small[:1])
    made.plant(small[0])
    return made
