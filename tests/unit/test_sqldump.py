"""The dump reader: exact row counts of real dumps in any pieces, a true word on completeness, flat memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pgbackup.sql.scanner import DumpScanner

from tests.support import speed
from tests.support.effort import chosen
from tests.support.scans import pieces, scan

ODD_TABLES = Path(__file__).with_name("odd_tables.sql")
HEAD = (
    b"--\n-- PostgreSQL database dump\n--\n\n\\restrict Key1\n\n"
    b"-- Dumped from database version 16.1 (Debian 16.1-1)\n-- Dumped by pg_dump version 18.0\n\n"
    b"SET standard_conforming_strings = on;\n\n"
)
END = b"--\n-- PostgreSQL database dump complete\n--\n\n"
UNRESTRICT = b"\\unrestrict Key1\n\n"


def facts(scanner: DumpScanner) -> tuple[object, ...]:
    """All that a scanner says."""
    return (
        list(scanner.rows.items()),
        scanner.statements,
        scanner.tables,
        scanner.sql_bytes,
        scanner.complete,
        scanner.state,
        scanner.server_version,
        scanner.pg_dump_version,
    )


def scanned(body: bytes, head: bytes = HEAD, end: bytes = END + UNRESTRICT) -> DumpScanner:
    """The scan of a dump with this body; the same in one piece, in bytes and in odd pieces."""
    data = head + body + end
    whole = scan([data])
    for size in (1, 7, 300):
        assert facts(scan(pieces(data, size))) == facts(whole)
    return whole


# --- row counts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("rows", [0, 1, 2, 1000])
def test_every_row_is_counted(rows: int, newline: bytes) -> None:
    body = b"COPY public.users (id) FROM stdin;\n" + b"1\n" * rows + b"\\.\n\n\n"
    dump = (HEAD + body + END + UNRESTRICT).replace(b"\n", newline)
    scanner = scan([dump])
    assert facts(scanner) == facts(scan(pieces(dump, 1)))
    assert scanner.rows == {"public.users": rows}
    assert scanner.complete
    assert scanner.sql_bytes == len(dump)
    assert (scanner.server_version, scanner.pg_dump_version) == ("16.1 (Debian 16.1-1)", "18.0")


@pytest.mark.parametrize(
    "row",
    [b"", b"\\N", b"\\\\.", b"a\\.", b"\\.\\.", b"\\.x", b"\\. ", b"'", b'"', b"$$", b"/*", b"--", b"\\!", b"\\\\N\\n"],
)
def test_a_row_is_a_row_whatever_it_looks_like(row: bytes) -> None:
    scanner = scanned(b"COPY public.t (a) FROM stdin;\n" + (row + b"\n") * 3 + b"\\.\n")
    assert scanner.rows == {"public.t": 3}
    assert scanner.complete


LOOK_ALIKE = b"\nCOPY public.fake (a) FROM stdin;\n1\n2\n\\.\nINSERT INTO public.fake VALUES (1);\n\\! false\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"SELECT '", b"';"),
        (b"SELECT 'it''s '' ", b"';"),
        (b"SELECT 'c:\\';SELECT '", b"';"),
        (b"SELECT e'\\'", b"\\\\';"),
        (b"SELECT E'a''\\'", b"''';"),
        (b"SELECT U&'\\0041", b"';"),
        (b"SELECT b'", b"';"),
        (b'ALTER TABLE "a""b', b'" OWNER TO x;'),
        (b'ALTER TABLE U&"', b'" OWNER TO x;'),
        (b"DO $$", b"$$;"),
        (b"CREATE FUNCTION f() RETURNS int AS $_$ $$ $_ $_X$", b" $a$_$ LANGUAGE plpgsql;"),
        ("DO $é1$".encode(), "$é$é1$;".encode()),
        (b"SELECT 1$x$", b"$x$;"),
        (b"SELECT $1$x$", b"$x$;"),
        (b"/*", b"*/"),
        (b"/* ' /* \" */ $$ */* */ /**", b"**/"),
        (b"SELECT 1 */*", b"*/ 2;"),
        (b"--'\nSELECT '", b"';"),
        (b"SELECT a$b, '", b"';"),
        (b"SELECT a$$, '", b"$$';"),
        (b"SET standard_conforming_strings = off;\nSELECT '\\'", b"\\\\';\nSET standard_conforming_strings = on;\n"),
        (b"SET standard_conforming_strings TO 'off'; SELECT '\\';\nSELECT '\\'", b"';\nRESET ALL;"),
    ],
)
def test_data_that_only_looks_like_a_table_is_not_counted(before: bytes, after: bytes) -> None:
    real = b"\nCOPY public.real (a) FROM stdin;\n1\n\\.\n"
    scanner = scanned(before + LOOK_ALIKE + after + real)
    assert scanner.rows == {"public.real": 1}
    assert scanner.complete


def test_the_look_alike_is_one() -> None:
    """A test of the test above: where nothing hides it, it is counted."""
    scanner = scanned(LOOK_ALIKE)
    assert scanner.rows == {"public.fake": 3}


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        (b"COPY public.t (a, b) FROM stdin;", "public.t"),
        (b"COPY public.t  FROM stdin;", "public.t"),
        (b"COPY t FROM stdin;", "t"),
        (b'COPY "My Schema"."a "" (b) FROM stdin;\n\\." (a) FROM stdin;', '"My Schema"."a "" (b) FROM stdin;\n\\."'),
        (b'COPY "a""b""c""d""e""f""g""h"."i""j""k" (a) FROM stdin;', '"a""b""c""d""e""f""g""h"."i""j""k"'),
        (b"copy t from stdin with (format text);", "t"),
        (b"COPY t FROM STDOUT;", "t"),
        (b"COPY t (a) FROM /* ; */ stdin -- ;\n;", "t"),
        ("COPY public.größe (a) FROM stdin;".encode(), "public.größe"),
        (b"COPY public.\xe4 FROM stdin;", "public.\\xe4"),
        (b"COPY t (" + b", ".join(b'"column %d"' % n for n in range(1600)) + b") FROM stdin;", "t"),
    ],
)
def test_a_table_is_named_as_its_statement_spells_it(statement: bytes, table: str) -> None:
    assert scanned(statement + b"\n1\n2\n\\.\n").rows == {table: 2}


@pytest.mark.parametrize(
    "statement",
    [
        b"COPY t TO stdout;",
        b"COPY (SELECT 1 FROM stdin) TO stdout;",
        b"COPY t FROM '/file' WHERE a IS DISTINCT FROM stdin;",
        b"COPY t FROM PROGRAM 'true';",
        b"SELECT (;COPY t FROM stdin;",
        b"CREATE FUNCTION f() BEGIN ATOMIC INSERT INTO t VALUES (1);\nCOPY t FROM stdin;\n END;",
    ],
)
def test_other_statements_have_no_data(statement: bytes) -> None:
    assert scanned(b"COPY a FROM stdin;\n\\.\n" + statement + b"\n1\n2\n").rows == {"a": 0}


def test_data_begins_on_the_next_line_as_psql_reads_it() -> None:
    """psql takes the rest of the line for SQL, after the data."""
    body = (
        b"COPY a FROM stdin; SELECT ';'; COPY b FROM stdin; SELECT '\n1\n\\.\n2\n3\n\\.\n';\nCOPY c FROM stdin;\n\\.\n"
    )
    scanner = scanned(body)
    assert scanner.rows == {"a": 1, "b": 2, "c": 0}
    assert scanner.complete


def test_a_byte_order_mark_hides_nothing() -> None:
    assert scanned(b"", head=b"\xef\xbb\xbfCOPY t FROM stdin;\n1\n\\.\n", end=END).rows == {"t": 1}


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        (b"INSERT INTO public.t VALUES (1, 'a;\n(b)', NULL);\n", 1),
        (b"INSERT INTO public.t (a, b) OVERRIDING SYSTEM VALUE VALUES (1, '2');\n", 1),
        (b"INSERT INTO public.t VALUES\n\t(1, ')'),\n\t(2, '(''('),\n\t((3), E'\\'(');\n", 3),
        (b"INSERT INTO public.t VALUES (1), (2) ON CONFLICT DO NOTHING;\n", 2),
        (b"INSERT INTO public.t DEFAULT VALUES;\n", 1),
    ],
)
def test_inserted_rows_are_counted(statement: bytes, rows: int) -> None:
    assert scanned(statement * 5).rows == {"public.t": 5 * rows}


def test_inserts_inside_other_statements_are_no_rows() -> None:
    rule = b"CREATE RULE r AS ON INSERT TO public.t DO ALSO (INSERT INTO public.log VALUES (1); DELETE FROM x);\n"
    body = (
        b"CREATE FUNCTION public.f() RETURNS void LANGUAGE sql\n    BEGIN ATOMIC\n"
        b" INSERT INTO public.log VALUES (CASE WHEN true THEN 1 ELSE 2 END);\n"
        b" SELECT CASE 1 WHEN 1 THEN 2 END;\n INSERT INTO public.log VALUES (1);\nEND;\n"
    )
    scanner = scanned(rule + body + body.replace(b"CREATE", b"CREATE OR REPLACE") + b"INSERT INTO a VALUES (1);")
    assert scanner.rows == {"a": 1}
    assert scanner.statements == 5


def test_tables_and_statements_are_counted() -> None:
    body = (
        b"CREATE TABLE public.a (x int);\nCREATE UNLOGGED TABLE b ();\nCREATE FOREIGN TABLE c () SERVER s;\n"
        b"CREATE INDEX i ON public.a (x);\nCREATE VIEW v AS TABLE public.a;\n"
    )
    scanner = scanned(body)
    assert (scanner.tables, scanner.statements) == (3, 6)


# Rows and SQL from which hypothesis builds dumps; none of the rows is the end of the data.
ROW = st.lists(st.sampled_from([b"a", b"\\.", b"\\", b"\t", b"\r", b"'", b"$$", b";", b"/*", b"\xff"]), max_size=5).map(
    b"".join
)
ROWS = st.lists(ROW.filter(lambda row: row not in (b"\\.", b"\\.\r")), max_size=6)
NAMES = st.sampled_from([b"public.t", b's."a""b"', b'"\nCOPY x FROM stdin;\n"', b"t"])
SQL = st.sampled_from(
    [
        b"SELECT 1;",
        b"-- it's\n",
        b"/* ' /* */ */",
        b"SELECT 'a\nCOPY x FROM stdin;\n';",
        b"DO $$\n\\.\n'$$;",
        b"SELECT E'\\'';",
        b"\n",
        b"SELECT '" + b"long " * 200 + b"';",
        b"CREATE TABLE " + b"l" * 400 + b' (a$1 int, "b\'" text);',
    ]
)
BLOCK = st.one_of(st.tuples(NAMES, ROWS), SQL)


@settings(max_examples=chosen(60, 300), deadline=None)
@given(st.lists(BLOCK, max_size=8), st.data())
def test_rows_are_those_of_a_naive_count_in_any_pieces(
    blocks: list[tuple[bytes, list[bytes]] | bytes], more: st.DataObject
) -> None:
    expected: dict[str, int] = {}
    body = b""
    for block in blocks:
        if isinstance(block, bytes):
            body += block + b"\n"
            continue
        name, rows = block
        body += b"COPY " + name + b" (a) FROM stdin;\n" + b"".join(row + b"\n" for row in rows) + b"\\.\n"
        expected[name.decode()] = expected.get(name.decode(), 0) + len(rows)
    dump = HEAD + body + END + UNRESTRICT
    cuts = more.draw(st.lists(st.integers(0, len(dump)), max_size=20).map(sorted))
    scanner = scan(dump[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(dump)], strict=True))
    assert scanner.rows == expected
    assert scanner.complete
    assert facts(scanner) == facts(scan([dump])) == facts(scan(pieces(dump, 1)))


# --- completeness -------------------------------------------------------------------------------------------

SMALL = HEAD + b"CREATE TABLE public.t (a text);\n\nCOPY public.t (a) FROM stdin;\nx\ny\n\\.\n\n\n" + END + UNRESTRICT


def test_no_truncated_dump_is_complete() -> None:
    assert scan([SMALL]).complete
    assert [length for length in range(len(SMALL)) if scan([SMALL[:length]]).complete] == []


def test_no_truncated_dump_of_an_older_release_is_complete() -> None:
    dump = SMALL.replace(b"\\restrict Key1\n\n", b"").removesuffix(UNRESTRICT)
    assert scan([dump]).complete
    assert [length for length in range(len(dump)) if scan([dump[:length]]).complete] == []


@pytest.mark.parametrize(
    "body",
    [
        b"COPY public.t (a) FROM stdin;\n%b",
        b"SELECT '\n%b",
        b"SELECT E'\n%b",
        b'ALTER TABLE "\n%b',
        b"DO $$\n%b",
        b"/*\n%b",
        b"SELECT 1\n%b",
        b"SELECT (\n%b",
        b"COPY public.t (a) FROM stdin; SELECT 1;%b",
        b"CREATE FUNCTION f() BEGIN ATOMIC SELECT 1;\n%b",
        b"\\restrict key\n%b",
        b"%bSELECT 1;\n",
        b"%b-- more\n",
        b"%b\\unrestrict key\n\n",
        b"\\restrict key\n%b\\unrestrict yek\n\n",
        b"-- %b",
        b"",
    ],
)
def test_the_end_marker_alone_does_not_make_a_dump_complete(body: bytes) -> None:
    assert not scanned(body.replace(b"%b", END), head=b"SELECT 1;\n", end=b"").complete


def test_a_dump_that_was_concatenated_or_reconnects_is_complete_if_its_last_part_is() -> None:
    reconnect = b"\\unrestrict Key1\n\\connect db\n\\restrict Key1\n"
    assert scanned(reconnect).complete
    assert scan([SMALL, SMALL]).complete
    assert not scan([SMALL, SMALL[:-20]]).complete
    assert scan([SMALL, b"\n\n"]).complete


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (b"", "at the top level"),
        (b"COPY public.t FROM stdin;\n1\n", "in COPY data of public.t"),
        (b"SELECT 'abc", "in a string"),
        (b"SELECT E'abc", "in an escape string"),
        (b'SELECT "abc', "in a quoted name"),
        (b"DO $$abc", "in a dollar quote"),
        (b"/* abc", "in a block comment"),
        (b"SELECT abc", "in a statement"),
        (b"\\restrict", "in a psql command"),
    ],
)
def test_the_state_says_where_the_text_stands(text: bytes, state: str) -> None:
    assert scan([text]).state == state


# --- memory and time ----------------------------------------------------------------------------------------

MEGABYTE = 1 << 20


@pytest.mark.parametrize(
    ("start", "repeated"),
    [
        (b"COPY public.t FROM stdin;\n", b"x"),
        (b"COPY public.t FROM stdin;\n", b"\\."),
        (b"COPY public.t FROM stdin;\n", b"\n\\.x"),
        (b"DO $tag$", b"$tag "),
        (b"SELECT '", b"x"),
        (b"SELECT E'", b"\\'"),
        (b'SELECT "', b'""'),
        (b"SELECT ", b"x"),
        (b"SELECT ", b"$x"),
        (b"SELECT $", b"x"),
        (b"SELECT :", b"x"),
        (b"", b"/*"),
        (b"--", b"x"),
        (b"\\echo ", b"x"),
        (b"", b" "),
        (b"COPY t (", b'"abcdefgh", '),
        (b"CREATE FUNCTION f() BEGIN ATOMIC ", b"SELECT 1; "),
        (b"INSERT INTO t VALUES ", b"('it''s', 1), "),
        (b"COPY t FROM stdin; ", b"SELECT 1 "),
    ],
)
def test_memory_and_time_stay_flat(start: bytes, repeated: bytes) -> None:
    scale = chosen(4, 1)
    piece = repeated * (MEGABYTE // 32 // scale // len(repeated))
    scanner = DumpScanner()
    scanner.feed(start)
    scanner.feed(piece)
    tracemalloc.start()
    try:
        for _ in range(20):
            scanner.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEGABYTE // 4 // scale


@pytest.mark.parametrize("start", [b"COPY t FROM stdin;\n", b"DO $tag$", b"SELECT '", b"SELECT x", b"SELECT $x", b"--"])
def test_single_bytes_take_linear_time(start: bytes) -> None:
    def fed(length: int) -> None:
        scanner = DumpScanner()
        scanner.feed(start)
        for _ in range(length):
            scanner.feed(b"x")

    few = chosen(2_000, 10_000)
    assert speed.times(lambda: fed(4 * few), lambda: fed(few), rounds=2) < 12
