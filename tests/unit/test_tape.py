"""Which line, and which object, a session of psql gave up at."""

from __future__ import annotations

from pgbackup.database.loading.tape import Tape, failed_line

HEADINGS = b"-- Name: %b; Type: VIEW; Schema: public; Owner: x\n\nCREATE VIEW %b;\n"
SAID = (
    "psql:<stdin>:3: WARNING:  01000: cast will be ignored\nLOCATION:  x, y.c:1\n"
    'psql:<stdin>:6: ERROR:  42P01: relation "b" does not exist\nLINE 1: b\n'
)


def test_a_warning_that_came_before_is_not_what_psql_ended_with() -> None:
    tape = Tape()
    for name in (b"a", b"b", b"c"):
        tape.note(HEADINGS % (name, name))
    assert failed_line(SAID) == 6
    assert tape.blamed(SAID) == "VIEW b in schema public"


def test_without_a_line_nothing_is_blamed() -> None:
    assert failed_line("psql: error: no connection") == 0
    assert Tape().blamed("psql: error: no connection") == ""
