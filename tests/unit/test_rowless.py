"""A dump without its rows, cut into pieces at every byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from pgbackup.sql.guarding.rowless import without_rows
from pgbackup.sql.scanner import DumpScanner

ROW = "1\tit's; COPY t FROM stdin;\n\\\\.\n2\t\\N\n"
KEPT = "SELECT 'COPY x FROM stdin;';\nCOPY public.t (a, b) FROM stdin;\n{}\\.\n\n-- COPY\nCREATE INDEX ON t (a);\n"
DUMPS = {
    "rows": KEPT,
    "no rows": KEPT.replace("{}", ""),
    "two": f"{KEPT}{KEPT}SELECT 1;\n",
    "one line": "COPY a FROM stdin; COPY b FROM stdin;\n{}\\.\n{}\\.\nSELECT 1;\n",
    "a quote over the line": "COPY a FROM stdin; SELECT '\n{}\\.\n';\nSELECT 2;\n",
}


@pytest.mark.parametrize("how", DUMPS)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_nothing_but_the_rows_is_left_out(how: str, ending: str) -> None:
    dump = DUMPS[how].replace("{}", ROW).replace("\\.\n", f"\\.{ending}").encode()
    wanted = DUMPS[how].replace("{}", "").encode()
    for size in range(1, len(dump) + 1):
        pieces = (dump[at : at + size] for at in range(0, len(dump), size))
        assert b"".join(without_rows(pieces, DumpScanner())) == wanted, size


def test_rows_are_not_gathered() -> None:
    pieces = [b"COPY a FROM stdin;\n", *([b"x" * 99_999 + b"\n"] * 50), b"\\.\nSELECT 1;\n"]
    assert [piece for piece in without_rows(pieces, DumpScanner()) if len(piece) > 100] == []


def test_what_pg_dump_writes_loses_its_rows_only() -> None:
    sample = Path(__file__).with_name("odd_tables.sql").read_bytes()
    assert b"".join(without_rows([sample], DumpScanner())).startswith(sample[:100])
