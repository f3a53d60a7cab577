"""The parts that a large dump is loaded in: settings, rows, indexes and keys apart, each a whole statement."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pgbackup.errors import BackupBad
from pgbackup.sql.guarding import guard
from pgbackup.sql.parts import COPY as COPY_STATEMENT
from pgbackup.sql.parts import FOREIGN_KEY, INDEX, KEY, ROWS, ROWS_END, SETTING, Part, Work, work_of
from pgbackup.sql.scanner import DumpScanner

from tests.unit.test_guard import COPY, SIZES, cut, passed, restricted

PARTS = [
    (SETTING, b"SET client_encoding = 'UTF8';"),
    (SETTING, b"SELECT pg_catalog.set_config('search_path', '', false);"),
    ("", b"CREATE TABLE public.t (a int);"),
    (SETTING, b"SET default_tablespace = 'x';"),
    ("", COPY + b"SELECT pg_catalog.setval('public.s', 3, true);"),
    ("", b"ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY (a);"),
    (INDEX, b"CREATE INDEX one ON public.t USING btree (a) WHERE (b = ';');"),
    (INDEX, b'CREATE UNIQUE INDEX "two;" ON public.t USING btree (a);'),
    ("", b"COMMENT ON INDEX one IS 'CREATE INDEX three';"),
    ("", b"CREATE FUNCTION public.index() RETURNS int LANGUAGE sql AS $$ CREATE INDEX four; $$;"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1 << 20])
def test_settings_and_indexes_are_whole_parts_and_nothing_is_lost(size: int) -> None:
    text = b"\n\n--\n-- Name: x; Type: INDEX\n--\n\n".join(statement for _, statement in PARTS) + b"\n\n-- end\n"
    parts = list(guard.parted(cut(restricted(text), size), DumpScanner(), apart=True))
    assert b"".join(part.text for part in parts) == passed([restricted(text)])[0]
    for kind in (SETTING, INDEX):
        found = [re.sub(rb"^--.*\n", b"", part.text, flags=re.M).strip() for part in parts if part.kind == kind]
        assert found == [statement for of_kind, statement in PARTS if of_kind == kind]


@pytest.mark.parametrize("size", SIZES[2:])
def test_an_index_too_long_to_be_held_is_no_part_of_its_own(size: int) -> None:
    text = b"CREATE INDEX long ON t (a) WHERE b IN (" + b"1234567, " * 200_000 + b"1);\nCREATE INDEX short ON t (a);\n"
    parts = list(guard.parted(cut(text, size), DumpScanner(), apart=True))
    assert b"".join(part.text for part in parts) == text
    assert [part.text.strip() for part in parts if part.kind] in (
        [b"CREATE INDEX short ON t (a);"],
        text.strip().splitlines(),  # it came in one piece
    )


def test_a_setting_that_other_sessions_would_not_learn_of_is_refused() -> None:
    text = b"-- " + b"x" * 3_000_000 + b"\nSET search_path = a;\n"
    assert b"".join(part.text for part in guard.parted(cut(text, 1000), DumpScanner(), apart=False)) == text
    with pytest.raises(BackupBad, match="a setting after"):
        list(guard.parted(cut(text, 1000), DumpScanner(), apart=True))


# --- any dump, cut anywhere -----------------------------------------------------------------------------------

STATEMENTS = [
    *PARTS,
    ("", b"COPY public.t (a) FROM stdin;\n\\.\n"),
    ("", b"COPY public.t (a) FROM stdin;\n" + b"CREATE INDEX in_data ON t (a);\n" * 3 + b"\\N\n\\.\n"),
    ("", b"COPY public.t (a) FROM stdin;\r\n1\r\n\\.\r\n"),
    ("", b"INSERT INTO t VALUES ('CREATE INDEX five;');"),
    ("", b"CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END;"),
    (INDEX, b"CREATE INDEX \"in six\" ON ONLY public.t USING gin (a) WITH (fastupdate='off');"),
    (SETTING, b"SET default_table_access_method = heap;"),
    (KEY, b'ALTER TABLE ONLY public."a ""b; c"\n    ADD CONSTRAINT k UNIQUE NULLS NOT DISTINCT (a);'),
    (FOREIGN_KEY, b"ALTER TABLE ONLY public.t\n    ADD CONSTRAINT f FOREIGN KEY (a, b) REFERENCES x.u(c) NOT VALID;"),
    ("", b"ALTER TABLE public.p\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.u(a);"),
    ("", b"ALTER TABLE ONLY public.t\n    ADD CONSTRAINT e EXCLUDE USING gist (a WITH =);"),
]
GAPS = [b"\n", b"\n\n--\n-- Name: x; Type: TABLE DATA\n--\n\n", b" /* between */ ", b"\n\n\n"]


@settings(max_examples=60, deadline=None)
@example(chosen=[(STATEMENTS[4], b"\n"), (STATEMENTS[6], b"\n")], sizes=[45])
@example(
    chosen=[(PARTS[0], b" /* between */ "), *[(PARTS[6], b"\n")] * 3, *[(STATEMENTS[len(PARTS)], b"\n")] * 2], sizes=[]
)
@given(
    st.lists(st.tuples(st.sampled_from(STATEMENTS), st.sampled_from(GAPS)), max_size=8),
    st.lists(st.integers(1, 200), max_size=20),
)
@pytest.mark.fault(82, "any dump, cut into pieces anywhere")
def test_whatever_is_dumped_and_wherever_it_is_cut_each_part_is_whole(
    chosen: list[tuple[tuple[str, bytes], bytes]], sizes: list[int]
) -> None:
    text, between, statements = b"", {0}, []
    for (kind, statement), gap in chosen:
        text += statement
        begins = [n for n in range(len(gap) + 1) if not gap[:n].strip() or gap[:n].endswith((b"\n", b"*/"))]
        between |= {len(text) + n for n in [*begins, len(gap)]}  # but not in the middle of a comment
        text += gap
        statements += [(kind, statement)] * bool(kind)
    whole = passed([text])
    assert whole == (text, "")
    cuts = sorted({sum(sizes[:n]) for n in range(len(sizes))})
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    for given_pieces in (pieces, cut(text, 1), [text]):
        assert b"".join(part.text for part in guard.parted(given_pieces, DumpScanner(), apart=False)) == text
        parts = list(guard.parted(given_pieces, DumpScanner(), apart=True))
        assert b"".join(part.text for part in parts) == text
        of_rows = (COPY_STATEMENT, ROWS, ROWS_END)
        assert [(part.kind, bare(part)) for part in parts if part.kind not in ("", *of_rows)] == statements
        assert copies(parts) == [found for each in after_whole_lines(chosen) if (found := plain_copy(each))]
        assert starts(parts) <= between


def after_whole_lines(chosen: list[tuple[tuple[str, bytes], bytes]]) -> list[bytes]:
    """The statements before which there is nothing that pg_dump does not write there."""
    gaps = [b"", *(gap for _, gap in chosen)]
    return [statement for ((_, statement), _), gap in zip(chosen, gaps, strict=False) if b"/*" not in gap]


def plain_copy(statement: bytes) -> tuple[bytes, bytes, bytes] | None:
    """A COPY as pg_dump writes it, its rows, and the line that ends them."""
    found = re.match(rb"(COPY public\.t \([^;\n]*;)(\n(?:.*\n)*?)(\\\.\n)", statement)
    return (found[1], found[2], found[3]) if found else None


def copies(parts: list[Part]) -> list[tuple[bytes, bytes, bytes]]:
    """The COPYs whose rows came as parts of their own, with these."""
    found, rest = [], list(parts)
    while rest:
        part = rest.pop(0)
        if part.kind == COPY_STATEMENT and rest and rest[0].kind == ROWS and rest[0].text.startswith(b"\n"):
            rows = b""
            while rest[0].kind == ROWS:
                rows += rest.pop(0).text
            assert rest[0].kind == ROWS_END
            found.append((bare(part), rows, rest.pop(0).text))
    return found


def bare(part: Part) -> bytes:
    """The part without the comments and the space before its statement."""
    return re.sub(rb"\A(?:\s|--.*\n|/\*.*\*/)*", b"", part.text)


def starts(parts: list[Part]) -> set[int]:
    """Where in the dump a part begins that another session may take, or that follows one: only between statements."""
    found, at = set(), 0
    for part in parts:
        found |= {at, at + len(part.text)} if part.kind == INDEX else set()
        at += len(part.text)
    return found


@pytest.mark.fault(82, "an index right behind rows, every cut")
def test_every_cut_of_rows_with_an_index_behind_them() -> None:
    """Two pieces, cut at each byte: what makes an index a part of its own must not reach back into the rows."""
    index = b"CREATE INDEX one ON public.t USING btree (a);"
    text = b"SET x = 1;\nCOPY public.t (a) FROM stdin;\nrow\nanother\n\\.\n\n--\n-- i\n--\n\n" + index + b"\n"
    for at in range(len(text)):
        parts = list(guard.parted([text[:at], text[at:]], DumpScanner(), apart=True))
        assert b"".join(part.text for part in parts) == text
        assert [bare(part) for part in parts if part.kind == INDEX] == [index], at


@pytest.mark.parametrize(
    "line",
    [
        b"COPY t (a) FROM stdin; CREATE INDEX one ON t (a);\n1\n\\.\n",
        b"COPY t (a) FROM stdin; COPY t (a) FROM stdin; CREATE INDEX one ON t (a);\n1\n\\.\n2\n\\.\n",
        b"SET standard_conforming_strings = off; CREATE INDEX one ON t (a) WHERE a = '\\'; SELECT ' \\! x --';\n",
    ],
)
def test_what_psql_reads_differently_up_to_the_end_of_the_line_is_no_part_of_its_own(line: bytes) -> None:
    """Another session would take the rows for statements, or end the string elsewhere."""
    for size in SIZES:
        parts = list(guard.parted(cut(line, size), DumpScanner(), apart=True))
        assert b"".join(part.text for part in parts) == line
        assert [part for part in parts if part.kind == INDEX] == []


@pytest.mark.parametrize("setting", [b"SET standard_conforming_strings = on;", b"SET client_encoding = 'LATIN1';"])
def test_what_may_be_loaded_later_is_read_as_it_is_read_here(setting: bytes) -> None:
    """An event trigger comes last, and must not come under another reading of strings than its own."""
    comment = b"COMMENT ON EVENT TRIGGER x IS 'a\\' \\! touch x --';\n"
    text = b"SET standard_conforming_strings = off;\nSELECT 1;\n" + comment + setting + b"\n"
    for apart in (False, True):
        with pytest.raises(BackupBad, match="a setting after an event trigger"):
            list(guard.parted([text], DumpScanner(), apart=apart))


@pytest.mark.parametrize(
    "line",
    [
        b"COPY public.t (a) FROM stdin WITH (FORMAT csv);\n1\n\\.\n",
        b"COPY public.t (a) FROM stdin; -- comment\n1\n\\.\n",
        b"COPY public.t (a) FROM stdin; COPY public.t (a) FROM stdin;\n1\n\\.\n2\n\\.\n",
        b"COPY public.t (a) FROM stdin; SELECT 1;\n1\n\\.\n",
        b"COPY t (a) FROM stdin;\n1\n\\.\n",
    ],
)
def test_rows_that_pg_dump_does_not_write_so_stay_where_they_are(line: bytes) -> None:
    for size in SIZES:
        parts = list(guard.parted(cut(line, size), DumpScanner(), apart=True))
        assert b"".join(part.text for part in parts) == line
        assert copies(parts) == []


@pytest.mark.parametrize(
    ("kind", "statement", "work"),
    [
        (COPY_STATEMENT, b'COPY a."b ""c" (x, "y)") FROM stdin;', Work((b'a."b ""c"',))),
        (COPY_STATEMENT, b"COPY a.nothing  FROM stdin;", Work((b"a.nothing",))),
        (INDEX, b'CREATE UNIQUE INDEX "I" ON ONLY public.t USING gin (a);', Work((b"public.t",), "gin")),
        (INDEX, b"CREATE INDEX i ON t USING gin (a);", None),
        (KEY, b"ALTER TABLE ONLY a.t\n    ADD CONSTRAINT k PRIMARY KEY (a);", Work((b"a.t",), "btree")),
        (
            FOREIGN_KEY,
            b'ALTER TABLE ONLY a.t\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES b."U"(a);',
            Work((b"a.t", b'b."U"')),
        ),
        (FOREIGN_KEY, b'ALTER TABLE ONLY a.t\n    ADD CONSTRAINT f FOREIGN KEY ("(") REFERENCES b.u(a);', None),
    ],
)
def test_what_a_part_is_about_is_read_from_it(kind: str, statement: bytes, work: Work | None) -> None:
    assert work_of(Part(b"\n--\n-- Name: x; Type: y\n--\n\n" + statement, kind)) == work
