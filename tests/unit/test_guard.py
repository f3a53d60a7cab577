"""The guard: only decided, harmless text of a dump comes out, whatever the pieces. psql's own word: ../integration."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pgbackup.errors import BackupBad
from pgbackup.sql.guarding.guard import guarded
from pgbackup.sql.scanner import DumpScanner

from tests.support import speed
from tests.support.effort import chosen

SIZES = (1, 7, 300, 1 << 20)
COPY = b"COPY public.t (a) FROM stdin;\n1\n\\.\n"


def passed(pieces: Iterable[bytes]) -> tuple[bytes, str]:
    """What the guard lets through, and why it then refused, "" if it did not."""
    out = bytearray()
    try:
        for ready in guarded(pieces, DumpScanner()):
            out += ready
    except BackupBad as refused:
        return bytes(out), refused.message
    return bytes(out), ""


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def restricted(body: bytes) -> bytes:
    return b"-- a dump\n\\restrict Key1\n\n" + body + b"-- end\n\n\\unrestrict Key1\n\n"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_pg_dumps_own_two_commands_are_cut_out_and_all_else_is_as_it_was(size: int, newline: bytes) -> None:
    dump = restricted(b"SELECT 1;\n" + COPY).replace(b"\n", newline)
    kept = dump.replace(b"\\restrict Key1\r", b"\\restrict Key1").replace(b"\\unrestrict Key1\r", b"\\unrestrict Key1")
    kept = kept.replace(b"\\restrict Key1", b"").replace(b"\\unrestrict Key1", b"")
    assert passed(cut(dump, size)) == (kept, "")


@pytest.mark.parametrize("size", SIZES)
def test_a_byte_order_mark_is_cut_out(size: int) -> None:
    """psql skips it in the first line only, and our own line goes before."""
    assert passed(cut(b"\xef\xbb\xbf" + COPY, size)) == (COPY, "")


ACCEPTED = [
    b"",
    b"\n\n-- comment only\n",
    b"SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n",
    b"SET client_encoding = 'SQL_ASCII';\nSET standard_conforming_strings = off;\n",
    b"SELECT pg_catalog.set_config('search_path', '', false);\n",
    b"SET search_path = public, \"$user\";\nSET check_function_bodies = false;\nSET SESSION AUTHORIZATION 'x';\n",
    b"RESET SESSION AUTHORIZATION;\nBEGIN;\nCOMMIT;\nSET LOCAL x.y = 1;\nRESET search_path;\n",
    b"CREATE USER MAPPING FOR x SERVER y;\nALTER USER MAPPING FOR x SERVER y;\nDROP USER MAPPING FOR x SERVER y;\n",
    b"ALTER TABLE ONLY public.database ADD role text;\nDROP TABLE role;\nCREATE TABLE public.user ();\n",
    b"COMMENT ON DATABASE x IS 'y';\nGRANT ALL ON DATABASE x TO y;\n",
    b'COPY "a b"."from" ("to", program) FROM stdin;\n1\t2\n\\.\n',
    b"COPY t TO stdout;\nCOPY (SELECT 1) TO STDOUT;\ncopy binary t from stdin;\n\\.\n",
    b"CREATE TRIGGER rollback AFTER INSERT ON load FOR EACH ROW EXECUTE FUNCTION abort();\n",
    b"CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC (SELECT 1) UNION SELECT 2; SELECT 2; END;\n",
    b"SELECT pg_catalog.setval('public.\"Set_Config_id_seq\"', 1, true);\nSELECT 'set_config', $$set_config()$$;\n",
    b"SELECT * FROM pg_catalog.pg_restore_relation_stats(\n\t'relname', 'asset_config',\n\t'relpages', '1'\n);\n",
    b'SELECT "set_configs", a.set_config_, "a""set_config" FROM "set_config "; -- set_config\n',
    b"SELECT 1 /* set_config */;\n",
    b"COPY public.set_config (set_config) FROM stdin;\n\\.\nCREATE TABLE set_config (set_config text);\n",
    b"CREATE FUNCTION f() RETURNS text BEGIN ATOMIC SELECT set_config('a.b', '', true); END;\n",
    b"CREATE FUNCTION v1.e1(a v1.t1) RETURNS SETOF v2.t BEGIN ATOMIC\n SELECT t1.a FROM v1.t1;\nEND;\n",
    b"CREATE OR REPLACE PROCEDURE " + b"x" * 249 + b"1.p() LANGUAGE sql AS $$$$;\n",
    b"SELECT a[1:x], b::text, c[:2] FROM t WHERE d = 1e5;\n",
    b"INSERT INTO t VALUES ('" + b"x" * 70_000 + b"');\nSELECT '" + b"x" * 70_000 + b"';\n",
    b"COPY t (" + b", ".join(b'"%060d"' % n for n in range(1600)) + b") FROM stdin;\n\\.\n",
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ACCEPTED)
def test_what_pg_dump_writes_comes_out_unchanged(text: bytes, size: int) -> None:
    assert passed(cut(text, size)) == (text, "")


NAMED_BEGIN = [
    b"CREATE FUNCTION public.begin() RETURNS integer\n    LANGUAGE sql\n    AS $$SELECT 1$$;\n",
    b"CREATE OR REPLACE PROCEDURE begin.begin(IN begin integer) LANGUAGE plpgsql AS $$begin end$$;\n",
    b"CREATE FUNCTION f(begin integer) RETURNS SETOF public.begin LANGUAGE sql\n    RETURN begin;\n",
    b"CREATE FUNCTION f() RETURNS date\n    LANGUAGE sql\n    BEGIN ATOMIC\n SELECT ev.begin,\n"
    b"        CASE WHEN (a) THEN b\n        END AS begin\n   FROM public.ev begin;\n"
    b" SELECT count(*) FROM public.begin atomic;\n UPDATE begin SET begin = 1;\nEND;\n",
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", NAMED_BEGIN)
def test_a_name_that_psql_would_take_for_the_begin_of_a_body_comes_in_quotes(text: bytes, size: int) -> None:
    scanner = DumpScanner()
    out = b"".join(guarded(cut(text + COPY, size), scanner))
    outside = re.compile(rb"\([^()]*\)|\$\$.*?\$\$|(\bbegin\b)")
    assert out == outside.sub(lambda found: b'"begin"' if found[1] else found[0], text) + COPY
    assert scanner.rows == {"public.t": 1}
    assert scanner.misread == [text.split(b"(")[0].split()[-1].decode()]


REFUSED = [
    (b"\\! x\n", "a command for psql: '\\! x'"),
    (b"SELECT 1 \\g |x\n", "a command for psql: '\\g |x'"),
    (b"\\restrict\n", "a command for psql"),
    (b"\\restrict a b\n", "a command for psql"),
    (b"\\restrict :x\n", "a command for psql"),
    (b"\\restrict 'a'\n", "a command for psql"),
    (b"\\restrict `x`\n", "a command for psql"),
    (b"\\restrict " + b"a" * 3000 + b"\n", "a command for psql"),
    (b"\\restrictx a\n", "a command for psql"),
    (b"\\unrestrict a\n", "a command for psql"),
    (b"SELECT 1;\n\\restrict a\n", "a command for psql"),
    (b"SELECT 1 \\restrict a\n", "a command for psql"),
    (b"\\restrict a\n\\restrict a\n", "a command for psql"),
    (b"\\restrict a\n\\unrestrict b\n", "a command for psql"),
    (b"\\restrict a\nSELECT 1 \\unrestrict a\n", "a command for psql"),
    (b"\\restrict a\n\\unrestrict a\n\\restrict a\n\\unrestrict a\n", "a command for psql"),
    (b"\\restrict a\n\\unrestrict a\nSELECT 1;\n", "a statement after"),
    (b"\\restrict a\n\\unrestrict a\nSELECT 1\n", "a statement after"),
    (b"\\restrict a\nSELECT 1;\n", "without \\unrestrict"),
    (b"\\restrict a", "the end of the file in a psql command"),
    (b"SELECT 1", "the end of the file in a statement"),
    (b"SELECT '", "the end of the file in a string"),
    (b"COPY t FROM stdin;\n1\n", "the end of the file in COPY data of t"),
    (b"COPY t FROM PROGRAM 'x';\n", "run a program"),
    (b"COPY t FROM PROGRAM 'x'", "the end of the file in a statement"),
    (b"COPY /* c */ t (a) FROM -- c\n PROGRAM 'x';\n", "run a program"),
    (b"COPY (SELECT 1) TO PROGRAM 'x';\n", "run a program"),
    (b"COPY t FROM '/x';\nCOPY", "run a program"),
    (b"COPY t FROM $$/x$$;\n", "run a program"),
    (b"COPY t TO E'/x';\n", "run a program"),
    (b"COPY db.from.stdin FROM PROGRAM 'x';\n", "run a program"),
    (b"COPY db.from.stdin TO stdout;\n\\.\n", "run a program"),
    (b"CREATE FUNCTION begin() RETURNS int RETURN 1; COPY t FROM PROGRAM 'x'; SELECT 1 AS end;\n", "run a program"),
    (b"CREATE FUNCTION BEGIN() RETURNS int RETURN 1; COPY t FROM PROGRAM 'x'; SELECT 1 AS end;\n", "more than one way"),
    (b"CREATE FUNCTION BEGIN() RETURNS int RETURN 1; SET x = 1; SELECT 1 AS end;\n", "in the statement 'CREATE FUNC"),
    (b'CREATE FUNCTION "a"begin() RETURNS int RETURN 1; SET x = 1; SELECT 1;\n', "more than one way"),
    (b"LOAD 'x';\n", "loads a library"),
    (b"ALTER SYSTEM SET archive_command = 'x';\n", "reaches beyond"),
    (b"DROP DATABASE x;\n", "reaches beyond"),
    (b"DROP -- c\n /* " + b"x" * 5000 + b" */ DATABASE x;\n", "reaches beyond"),
    (b"ALTER DATABASE x RENAME TO y;\n", "reaches beyond"),
    (b"CREATE DATABASE x;\n", "reaches beyond"),
    (b"CREATE ROLE x;\nALTER USER x;\n", "reaches beyond"),
    (b"DROP USER x;\n", "reaches beyond"),
    (b"REASSIGN OWNED BY x TO y;\n", "reaches beyond"),
    (b"DROP OWNED BY x;\n", "reaches beyond"),
    (b"ROLLBACK;\n", "takes back"),
    (b"DISCARD ALL;\n", "resets the session"),
    (b"PREPARE TRANSACTION 'x';\n", "prepares a transaction"),
    (b"RESET ALL;\n", "how psql reads"),
    (b"RESET client_encoding;\n", "how psql reads"),
    (b"SET LOCAL standard_conforming_strings = off;\n", "how psql reads"),
    (b"SET standard_conforming_strings TO 'off';\n", "how psql reads"),
    (b'SET "standard_conforming_strings" = off;\n', "by a quoted name"),
    (b"SET U&\"client_encoding\" = 'SJIS';\n", "by a quoted name"),
    *((text % b"('standard_conforming_strings', 'off', false)", "changes a setting") for text in
      (b"SELECT set_config%b;\n", b"SELECT pg_catalog . SET_config /* c */ -- d\n %b;\n", b"SELECT U&\"a\"%b;\n",
       b'SELECT pg_catalog."set_config"%b;\n', b"SELECT 'a\\', set_config%b;\n", b"SELECT (SELECT set_config%b);\n",
       b"WITH a AS (SELECT set_config%b) SELECT 1;\n", b"VALUES (set_config%b);\n",
       b"EXPLAIN ANALYZE SELECT set_config%b;\n", b"PREPARE a AS SELECT set_config%b;\n", b"CALL a(set_config%b);\n",
       b"EXECUTE a(set_config%b);\n", b"COPY (SELECT set_config%b) TO stdout;\n",
       b"SELECT '" + b"x" * 5000 + b"', set_config%b;\n", b"SELECT $$" + b"x" * 300 + b"$$, \"set_config\" %b;\n")),
    (b"SET NAMES 'SJIS';\n", "how psql reads"),
    *((b"SET client_encoding = '%b';\n" % name, "cannot be checked") for name in
      (b"SJIS", b"s-h-i-f-t_jis", b"BIG5", b"gbk", b"UHC", b"GB18030", b"JOHAB", b"SHIFT_JIS_2004")),
    (b"SET client_encoding = E'SJ\\x49S';\n", "how psql reads"),
    (b"SELECT 1;\0\n", "a NUL byte"),
    (b"COPY t FROM stdin;\na\0\n\\.\n", "a NUL byte"),
    ("SELECT 1;\n".encode("utf-16"), "a NUL byte"),
    (b"-- a\r\\! x\n", "more than one way"),
    (b"SELECT :DBNAME;\n", "more than one way"),
    (b"SELECT 1.E'\\' \\! x --';\n", "more than one way"),
    (b"SELECT 0xE'\\' \\! x --';\n", "more than one way"),
    *((b"CREATE FUNCTION f() BEGIN ATOMIC SELECT %b; END;\n" % number, "more than one way") for number in
      (b"1.a", b"2a", b"1e1.a", b"1.e1.a", b"a, 1.a1.a", b"$1.a")),
    (b"SELECT 1.a$b$ ' $b$ \\! x --';\n", "more than one way"),
    (b"SELECT $1a$b$ ' $b$ \\! x --';\n", "more than one way"),
    *((b"%b f BEGIN; COPY t FROM stdin;\n\\! x\n\\.\n" % start, "more than one way") for start in
      (b'CREATE "x" FUNCTION', b"CREATE 'x' FUNCTION", b"CREATE e'' FUNCTION", b"CREATE (function)",
       b"CREATE :{?x} FUNCTION", b"CREATE 1a FUNCTION", b"'' CREATE FUNCTION", b"CREATE OR REPLACE \"x\" FUNCTION")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_all_else_is_refused_in_any_pieces_and_nothing_of_it_comes_out(text: bytes, reason: str) -> None:
    for size in SIZES:
        out, refused = passed(cut(b"-- harmless\nSELECT 'before';\n" + text if b"restrict" not in text else text, size))
        assert reason in refused, (size, refused)
        for dangerous in (b"PROGRAM", b"/x", b"\\!", b"\\g", b"restrict", b"DATABASE", b"SYSTEM", b"SJ", b"\0", b"off"):
            assert dangerous not in out.replace(b"-- harmless\n", b""), size


def test_the_line_is_named() -> None:
    for size in SIZES:
        assert "at line 6 of" in passed(cut(b"SELECT 1;\n\n" + COPY + b"\\! x\n", size))[1]
        assert "at line 4 of" in passed(cut(b"-- x\n\\restrict a\n\n\\! x\n", size))[1]


FRAGMENTS = [
    *(b"SELECT 1", b"; ", b"\n", b"'", b'"', b"$$", b"--", b"/*", b"*/", b"\\", b"COPY t FROM stdin;\n", b"\n\\.\n"),
    *(b"\\restrict K\n", b"\n\\unrestrict K\n", b"COPY t FROM PROGRAM ''", b"DROP ", b"DATABASE ", b"E'", b"(", b")"),
    *(b"SET client_encoding = 'UTF8';\n", b"x" * 300, b" " * 300, b"1", b"\r", b"CREATE FUNCTION f ", b"BEGIN "),
    *(b"begin ", b"BEGIN ATOMIC ", b" END", b" set_config", b'"set_config"'),
]


@settings(max_examples=chosen(80, 400), deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25).map(b"".join), st.lists(st.integers(0, 400), max_size=30))
def test_the_pieces_do_not_matter(text: bytes, sizes: list[int]) -> None:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    out, refused = passed([*pieces, text[at:]])
    whole, whole_refused = passed([text])
    assert bool(refused) == bool(whole_refused)
    assert out == whole or refused
    assert bool(passed(cut(text, 1))[1]) == bool(refused)
    if refused:
        out = out.replace(b'"begin"', b"begin")
        assert text.replace(b"\\restrict K", b"", 1).startswith(out) or text.startswith(out)


# --- memory and time ----------------------------------------------------------------------------------------

MEGABYTE = 1 << 20
ROW = b'4711\t2026-01-02 03:04:05+00\tsome text of middling length\t{"amount": 12.34, "tags": [1, 2]}\t\\N\n'


@pytest.mark.parametrize(
    ("start", "repeated"),
    [(b"COPY t FROM stdin;\n", ROW), (b"", b"INSERT INTO t VALUES (1, 'x');\n"), (b"INSERT INTO t VALUES ('", b"x"),
     (b"DO $$", b"x\n"), (b"-- ", b"x"), (b"SELECT lowrite(0, '", b"00")],
)  # fmt: skip
def test_memory_stays_flat(start: bytes, repeated: bytes) -> None:
    scale = chosen(4, 1)
    piece = repeated * (MEGABYTE // 16 // scale // len(repeated))
    flowing = guarded([start, *[piece] * 200], DumpScanner())
    for _ in range(5):
        next(flowing)
    tracemalloc.start()
    try:
        for _ in range(chosen(10, 20)):
            next(flowing)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEGABYTE // 2 // scale


def test_a_statement_whose_kind_does_not_show_is_not_kept_for_ever() -> None:
    piece = b"/* comment */" * 1000
    out, refused = passed([b"DROP ", *[piece] * 200])
    assert "a statement that does not end" in refused
    assert out == b""


def test_copy_data_flows_in_some_times_the_time_of_a_loop_over_its_lines() -> None:
    """Hardly more; whoever matched each line by itself would take four times as long."""
    block = ROW * (MEGABYTE // 4 // len(ROW))
    pieces = [b"COPY public.t FROM stdin;\n", *[block] * 100, b"\\.\n"]

    def passes() -> None:
        assert sum(map(len, guarded(pieces, DumpScanner()))) == sum(map(len, pieces))

    def walks() -> None:
        assert not any(line == b"\\." for piece in pieces[:-1] for line in piece.split(b"\n"))

    assert speed.times(passes, walks) < 3
