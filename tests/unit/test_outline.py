"""The outline of a dump: whatever the pieces that it comes in, without what is data, and compared by objects."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies
from pgbackup.formats.content import RowSums
from pgbackup.sql import outline, statements
from pgbackup.sql.outline import Outline
from pgbackup.sql.scanner import DumpScanner

HEAD = """--
-- PostgreSQL database dump
--

\\restrict abc

-- Dumped from database version 15.4
-- Dumped by pg_dump version 15.4

SET statement_timeout = 0;

SET default_tablespace = '';

"""
TABLE = """--
-- Name: t; Type: TABLE; Schema: public; Owner: shop
--

CREATE TABLE public.t (
    id integer NOT NULL,
    s character varying(9) DEFAULT 'a'::character varying,
    CONSTRAINT c CHECK (((s)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))
);


ALTER TABLE public.t OWNER TO shop;

"""
FUNCTION = """--
-- Name: f(); Type: FUNCTION; Schema: public; Owner: app
--

CREATE FUNCTION public.f() RETURNS integer
    LANGUAGE plpgsql
    AS $$
-- a remark

BEGIN RETURN 1; END
$$;


"""
DATA = """--
-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: shop
--

COPY public.t (id, s) FROM stdin;
1\ta
2\tb
\\.


--
-- Name: q; Type: SEQUENCE SET; Schema: public; Owner: shop
--

SELECT pg_catalog.setval('public.q', 41, true);


--
-- Name: 4711; Type: BLOB; Schema: -; Owner: shop
--

SELECT pg_catalog.lo_create('4711');

"""
TAIL = """--
-- PostgreSQL database dump complete
--

\\unrestrict abc

"""
DUMP = HEAD + TABLE + FUNCTION + DATA + TAIL


def outlined(text: str, cuts: tuple[int, ...] = ()) -> Outline:
    found, scanner = Outline(), DumpScanner()
    scanner.on_text = found.take
    raw = text.encode()
    for begin, end in zip((0, *cuts), (*cuts, len(raw)), strict=True):
        scanner.feed(raw[begin:end])
    scanner.finish()
    found.finish()
    return found


def test_what_is_no_data_makes_the_fingerprint_whatever_the_order() -> None:
    first = outlined(DUMP)
    assert [str(entry) for entry in first.entries()] == ["FUNCTION f() in schema public", "TABLE t in schema public"]
    assert (first.sequences, first.owners) == ({"'public.q'": "41, true"}, {"shop", "app"})
    assert first.large_objects
    same = [
        HEAD + FUNCTION + TABLE + DATA + TAIL,
        DUMP.replace("1\ta\n", ""),
        DUMP.replace("41, true", "42, true"),
        DUMP.replace("4711", "4712"),
        DUMP.replace("15.4", "15.5").replace("abc", "def"),
        DUMP.replace("SET default_tablespace = '';\n", ""),
    ]
    assert {outlined(text).fingerprint() for text in same} == {first.fingerprint()}
    others = [
        DUMP.replace("RETURN 1", "RETURN 2"),
        DUMP.replace("-- a remark", "-- another"),
        DUMP.replace("OWNER TO shop", "OWNER TO app"),
        DUMP.replace("integer NOT NULL", "bigint NOT NULL"),
        HEAD + TABLE + DATA + TAIL,
    ]
    assert first.fingerprint() not in {outlined(text).fingerprint() for text in others}


@hypothesis.given(strategies.lists(strategies.integers(0, len(DUMP.encode())), max_size=5).map(sorted))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    assert outlined(DUMP, tuple(cuts)).fingerprint() == outlined(DUMP).fingerprint()


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        ("((s)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
         "((s)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text]))", ""),
        ("DEFAULT 'a'::character varying", "DEFAULT lower('A')", "rewritten"),
        ("id integer", "id bigint", "changed"),
        ("RETURN 1", "RETURN 2", "changed"),
        ("Name: f();", "Name: g();", "missing"),
    ],
)  # fmt: skip
def test_casts_and_brackets_do_not_matter_expressions_are_noted_and_all_else_differs(
    before: str, after: str, where: str
) -> None:
    assert before in DUMP
    found = outline.difference(outlined(DUMP), outlined(DUMP.replace(before, after)))
    assert {name for name in ("missing", "changed", "rewritten") if getattr(found, name)} == ({where} - {""})


@pytest.mark.parametrize("cuts", [(), (1,), (4, 7), (3, 4, 5)])
def test_rows_are_summed_whatever_their_order_and_pieces(cuts: tuple[int, ...]) -> None:
    def summed(rows: bytes) -> int:
        sums = RowSums(["t"])
        data = b"".join(b"\n" + row for row in rows.split(b"|")) if rows else b""
        for begin, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
            sums.take("t", memoryview(data)[begin:end])
        sums.take("t", None)
        return sums.sums["t"]

    assert summed(b"ab|c||dd") == summed(b"|dd|c|ab")
    assert summed(b"ab|c|dd") != summed(b"ab|cd|d")
    assert summed(b"ab|c||dd") != summed(b"ab|c|dd")
    assert summed(b"") == 0


def test_a_text_is_cut_into_statements_where_psql_cuts_it() -> None:
    text = b"-- one; still one\nSELECT 1 = 1;\nSELECT ';' = ';' ; SELECT $$a;b$$ = 'x'\n-- end\n"
    found = [b"-- one; still one\nSELECT 1 = 1", b"SELECT ';' = ';'", b"SELECT $$a;b$$ = 'x'\n-- end"]
    assert statements.split(text) == found
    assert statements.split(b" ;; -- nothing\n") == []
