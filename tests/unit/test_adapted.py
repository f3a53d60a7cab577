"""What of a dump is left out for a new database: only what pg_dump's options add, where they add it."""

from __future__ import annotations

import pytest
from pgbackup.errors import BackupBad
from pgbackup.formats import loadable
from pgbackup.sql.guarding import guard
from pgbackup.sql.guarding.guard import guarded
from pgbackup.sql.scanner import DumpScanner

from tests.unit.test_guard import COPY, SIZES, cut

HEAD = (
    b"--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.1\n"
    b"-- Dumped by pg_dump version 15.1\n\n"
    b"SET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n\n"
)
MADE = b"CREATE TABLE public.t (a int);\n" + COPY
DROPS = (
    b'DROP EVENT TRIGGER et;\nALTER TABLE IF EXISTS ONLY public.t DROP CONSTRAINT IF EXISTS "a;b";\n'
    b"CREATE OR REPLACE VIEW public.cv AS\nSELECT\n    NULL::integer AS a;\nSELECT pg_catalog.lo_unlink('1');\n"
    b"ALTER TABLE public.t ALTER COLUMN id DROP DEFAULT;\nDROP FUNCTION public.begin();\nDROP TABLE public.t;\n"
)
CREATE = b"CREATE DATABASE shop WITH TEMPLATE = template0;\n\n\nALTER DATABASE shop OWNER TO me;\n\n"
OF_DATABASE = (
    b"COMMENT ON DATABASE shop IS 'a\nb; " + b"x" * 2000 + b"';\nALTER DATABASE shop SET a TO b;\n"
    b"ALTER ROLE me IN DATABASE shop SET a TO b;\nREVOKE CONNECT,TEMPORARY ON DATABASE shop FROM PUBLIC;\n"
    b"SECURITY LABEL FOR x ON DATABASE shop IS 'y';\nGRANT CONNECT ON DATABASE shop TO PUBLIC;\n"
)


def through(text: bytes, size: int, *, apart: bool = False) -> bytes:
    return b"".join(part.text for part in guard.parted(cut(text, size), DumpScanner(), apart=apart))


def lines(text: bytes) -> list[bytes]:
    """The lines that hold something, comments not counted."""
    return [line for line in text.splitlines() if line and not line.startswith(b"--")]


LEFT_OUT = {
    "--clean": (DROPS + MADE, MADE),
    "--create": (CREATE + b"\\connect shop\n\n" + OF_DATABASE + MADE + OF_DATABASE, MADE),
    "--clean --create": (b"DROP DATABASE IF EXISTS shop;\n" + CREATE + b"\\connect shop\n" + MADE, MADE),
    "--schema=public": (b"CREATE SCHEMA public;\n" + MADE, b"CREATE SCHEMA IF NOT EXISTS public;\n" + MADE),
    "a schema like public": (b"CREATE SCHEMA public2;\n" + MADE, b"CREATE SCHEMA public2;\n" + MADE),
    "a drop behind the head": (MADE + b"DROP TABLE public.t;\n", MADE + b"DROP TABLE public.t;\n"),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", LEFT_OUT)
def test_what_an_option_adds_is_left_out_and_lines_keep_their_numbers(how: str, size: int) -> None:
    text, kept = LEFT_OUT[how]
    for apart in (False, True):
        out = through(HEAD + text, size, apart=apart)
        assert lines(out) == lines(HEAD + kept)
        assert out.count(b"\n") == (HEAD + text).count(b"\n")


@pytest.mark.parametrize("size", SIZES)
def test_each_connect_stands_between_two_restricts(size: int) -> None:
    head = HEAD.replace(b"-- Dumped", b"\\restrict K1\n-- Dumped", 1)
    reconnect = b"\\unrestrict K1\n\\connect shop\n\\restrict K1\n"
    text = head + CREATE + reconnect + OF_DATABASE + reconnect + MADE + b"\\unrestrict K1\n\n"
    assert lines(through(text, size)) == lines(HEAD + MADE)


SCRIPT = HEAD.replace(b"by pg_dump", b"by another")
REFUSED = {
    "not by pg_dump": SCRIPT + CREATE,
    "another database's property": HEAD + CREATE + b"ALTER DATABASE other SET a TO b;\n",
    "a second database": HEAD + CREATE + b"CREATE DATABASE other;\n",
    "a database in mid-dump": HEAD + MADE + b"DROP DATABASE shop;\n",
    "a connect without a database": HEAD + b"\\connect shop\n",
    "a connect to another database": HEAD + CREATE + b"\\connect other\n",
    "a connect with more": HEAD + CREATE + b"\\connect shop other\n",
    "a connect to another server": HEAD + CREATE + b"\\connect -reuse-previous=on \"dbname='shop' host='x'\"\n",
    "a connect to what a program says": HEAD + CREATE + b"\\connect `x`\n",
    "a connect between two statements' words": HEAD + CREATE + b"SELECT 1 \\connect shop\n",
    "a connect inside the restricted part": HEAD + b"\\restrict K1\n" + CREATE + b"\\connect shop\n",
    "another key": HEAD + b"\\restrict K1\n" + CREATE + b"\\unrestrict K2\n",
    "another encoding": HEAD + CREATE + b"\\encoding SJIS\n",
    "a command": HEAD + CREATE + b"\\connect shop\n\\! x\n",
    "statements between": HEAD.replace(b"-- D", b"\\restrict K1\n-- D", 1) + CREATE + b"\\unrestrict K1\nSELECT 1;\n",
    "a role": HEAD + DROPS + b"DROP ROLE x;\n",
    "a library": HEAD + CREATE + b"LOAD 'x';\n",
}


@pytest.mark.parametrize("how", REFUSED)
def test_all_else_about_databases_stays_refused(how: str) -> None:
    for size in SIZES:
        with pytest.raises(BackupBad, match="refused at line"):
            through(REFUSED[how], size)
        refused, _ = loadable.judged(cut(REFUSED[how], size), DumpScanner())
        assert refused is not None


def test_a_judge_goes_on_to_the_end_and_counts_what_the_scanner_alone_counts() -> None:
    text = HEAD + b"SELECT 1;\n\\! x\n" + MADE + b"LOAD 'x';\n" + MADE
    for size in SIZES:
        judged, alone = DumpScanner(), DumpScanner()
        refused, left_out = loadable.judged(cut(text, size), judged)
        alone.feed(text)
        alone.finish()
        judged.finish()
        assert refused is not None
        assert "'\\! x'" in refused.message
        assert left_out == []
        assert (judged.rows, judged.statements, judged.tables) == (alone.rows, alone.statements, alone.tables)


def test_a_judge_names_the_line_behind_rows_that_came_in_many_pieces() -> None:
    rows = b"".join(b"%d\ta row\n" % number for number in range(500))
    text = (
        HEAD + b"CREATE TABLE public.t (a int, b text);\nCOPY public.t (a, b) FROM stdin;\n" + rows + b"\\.\n\n\\! x\n"
    )
    line = 1 + text[: text.index(b"\\! x")].count(b"\n")
    for size in (1, 7, 64, 1000, 4096):
        refused, _ = loadable.judged(cut(text, size), DumpScanner())
        assert refused is not None and f"line {line:,} of the dump" in refused.message
    for size in (7, 64, 4096):
        refused, _ = loadable.judged(cut(text.replace(b"400\ta", b"400\t\0"), size), DumpScanner())
        assert refused is not None and "a NUL byte" in refused.message and f"line {line - 102:,} of" in refused.message


SHORT = [
    (COPY, "--data-only"),
    (b"INSERT INTO public.t VALUES (1);\n", "--data-only"),
    (b"ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (a);\n", "--section=post-data"),
    (b"CREATE TABLE app.t (a int);\n" + COPY.replace(b"public", b"app"), "does not create the schema app"),
    (b"CREATE SCHEMA app;\nCREATE TABLE app.t (a int);\n" + COPY.replace(b"public", b"app"), ""),
    (b'CREATE SCHEMA "a.b";\nCREATE TABLE "a.b".t (a int);\n' + COPY.replace(b"public", b'"a.b"'), ""),
    (b"CREATE EXTENSION IF NOT EXISTS x;\n" + COPY, ""),
    (b"CREATE TABLE t (a int);\n" + COPY.replace(b"public.", b""), ""),
    (MADE, ""),
    (b"", ""),
]


@pytest.mark.parametrize(("text", "says"), SHORT)
def test_a_part_of_a_database_is_known_by_what_it_lacks(text: bytes, says: str) -> None:
    scanner = DumpScanner()
    assert b"".join(guarded([HEAD + text], scanner)) == HEAD + text
    found = loadable.shortfall(scanner)
    assert says in found
    assert bool(says) == bool(found)
