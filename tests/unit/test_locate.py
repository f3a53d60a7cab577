"""A line of a dump belongs to one statement, with the comment before it and the rows behind it."""

from __future__ import annotations

import pytest
from pgbackup.sql.locate import Unit, rows_end, unit_at

TEXT = rb"""SET a = 1;
--
-- Name: t; Type: TABLE; Schema: public; Owner: o
--

CREATE TABLE t (
    x text
);
ALTER TABLE t OWNER TO o;
--
-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: o
--

COPY public.t (x) FROM stdin;
one
-- Name: no; Type: TABLE; Schema: public; Owner: o
SELECT 1;
\.

SELECT 2; SELECT 3;
--
-- Name: e; Type: EVENT TRIGGER; Schema: -; Owner: o
--

CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION f();
"""
TABLE, ROWS = "TABLE t in schema public", "TABLE DATA t in schema public"
UNITS = {
    1: Unit(1, 1, ""),
    8: Unit(2, 8, TABLE),
    9: Unit(9, 9, TABLE),
    14: Unit(10, 18, ROWS),
    18: Unit(10, 18, ROWS),
    20: Unit(19, 20, ROWS),
    25: Unit(21, 25, "EVENT TRIGGER e"),
}


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("line", UNITS)
def test_the_unit_of_a_line_is_found_in_any_pieces(line: int, size: int) -> None:
    pieces = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    assert unit_at(pieces, line) == UNITS[line]
    assert rows_end(pieces) == 18
    assert rows_end([b"SELECT 1;\nINSERT INTO t VALUES (1),\n(2);\nSELECT 2;\n"]) == 3
    assert rows_end([b"SELECT 1;\n"]) == 0
