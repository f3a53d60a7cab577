"""What PostgreSQL quotes of a row is in no log, history or JSON document; what it says of objects is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from pgbackup.database.clients import failures
from pgbackup.database.loading import psql
from pgbackup.report import history, log, redaction
from pgbackup.report.events import Event
from pgbackup.report.result import document
from pgbackup.settings import config
from pgbackup.store import folder

TARGET = config.load({}, Path("/nonexistent/.env"), {}).targets[0]
SECRET = "sEcReT"
ROW = f"DETAIL:  Failing row contains (1, {SECRET})."
COPY = f'CONTEXT:  COPY bills, line 3, column sum: "{SECRET}"'
AT = "psql:<stdin>:41: ERROR:  "

# What is said of a row (PostgreSQL 15 to 18); the names in it that have to stay.
OF_ROWS = [
    (f'{AT}invalid input syntax for type money: "{SECRET}"\n{COPY}', "money"),
    (f'{AT}invalid input syntax for type integer: "a"{SECRET}"b"', "integer"),
    (f'{AT}invalid input syntax for type integer: "line one\n{SECRET} permission denied for table x\n"', "integer"),
    (f'{AT}value "{SECRET}" is out of range for type smallint', "out of range"),
    (f'{AT}date/time field value out of range: "{SECRET}"', "date/time"),
    (f'{AT}invalid input value for enum mood: "{SECRET}"', "mood"),
    (f'{AT}malformed array literal: "{SECRET}"\nDETAIL:  Unexpected "{SECRET}" element.', "malformed array"),
    (f'{AT}time zone "{SECRET}" not recognized', "not recognized"),
    (f'{AT}invalid value for parameter "TimeZone": "{SECRET}"', '"TimeZone"'),
    (f'{AT}duplicate key value violates unique constraint "u"\nDETAIL:  Key (email)=({SECRET}) already exists.', '"u"'),
    (f'{AT}could not create unique index "i"\nDETAIL:  Key (a, b)=({SECRET}, (x)) is duplicated.', '"i"'),
    (
        f'{AT}new row for relation "t" violates check constraint "c"\n{ROW}',
        'relation "t" violates check constraint "c"',
    ),
    (f'{AT}null value in column "n" of relation "t" violates not-null constraint\n{ROW}', 'column "n" of relation "t"'),
    (
        f'{AT}insert or update on table "a" violates foreign key constraint "f"\n'
        f'DETAIL:  Key (b)=({SECRET}) is not present in table "c".',
        'table "a" violates foreign key constraint "f"',
    ),
    (f'{AT}invalid byte sequence for encoding "UTF8": 0xe2 0x28 0xa1\nCONTEXT:  COPY t, line 1', 'encoding "UTF8"'),
    (
        f'{AT}character with byte sequence 0xe2 0x82 0xac in encoding "UTF8" has no equivalent in encoding "LATIN1"',
        'encoding "UTF8" has no equivalent in encoding "LATIN1"',
    ),
    (f'{AT}missing data for column "b"\nCONTEXT:  COPY t, line 1: "{SECRET}"', 'column "b"'),
    (f'{AT}extra data after last expected column\nCONTEXT:  COPY t, line 1: "{SECRET}\t2\t{SECRET}"', "extra data"),
    (f'{AT}syntax error at or near "{SECRET}"\nLINE 1: INSERT INTO t VALUES ({SECRET});\n    ^', "syntax"),
    (f"{AT}unterminated quoted string at or near \"'{SECRET}", "unterminated"),
    (f"{AT}no such user {SECRET}\nCONTEXT:  PL/pgSQL function checked() line 3 at RAISE", "a function says"),
    (f'{AT}KeyError: {SECRET}\nCONTEXT:  Traceback\nPL/Python function "f"', "a function says"),
    (
        f"psql:<stdin>:41: FEHLER:  ungültige Eingabesyntax für Typ money: »{SECRET}«\n"
        f"ZUSAMMENHANG:  COPY t, Zeile 3: »{SECRET}«",
        "money",
    ),
    (f"FEHLER:  ungültige Eingabesyntax für Typ money: „{SECRET}“\nZEILE 1: SELECT „{SECRET}“", "money"),
    (f'pg_dump: error: query failed: ERROR:  cannot cast "{SECRET}"\npg_dump: detail: no', "query failed"),
    (
        f'2024-01-15 02:00:00 UTC [12] ERROR:  invalid input syntax for type inet: "{SECRET}"\n'
        f"2024-01-15 02:00:00 UTC [12] STATEMENT:  SELECT '{SECRET}'",
        "inet",
    ),
]


@pytest.mark.parametrize(("said", "stays"), OF_ROWS, ids=range(len(OF_ROWS)))
def test_a_value_of_a_row_goes_nowhere_but_to_the_terminal(said: str, stays: str, tmp_path: Path) -> None:
    for error in (failures.explained(said, 3, "psql", TARGET), psql.explained(said, 3, TARGET)):
        assert stays in error.message, "whoever is at the terminal sees what happened"
        later = f"the dump is published, but no base backup could be made: {error.message}; and more"
        for message in (error.message, later):
            for written in everywhere(message, tmp_path):
                assert SECRET not in written and "0xe2" not in written, written
                assert stays in written.replace('\\"', '"'), written


def everywhere(message: str, place: Path) -> list[str]:
    """The line in backup.log, the one in the history and the JSON documents of a run that ended with this message."""
    place.chmod(0o700)
    with folder.opened(place, create=False, top=True) as top:
        history.append(top, {"outcome": message, "warnings": [message], "unwell": [message]})
        told = [json.dumps(history.newest(top, bool, 9), ensure_ascii=False)]
    documents: list[dict[str, Any]] = [
        document("backup", 69, databases=[{"error": message, "warnings": [message]}]),
        document("backup", 69, error=message),
        document("verify", 65, archives=[{"problem": message}]),
    ]
    line = log.line(Event("ERROR", "auth", "backup.failed", {"status": 69, "reason": message}), time.time())
    return [*told, line, *(json.dumps(one, ensure_ascii=False) for one in documents)]


OF_OBJECTS = [
    'connection to server at "127.0.0.1", port 5432 failed: FATAL:  database "auth_db" does not exist',
    'connection to server on socket "/run/.s.PGSQL.5432" failed: FATAL:  role "a b" does not exist',
    'psql:<stdin>:9: ERROR:  could not extend file "base/16424/16439": No space left on device',
    'ERROR:  type "public.mood" does not exist',
    'ERROR:  relation "users" of schema "public" already exists',
    'ERROR:  could not open extension control file "/usr/share/postgresql/15/extension/x.control": No such file',
    "ERROR:  permission denied for table secrets",
    'ERROR:  column "a" of relation "b" does not exist',
]


@pytest.mark.parametrize("said", OF_OBJECTS)
def test_what_is_said_of_objects_stays(said: str) -> None:
    assert redaction.without_values(said) == said


OURS = [
    "'/opt/backups' may be written by others (mode 0777)",
    'DATABASES has no \'shop\': "it\'s" is not one (a)=(b) 0xff',
    "container 'postgres-a' is not there or not running: No such container: postgres-a",
    "no password for \"x\"",
    "",
]  # fmt: skip


@pytest.mark.parametrize("message", OURS)
def test_what_no_server_has_said_stays_as_it_is(message: str) -> None:
    assert redaction.without_values(message) == message
    assert redaction.of_document({"error": message, "hint": 'ERROR:  "x"', "n": 1, "file": 'ERROR:  "x"'}) == {
        "error": message, "hint": 'ERROR:  "x"', "n": 1, "file": 'ERROR:  "x"'
    }  # fmt: skip


def test_a_value_that_looks_like_a_name_is_one_all_the_same() -> None:
    """Behind the first value nothing is taken for a name: it may be part of the value."""
    said = f'ERROR:  invalid input syntax for type json: "a" role "{SECRET}" x'
    assert SECRET not in redaction.without_values(said)


def test_a_row_that_reads_like_another_failure_does_not_change_what_is_told() -> None:
    said = f'{AT}division by zero\nCONTEXT:  COPY notes, line 3, column text: "permission denied for table x {SECRET}"'
    error = failures.explained(said, 3, "psql", TARGET)
    assert error.status == 69 and "division by zero" in error.message and SECRET not in error.message
    said = "psql:<stdin>:3: NOTICE:  an error is told here\npsql:<stdin>:9: ERROR:  division by zero"
    assert "division by zero" in failures.explained(said, 3, "psql", TARGET).message
