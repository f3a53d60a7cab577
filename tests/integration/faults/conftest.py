"""Fixtures: dumps of a real server for tests that damage and forge files."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import FULL
from tests.support import embedded
from tests.support.backup_files import MARKER

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
