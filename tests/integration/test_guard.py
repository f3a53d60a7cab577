"""The guard against psql itself: what psql would take for a command of its own never reaches it.

psql runs without its restricted mode here, which stops the same things once more and would hide what the guard misses.
"""

from __future__ import annotations

import random
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from pgbackup.archive.guard import guarded
from pgbackup.archive.sqldump import DumpScanner
from pgbackup.errors import BackupBad

from demo import servers
from tests.support import embedded
from tests.support.servers import Server

ODD_TABLES = Path(__file__).parents[1] / "unit" / "odd_tables.sql"
SIZES = (1, 300, 1 << 20)


def passed(text: bytes, size: int = 1 << 20) -> tuple[bytes, str]:
    """What the guard lets through of a dump in pieces of this size, and why it then refused, "" if it did not."""
    out = bytearray()
    try:
        for ready in guarded((text[at : at + size] for at in range(0, len(text), size)), DumpScanner()):
            out += ready
    except BackupBad as refused:
        return bytes(out), refused.message
    return bytes(out), ""


# --- psql and its server ------------------------------------------------------------------------------------

_OPTIONS = ("-X", "-q", "-o", "/dev/null", "-f", "-")
_PREPARED = b"CREATE TEMP TABLE t (a text);\n"


@dataclass(frozen=True)
class Psql:
    """psql of one release. run(dump, stop): give it the dump and return what it printed; markers: a directory in
    which psql and the server may make files.
    """

    major: int
    run: Callable[..., bytes]
    markers: Path
    exists: Callable[[Path], bool]


@pytest.fixture(scope="module", params=[16, 18])
def started(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    with embedded.running(["auth_user"], major=request.param) as (server,):
        server.load("odd", ODD_TABLES, 100)
        yield server


def embedded_psql(server: servers.Server) -> Psql:
    program, url = server.installation.programs / "psql", server.url("postgres")

    def run(dump: bytes, *, stop: bool = True) -> bytes:
        command = [program, *_OPTIONS, "-v", f"ON_ERROR_STOP={int(stop)}", "-d", url]
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        return subprocess.run(command, input=_PREPARED + dump, env=environment, capture_output=True, check=False).stdout

    return Psql(int(server.installation.version.split(".")[0]), run, server.directory / "data", Path.exists)


@pytest.fixture(scope="module")
def embedded_client(started: servers.Server) -> Psql:
    return embedded_psql(started)


def container_psql(server: Server) -> Psql:
    def run(dump: bytes, *, stop: bool = True) -> bytes:
        command = ["docker", "exec", "-i", server.id, "psql", *_OPTIONS, "-v", f"ON_ERROR_STOP={int(stop)}"]
        command += ["-U", server.user, "-d", server.database]
        return subprocess.run(command, input=_PREPARED + dump, capture_output=True, check=False).stdout

    def exists(path: Path) -> bool:
        return server.exec(["test", "-e", str(path)], check=False).returncode == 0

    return Psql(server.major, run, Path("/var/tmp"), exists)


# --- hostile dumps ------------------------------------------------------------------------------------------

SJIS = b"SET client_encoding = 'SJIS';\n"
DATA = b"COPY t FROM stdin;\n"
# %m: the marker's file. Each makes it where nothing guards psql.
HOSTILE = {
    "command": b"SELECT 1;\n\\! touch %m\n",
    "command at the end of a line": b"SELECT 1; \\! touch %m\n",
    "command inside a statement": b"SELECT (1,\n\\! touch %m\n",
    "command with CRLF": b"SELECT 1;\r\n\\! touch %m #\r\n",
    "command behind a byte order mark": b"\xef\xbb\xbf\\! touch %m\n",
    "copy from program": b"\\copy t from program 'touch %m'\n",
    "copy to program": b"\\copy t to program 'touch %m'\n",
    "restrict with backquotes": b"\\restrict `touch %m`\n",
    "unrestrict with backquotes": b"\\restrict K\n\\unrestrict K\n\\unrestrict `touch %m`\n",
    "unrestrict in the middle": b"\\restrict K\nSELECT 1;\n\\unrestrict K\n\\! touch %m\n",
    "restrict twice": b"\\restrict K\nSELECT 1;\n\\unrestrict K\n\\restrict `touch %m`\n",
    "no end of data": DATA + b"1\n\\. /*\n\\.\n\\! touch %m\n-- */\n",
    "no end of data, a blank": DATA + b"\\. \n\\.\n\\! touch %m\n",
    "end of data with CRLF": DATA + b"1\n\\.\r\n\\! touch %m\n",
    "right after the data": DATA + b"1\n\\.\n\\! touch %m\n",
    "data in a long line": DATA + b"x" * 9000 + b"\n\\.\n\\! touch %m\n\\.\n",
    "data of csv": b"COPY t FROM stdin (FORMAT csv);\n\"\n\\.\n\\! touch %m\n\"\n\\.\n",
    "no data where two are": b"COPY t FROM stdin; COPY t FROM stdin;\n\\.\n\\.\n\\! touch %m\n",
    "comment that ends earlier": b"/* /* */ */ \\! touch %m\n */\n",
    "comment that does not open": b"SELECT '/*' \\! touch %m\n */\n",
    "comment ended by a carriage return": b"-- x\r\\! touch %m\n",
    "comment of a name": b"--\n-- Name: x\n\\! touch %m\n; Type: TABLE\n",
    "name with a newline": b'ALTER TABLE "x\n\\! no"\n\\! touch %m\n" OWNER TO y;\n',
    "dollar quote that is none": b"SELECT a$tag$ \\! touch %m\n$tag$;\n",
    "dollar quote that is closed": b"SELECT $tag$ $tag$ \\! touch %m\n$tag$;\n",
    "dollar quote of another tag": b"SELECT $a$ $b$ $a$ \\! touch %m\n$b$;\n",
    "input": b"\\i %m.sql\n",
    "output": b"\\o |touch %m\n",
    "g": b"SELECT 1\n\\g |touch %m\n",
    "g in the line": b"SELECT 1 \\g |touch %m\n",
    "gexec": b"SELECT $$COPY (SELECT 1) TO PROGRAM 'touch %m'$$ \\gexec\n",
    "gset": b"SELECT 'x' AS a\n\\gset\n\\! touch %m\n",
    "if": b"\\if true\n\\! touch %m\n\\endif\n",
    "backquotes": b"\\set x `touch %m`\n",
    "backquotes in mid-statement": b"SELECT 1 \\echo `touch %m`\n",
    "write": b"SELECT 1 \\w %m\n",
    "variable": b"\\set x '\\\\! touch %m'\nSELECT :x\n",
    "escape string": b"SELECT E'\\'' \\! touch %m\n --';\n",
    "escape string by the setting": b"SET standard_conforming_strings = off;\nSELECT '\\'' \\! touch %m\n --';\n",
    "setting in a call": b"SELECT set_config('standard_conforming_strings','off',false);\nSELECT '\\'' \\! touch %m\n --';\n",
    "setting of a transaction": b"BEGIN;\nSET LOCAL standard_conforming_strings = off;\nSELECT '\\'' \\! touch %m\n --';\n",
    "setting taken back": b"BEGIN;\nSET standard_conforming_strings = off;\nROLLBACK;\nSELECT '\\' \\! touch %m\n --';\n",
    "setting reset": b"SET standard_conforming_strings = off;\nRESET ALL;\nSELECT '\\' \\! touch %m\n --';\n",
    "half a character": SJIS + b"SELECT '\x81' ' \\! touch %m\n --';\n",
    "NUL in data": DATA + b"abc\0\n\\.\nSELECT 'a\n\\.\n\\! touch %m\n';\n",
    "NUL in SQL": b"SELECT '\0'\n; \\! touch %m\n--';\n",
    "number and E": b"SELECT 1.E'\\' \\! touch %m\n --';\n",
    "routine that is none": b'CREATE "x" FUNCTION f BEGIN; COPY t FROM stdin;\n\\! touch %m\n\\.\n',
    "routine in parentheses": b"CREATE (function) f BEGIN; COPY t FROM stdin;\n\\! touch %m\n\\.\n",
    "routine behind a string": b"'' CREATE FUNCTION f BEGIN; COPY t FROM stdin;\n\\! touch %m\n\\.\n",
    "routine behind a variable": b"CREATE :{?x} FUNCTION f BEGIN; COPY t FROM stdin;\n\\! touch %m\n\\.\n",
    "server's program, to": b"COPY (SELECT 1) TO PROGRAM 'touch %m';\n",
    "server's program, from": b"COPY t FROM PROGRAM 'touch %m';\n",
    "server's program without end": b"SELECT 1;\nCOPY t FROM PROGRAM 'touch %m'",
    "server's program by a name": b"CREATE SCHEMA \"from\"; CREATE TABLE \"from\".stdin (a text);\n"
    b"COPY postgres.from.stdin FROM PROGRAM 'touch %m'; DROP SCHEMA \"from\" CASCADE;\n",
    "server's program in a body": b"CREATE FUNCTION pg_temp.begin() RETURNS int RETURN 1;"
    b" COPY (SELECT 1) TO PROGRAM 'touch %m'; SELECT 1 AS end;\n",
    "server's file": b"COPY (SELECT 1) TO '%m';\n",
}  # fmt: skip
# Refused, too, but nothing that can be seen comes of them, or not in every release.
QUIET = {
    "connect": b"\\connect postgres\n",
    "restrict twice at once": b"\\restrict K\n\\restrict K\n",
    "wrong key": b"\\restrict K\n\\unrestrict `touch %m`\n",
    "setenv": b"\\setenv PAGER 'touch %m'\n",
    "variable that exists": b"SELECT :DBNAME \\! touch %m\n",
    "variable in a string": b"\\set x `touch %m`\nSELECT :'x';\n",
    "hexadecimal number and E": b"SELECT 0xE'\\' \\! touch %m\n --';\n",
    "dollar quote behind a number": b"SELECT 1.a$b$ ' $b$ \\! touch %m\n --';\n",
    "dollar quote that is not closed": b"DO $tag$ BEGIN END;\n\\! touch %m\n",
    "server's settings": b"ALTER SYSTEM SET archive_command = 'touch %m';\n",
    "server's library": b"LOAD '%m';\n",
    "other database": b"DROP DATABASE IF EXISTS nobodys;\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_dump_is_refused_before_psql_sees_the_line(embedded_client: Psql, name: str) -> None:
    survives_the_guard(embedded_client, HOSTILE[name], proven=True)


@pytest.mark.parametrize("name", QUIET)
def test_what_shows_no_effect_is_refused_all_the_same(embedded_client: Psql, name: str) -> None:
    survives_the_guard(embedded_client, QUIET[name], proven=False)


def test_psql_15_is_safe_from_the_same_dumps(postgres_a: Server) -> None:
    psql = container_psql(postgres_a)
    for dump in HOSTILE.values():
        survives_the_guard(psql, dump.replace(b"postgres.from", b"auth_db.from"), proven=True, sizes=SIZES[-1:])


def survives_the_guard(psql: Psql, hostile: bytes, *, proven: bool, sizes: tuple[int, ...] = SIZES) -> None:
    marker = psql.markers / f"marker-{secrets.token_hex(8)}"
    dump = hostile.replace(b"%m", bytes(marker))
    offending = next(line for line in reversed(dump.splitlines()) if bytes(marker) in line or not proven)
    if b"\\i " in dump:
        psql.run(b"COPY (SELECT '! touch ' || '%b') TO '%b.sql' (DELIMITER '\\', NULL '');\n" % ((bytes(marker),) * 2))
        psql.run(b"COPY (SELECT $$COPY (SELECT 1) TO '%b'$$) TO '%b.sql';\n" % ((bytes(marker),) * 2))
    for size in sizes:
        out, refused = passed(dump, size)
        assert refused, hostile
        assert offending not in out
        psql.run(out)
        psql.run(out, stop=False)
        assert not psql.exists(marker), hostile
    if proven:
        psql.run(dump, stop=False)
        assert psql.exists(marker), f"a test of the test: unguarded it does harm in psql {psql.major}: {hostile!r}"


# --- look-alikes --------------------------------------------------------------------------------------------

BAIT = b"\n\\! touch %m\n\\copy t from program 'touch %m'\n\\g |touch %m\n"
ROWS = BAIT[1:].replace(b"\\", b"\\\\")
HARMLESS = {
    "row": DATA + ROWS + b"\\.\n",
    "row of csv": b"COPY t FROM stdin (FORMAT csv);" + BAIT + b"\\.\n",
    "row with CRLF": DATA + b"1\n\\\\! touch %m\r\n".replace(b"\r", b"\\r") + b"\\.\n",
    "rows of quotes": DATA + b"'\n\"\n$$\n/*\n--\n(\n\\.\nSELECT 1;\n",
    "rows of two tables": DATA + b"1\n\\.\n\n" + DATA + b"\\\\! touch %m\n\\.\n",
    "function": b"CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS $_$ SELECT $$" + BAIT + b"$$ $_$;\n",
    "function in quotes": b"CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS ' SELECT ''" + BAIT + b"'' ';\n",
    "function of SQL": b"CREATE FUNCTION pg_temp.f() RETURNS text BEGIN ATOMIC SELECT '" + BAIT + b"'; END;\n",
    "string": b"SELECT '" + BAIT + b"';\n",
    "string with a quote": b"SELECT 'it''s" + BAIT + b"';\n",
    "string ending in a backslash": b"SELECT 'C:\\', '" + BAIT + b"';\n",
    "escape string": b"SELECT E'\\'" + BAIT.replace(b"\\", b"\\\\").replace(b"'", b"\\'") + b"';\n",
    "string with the setting off": b"SET standard_conforming_strings = off;\nSET escape_string_warning = off;\nSELECT '\\'"
    + BAIT.replace(b"\\", b"\\\\").replace(b"'", b"\\'")
    + b"';\nSET standard_conforming_strings = on;\n",
    "string with U&": b"SELECT U&'\\0041" + BAIT.replace(b"\\", b"\\\\").replace(b"'", b"''") + b"';\n",
    "line comments": b"--" + BAIT[1:].replace(b"\n", b"\n--") + b"\n",
    "block comment": b"/*" + BAIT + b"*/\n",
    "nested comment": b"/* ' /* */ $$ \"" + BAIT + b"*/\n",
    "identifier": b'SELECT 1 AS "' + BAIT + b'";\n',
    "identifier with a quote": b'SELECT 1 AS "a""b' + BAIT + b'";\n',
    "inserted rows": b"INSERT INTO t VALUES ('" + BAIT + b"'),\n('\\.');\n",
    "variables that are none": b"SELECT ':x', (ARRAY[1,2])[1:2], 'a'::text;\n",
    "words": b"SELECT 1 AS restrict, 2 AS unrestrict; -- \\restrict x\n",
}
for _name in [name for name, text in HARMLESS.items() if b"SELECT '" in text and "string" in name and "off" not in name]:
    HARMLESS[_name] = re.sub(rb"'touch %m'", b"''touch %m''", HARMLESS[_name]) if b"E'" not in HARMLESS[_name] else HARMLESS[_name]
