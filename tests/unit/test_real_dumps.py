"""What pg_dump really writes is read as it is meant."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import servers
from tests.support import embedded
from tests.support.scans import pieces, scan

ODD_TABLES = Path(__file__).with_name("odd_tables.sql")


@pytest.fixture(scope="module", params=[16, 18])
def server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    with embedded.running(["auth_user"], major=request.param) as (started,):
        started.load("odd", ODD_TABLES, 100)
        yield started


def dump_of(server: servers.Server, *options: str) -> bytes:
    program = server.installation.programs / "pg_dump"
    return subprocess.run([program, *options, "--dbname", server.url("odd")], capture_output=True, check=True).stdout


def counted(server: servers.Server) -> dict[str, int]:
    """Rows of every table by count(*), the tables named as pg_dump spells them."""
    function = (
        "CREATE FUNCTION pg_temp.rows(t text) RETURNS bigint LANGUAGE plpgsql AS"
        " $$DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM ONLY ' || t INTO n; RETURN n; END$$"
    )
    query = (
        "SELECT json_object_agg(t, pg_temp.rows(t)) FROM (SELECT format('%I.%I', nspname, relname) AS t"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname !~ '^pg_|^information') AS tables"
    )
    found: dict[str, int] = json.loads(server.psql("odd", "-c", function, "-c", query))
    assert len(found) > 20
    assert sum(found.values()) > 500
    return found


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_rows_of_a_real_dump_are_those_of_the_tables(server: servers.Server, size: int) -> None:
    dump = dump_of(server)
    scanner = scan(pieces(dump, size))
    assert scanner.rows == counted(server)
    assert scanner.complete
    assert scanner.server_version.split()[0] == server.installation.version
    assert scanner.pg_dump_version.split()[0] == server.installation.version
    # A function body holds one more that is none.
    assert scanner.tables == len(re.findall(rb"^CREATE (?:UNLOGGED )?TABLE ", dump, re.MULTILINE)) - 1


@pytest.mark.parametrize(
    "options",
    [
        ("--inserts",),
        ("--column-inserts",),
        ("--inserts", "--on-conflict-do-nothing"),
        ("--rows-per-insert=7",),
        ("--rows-per-insert=7", "--on-conflict-do-nothing"),
    ],
)
def test_rows_of_a_real_dump_with_inserts_are_those_of_the_tables(
    server: servers.Server, options: tuple[str, ...]
) -> None:
    scanner = scan(pieces(dump_of(server, *options), 5000))
    assert scanner.rows == {table: rows for table, rows in counted(server).items() if rows}
    assert scanner.complete


def test_rows_of_a_dump_with_backslashes_in_strings(server: servers.Server) -> None:
    """standard_conforming_strings=off: pg_dump then doubles backslashes in plain strings."""
    server.psql("postgres", "-c", "ALTER DATABASE odd SET standard_conforming_strings = off")
    try:
        for options in ((), ("--inserts",)):
            dump = dump_of(server, *options)
            assert b"SET standard_conforming_strings = off;" in dump
            scanner = scan(pieces(dump, 999))
            assert scanner.rows == {t: n for t, n in counted(server).items() if n or not options}
            assert scanner.complete
    finally:
        server.psql("postgres", "-c", "ALTER DATABASE odd RESET standard_conforming_strings")


def test_no_truncation_of_a_real_dump_is_complete(server: servers.Server) -> None:
    dump = dump_of(server, "--schema=public")
    assert scan([dump]).complete
    for length in (*range(0, len(dump) - 300, 997), *range(len(dump) - 300, len(dump))):
        scanner = scan([dump[:length]])
        assert not scanner.complete, dump[:length][-60:]
