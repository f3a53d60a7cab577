"""The mark of a server's own, which an older pg_dump takes for a column's option, does not come to the new server."""

from __future__ import annotations

import pytest
from pgbackup.sql.guarding.guard import guarded
from pgbackup.sql.scanner import DumpScanner

HEAD = b"--\n-- PostgreSQL database dump\n--\n\n-- Dumped by pg_dump version 16.14\n\n"
ALTER = b'ALTER TABLE ONLY public."a b" ALTER COLUMN c SET (%b);\n'
CONSTRAINT = b"ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k CHECK ((c <> 'pg_attver=1'::text));\n"


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (b"pg_attver=36803704", b"\n"),
        (b"n_distinct=-0.5, pg_attver=1", ALTER % b"n_distinct=-0.5"),
        (b"pg_attver=1, n_distinct=5", ALTER % b"n_distinct=5"),
        (b"n_distinct=5", ALTER % b"n_distinct=5"),
    ],
)
def test_the_servers_own_mark_of_a_column_is_left_out(options: bytes, kept: bytes, size: int) -> None:
    dump = HEAD + b"SELECT 1;\n" + ALTER % options + CONSTRAINT
    pieces = [dump[at : at + size] for at in range(0, len(dump), size)]
    assert b"".join(guarded(pieces, DumpScanner())) == HEAD + b"SELECT 1;\n" + kept + CONSTRAINT
