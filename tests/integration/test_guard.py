"""The guard against psql itself: what psql would take for a command of its own never reaches it.

psql runs without its restricted mode here, which stops the same things once more and would hide what the guard misses.
"""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pgbackup.errors import BackupBad
from pgbackup.sql.guarding.guard import guarded
from pgbackup.sql.scanner import DumpScanner

from demo import servers
from tests.support import embedded
from tests.support.servers import Server

ODD_TABLES = Path(__file__).parents[1] / "unit" / "odd_tables.sql"
SIZES = (1, 1 << 20)


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
    """psql of one release. run(dump, stop=…): give it the dump, return what it printed. markers: a directory in which
    psql and the server may make files; made(): the names in it that begin with `marker-`.
    """

    major: int
    database: str
    run: Callable[..., bytes]
    markers: Path
    made: Callable[[], set[str]]


@pytest.fixture(scope="module", params=[16, 18])
def started(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    with embedded.running(["auth_user"], major=request.param) as (server,):
        server.load("odd", ODD_TABLES, 100)
        yield server


@pytest.fixture(scope="module")
def embedded_psql(started: servers.Server) -> Psql:
    program, url = str(started.installation.programs / "psql"), started.url("postgres")
    markers = started.directory / "data"

    def run(dump: bytes, *, stop: bool = True) -> bytes:
        command = [program, *_OPTIONS, "-v", f"ON_ERROR_STOP={int(stop)}", "-d", url]
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        return subprocess.run(command, input=_PREPARED + dump, env=environment, capture_output=True, check=False).stdout

    def made() -> set[str]:
        return {path.name for path in markers.glob("marker-*")}

    return Psql(int(started.installation.version.split(".")[0]), "postgres", run, markers, made)


@pytest.fixture
def psql_15(postgres_a: Server) -> Iterator[Psql]:
    markers = Path("/var/tmp/markers")

    def run(dump: bytes, *, stop: bool = True) -> bytes:
        command = ["docker", "exec", "-i", postgres_a.id, "psql", *_OPTIONS, "-v", f"ON_ERROR_STOP={int(stop)}"]
        command += ["-U", postgres_a.user, "-d", postgres_a.database]
        return subprocess.run(command, input=_PREPARED + dump, capture_output=True, check=False).stdout

    def made() -> set[str]:
        return {name for name in postgres_a.exec(["ls", str(markers)]).stdout.split() if name.startswith("marker-")}

    postgres_a.exec(["mkdir", "-m", "777", str(markers)])
    yield Psql(postgres_a.major, postgres_a.database, run, markers, made)
    postgres_a.exec(["rm", "-r", str(markers)])


def each(psql: Psql, dumps: list[bytes], *, stop: bool) -> list[bytes]:
    """What psql prints for each of the dumps; a few at once."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda dump: psql.run(dump, stop=stop), dumps))


# --- hostile dumps ------------------------------------------------------------------------------------------

OFF = b"SET standard_conforming_strings = off;\n"
QUOTED = b"SELECT '\\'' \\! touch %m\n --';\n"
UNQUOTED = b"SELECT '\\' \\! touch %m\n --';\n"
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
    "input": b"\\i %m\n",
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
    "escape string by the setting": OFF + QUOTED,
    "setting in a call": b"SELECT set_config('standard_conforming_strings', 'off', false);\n" + QUOTED,
    "setting of a transaction": b"BEGIN;\nSET LOCAL standard_conforming_strings = off;\n" + QUOTED,
    "setting taken back": b"BEGIN;\n" + OFF + b"ROLLBACK;\n" + UNQUOTED,
    "setting reset": OFF + b"RESET ALL;\n" + UNQUOTED,
    "half a character": SJIS + b"SELECT '\x81' ' \\! touch %m\n --';\n",
    "NUL in data": DATA + b"abc\0\n\\.\nSELECT 'a\n\\.\n\\! touch %m\n';\n",
    "NUL in SQL": b"SELECT \0'\n \\! touch %m\n';\n",
    "number and E": b"SELECT 1.E'\\' \\! touch %m\n --';\n",
    "routine that is none": b'CREATE "x" FUNCTION f BEGIN; COPY t FROM stdin;\n\\! touch %m\n\\.\n',
    "routine behind a string": b"'' CREATE FUNCTION f BEGIN; COPY t FROM stdin;\n\\! touch %m\n\\.\n",
    "routine behind a variable": b"CREATE :{?x} FUNCTION f BEGIN; COPY t FROM stdin;\n\\! touch %m\n\\.\n",
    "server's program, to": b"COPY (SELECT 1) TO PROGRAM 'touch %m';\n",
    "server's program, from": b"COPY t FROM PROGRAM 'touch %m';\n",
    "server's program without end": b"SELECT 1;\nCOPY t FROM PROGRAM 'touch %m'",
    "server's program by a name": b"CREATE SCHEMA \"from\"; CREATE TABLE \"from\".stdin (a text);\n"
    b"COPY %d.from.stdin FROM PROGRAM 'touch %m'; DROP SCHEMA \"from\" CASCADE;\n",
    "server's program in a body": b"CREATE FUNCTION pg_temp.begin() RETURNS int RETURN 1;"
    b" COPY (SELECT 1) TO PROGRAM 'touch %m'; SELECT 1 AS end;\n",
    "server's file": b"COPY (SELECT 1) TO '%m';\n",
}  # fmt: skip
# Refused, too, but nothing that can be seen comes of them, or not in every release.
QUIET = {
    "connect": b"\\connect postgres\n",
    "restrict twice at once": b"\\restrict K\n\\restrict K\n",
    "unrestrict with backquotes": b"\\restrict K\n\\unrestrict `touch %m`\n",
    "wrong key": b"\\restrict K\nSELECT 1;\n\\unrestrict L\n\\! touch %m\n",
    "setenv": b"\\setenv PAGER 'touch %m'\n",
    "variable that exists": b"SELECT :DBNAME \\! touch %m\n",
    "variable in a string": b"\\set x `touch %m`\nSELECT :'x';\n",
    "hexadecimal number and E": b"SELECT 0xE'\\' \\! touch %m\n --';\n",
    "dollar quote behind a number": b"SELECT 1.a$b$ ' $b$ \\! touch %m\n --';\n",
    "dollar quote that is not closed": b"DO $tag$ BEGIN END;\n\\! touch %m\n",
    "routine in parentheses": b"CREATE (function) f BEGIN; COPY t FROM stdin;\n\\! touch %m\n\\.\n",
    "server's settings": b"ALTER SYSTEM SET archive_command = 'touch %m';\n",
    "server's library": b"LOAD '%m';\n",
    "other database": b"DROP DATABASE IF EXISTS nobodys;\n",
}


@pytest.mark.fault(39, "dumps that would make psql run programs, read files or change other databases")
def test_a_hostile_dump_is_refused_before_psql_sees_the_line(embedded_psql: Psql) -> None:
    survives_the_guard(embedded_psql)


@pytest.mark.fault(39, "dumps that would make psql run programs, read files or change other databases")
def test_psql_15_is_safe_from_the_same_dumps(psql_15: Psql) -> None:
    survives_the_guard(psql_15)


def survives_the_guard(psql: Psql) -> None:
    """Every hostile dump through the guard into psql, which then comes to the end of its input; no marker is made.

    Then the test of the test: without the guard each one that can makes its marker.
    """
    dumps, paths = {}, {}
    for name, dump in {**HOSTILE, **QUIET}.items():
        paths[name] = psql.markers / f"marker-{secrets.token_hex(8)}"
        dumps[name] = dump.replace(b"%m", bytes(paths[name])).replace(b"%d", psql.database.encode())
    included = psql.markers / f"included-{secrets.token_hex(8)}"
    dumps["input"] = b"\\i %b\n" % bytes(included)
    psql.run(b"COPY (SELECT $$COPY (SELECT 1) TO '%b';$$) TO '%b';\n" % (bytes(paths["input"]), bytes(included)))
    let_through = set()
    for name, dump in dumps.items():
        for size in SIZES:
            out, refused = passed(dump, size)
            assert refused, name
            assert bytes(paths[name]) not in out, name
            let_through.add(out)
    before = psql.made()
    each(psql, sorted(let_through), stop=False)
    assert psql.made() == before
    each(psql, [dumps[name] for name in HOSTILE], stop=False)
    made = psql.made()
    harmless = {name for name in HOSTILE if paths[name].name not in made}
    assert harmless == set(), f"these do no harm in psql {psql.major} and prove nothing"


# --- look-alikes --------------------------------------------------------------------------------------------

BAIT = b"\n\\! touch %m\n\\g |touch %m\n\\o |touch %m\n"
DOUBLED = BAIT.replace(b"\\", b"\\\\")
FUNCTION = b"CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql "
HARMLESS = {
    "row": DATA + BAIT[1:] + b"\\.\n",
    "row of csv": b"COPY t FROM stdin (FORMAT csv, DELIMITER '~');" + BAIT + b"\\.\n",
    "row with CRLF": DATA + DOUBLED.replace(b"\n", b"\\r\n") + b"\\.\n",
    "rows of quotes": DATA + b"'\n\"\n$$\n/*\n--\n(\n\\.\nSELECT 1;\n",
    "rows of two tables": DATA + b"1\n\\.\n\n" + DATA + BAIT[1:] + b"\\.\n",
    "function": FUNCTION + b"AS $_$ SELECT $$" + BAIT + b"$$ $_$;\n",
    "function in quotes": FUNCTION + b"AS ' SELECT ''" + BAIT + b"'' ';\n",
    "function of SQL": b"CREATE FUNCTION pg_temp.f() RETURNS text BEGIN ATOMIC SELECT '" + BAIT + b"'; END;\n",
    "string": b"SELECT '" + BAIT + b"';\n",
    "string with quotes": b"SELECT 'it''s ''" + BAIT + b"''';\n",
    "string behind a backslash": b"SELECT 'C:\\', '" + BAIT + b"';\n",
    "escape string": b"SELECT E'\\'" + BAIT + b"\\\\';\n",
    "string with the setting off": b"SET standard_conforming_strings = off;\nSELECT '\\'" + BAIT + b"\\\\';\n",
    "string with Unicode": b"SELECT U&'\\0041" + DOUBLED + b"';\n",
    "line comments": BAIT.replace(b"\n", b"\n--") + b"\n",
    "block comment": b"/*" + BAIT + b"*/\n",
    "nested comment": b"/* ' /* */ $$ \"" + BAIT + b"*/\n",
    "identifier": b'SELECT 1 AS "' + BAIT + b'";\n',
    "identifier with a quote": b'SELECT 1 AS "a""b' + BAIT + b'";\n',
    "inserted rows": b"INSERT INTO t VALUES ('" + BAIT + b"'),\n('\\.');\n",
    "words": b"SELECT 1 AS restrict, 2 AS unrestrict, (ARRAY[1,2])[1:2], ':x'; -- \\restrict x\n",
    "statements": b"SELECT 'COPY t FROM PROGRAM'; /* DROP DATABASE x; */ SELECT 1 AS load;\n",
}


@pytest.mark.fault(40, "dumps whose data look like such commands")
def test_look_alikes_come_through_to_the_byte_and_do_no_harm(embedded_psql: Psql) -> None:
    before = embedded_psql.made()
    for name, text in HARMLESS.items():
        dump = text.replace(b"%m", bytes(embedded_psql.markers / f"marker-{secrets.token_hex(8)}"))
        for size in SIZES:
            assert passed(dump, size) == (dump, ""), name
        # The last line shows that psql came there without an error.
        assert embedded_psql.run(dump + b"\\echo arrived\n") == b"arrived\n", name
    assert embedded_psql.made() == before


# --- whatever psql would take for a command -----------------------------------------------------------------

MARK = b"\\echo MARK\n"
SOUP = [
    *(bytes([byte]) for byte in b"'\"\\;$:()-/*&eEuUbxXnN1_ .,[]{}?@+%<=|~^`\r\f\v\n\n\n   "),
    *(b"\xc3\xa9", b"\xff", b"''", b'""', b"$$", b"$a$", b"--", b"/*", b"*/", b"::", b":e", b":'a'", b':"a"', b":{?a}"),
    *(b"E'", b"u&'", b'U&"', b"\\'", b"B'", b"a$", b"\\;", b"\r\n", b"create ", b"function ", b"begin ", b"end "),
]  # fmt: skip
WHOLE = [
    *(b"'a'", b"'a''b'", b"E'a\\'b'", b"'\\'", b'"a""b"', b"$$a$$", b"$a$ $$ $a$", b"/* /* */ */", b"-- a\n", b"(1)"),
    *(b"U&'\\0041'", b"B'1'", b"SELECT 1;\n", b"SELECT 1; ", b"DO $x$BEGIN END$x$;\n", b";\n", b"(", b")", b"\n", b" "),
    *(quote + b"\n" + MARK + end for quote, end in ((b"'", b"';"), (b'"', b'"'), (b"$$", b"$$"), (b"/*", b"*/"))),
    *(b"SET standard_conforming_strings = off;\n", b"SET standard_conforming_strings = on;", MARK, MARK, b"\n" + MARK),
]  # fmt: skip
COPIES = [
    *(DATA, DATA, b"COPY t FROM stdin; ", b"COPY t (a) FROM stdin WITH (FORMAT csv);\n", b"\\.\n", b"\\.\n"),
    *(b"\n\\.\n", b"\\.\r\n", b"\\. \n", b"x\\.\n", b"a" * 8185 + b"\n", b"a" * 8190, b"\\.", b"'\n", b"/*\n", b"*/\n"),
]  # fmt: skip
NUMBERS = [b"1", b"1.", b".5", b"0x", b"0x1", b"1e", b"1e5", b"1E+", b"1_", b"$1", b"1..", b"a1", b"a1.", b"x.", b":a"]
LETTERS = [b"", b"e", b"E", b"a", b"ae", b"xE", b"U&", b"u", b"b", b"X", b"N", b"_e", b"a$", b"b$", b"1", b".", b"e5"]
OPENED = [b"'\\'", b"'", b"$a$", b"$a$ ' $a$", b"''", b'"', b"$$", b"'a'", b"&'", b" '\\'", b"$"]
CLOSED = [b"", b"--'\n", b"'", b"$a$", b"$$", b'"', b"' " + MARK]
WEIRD = [
    *([b""] * 30),
    *(b'"x" ', b"'x' ", b"E'\\'' ", b"(function) ", b":{?x} ", b":x ", b":'x' ", b"1a ", b"1 ", b"$1a ", b"$$ $$ "),
    *(b'u&"x" ', b"N'' ", b"/* c */ ", b"-- c\n", b"a.", b"a ", b"1.", b"1e", b"0x", b"b'' ", b"begin "),
    *(b"end ", b"or ", b"BEGIN ATOMIC ", b".begin ", b'"x"begin ', b"U&begin "),
]  # fmt: skip
ROUTINES = [
    [start, *more, kind, b"f() ", *body]
    for start in (b"CREATE ", b"SELECT 1; create ")
    for more in ([], [b"OR ", b"REPLACE "])
    for kind in (b"FUNCTION ", b"PROCEDURE ", b"TABLE ")
    for body in ([b"BEGIN "], [b"BEGIN ", b"CASE ", b"END "], [b"(BEGIN) "], [b"BEGIN ", b"SELECT 1; ", b"END "])
]
TAILS = [
    b";\n" + DATA + MARK + b"\\.\n",
    b"; SELECT 1; " + DATA + MARK + b"\\.\n",
    b";" + DATA + b"/*\n\\.\n" + MARK + b"*/",
]


def joined(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


def several(texts: list[bytes], most: int) -> st.SearchStrategy[bytes]:
    # Not sampled_from: Hypothesis would print the long ones whenever it names the strategy.
    one = st.integers(0, len(texts) - 1).map(lambda at: texts[at])
    return st.lists(one, min_size=1, max_size=most).map(b"".join)


def with_weird(words: list[bytes]) -> st.SearchStrategy[bytes]:
    between = st.lists(st.sampled_from(WEIRD), min_size=len(words) + 1, max_size=len(words) + 1)
    return between.map(lambda weird: weird[0] + b"".join(a + b for a, b in zip(words, weird[1:], strict=True)))


ENDS = st.sampled_from([b"", MARK, b" " + MARK, b"\n" + MARK, b"\n';" + MARK, b"\n\\.\n" + MARK])
TEXTS = st.one_of(
    joined(several(SOUP + WHOLE, 14), ENDS),
    joined(several(WHOLE, 12), ENDS),
    joined(several(WHOLE + COPIES * 3, 12), ENDS),
    joined(
        st.sampled_from([b"SELECT ", b"SELECT (", b""]),
        *(st.sampled_from(texts) for texts in (NUMBERS, LETTERS, OPENED)),
        st.sampled_from([b" " + MARK, b"\n" + MARK]),
        st.sampled_from(CLOSED),
    ),
    joined(st.sampled_from(ROUTINES).flatmap(with_weird), st.sampled_from(TAILS)),
)


_UP_TO_THE_SERVER = re.compile(rb"SET|\A(?!.*f\(\) ).*COPY", re.DOTALL)


def obeyed(psql: Psql, texts: list[bytes]) -> list[bool]:
    """For each text, whether psql takes a MARK in it for a command of its own.

    Where COPY begins its data and SET its effect is the server's word, so there psql stops at the first error, as in
    a restore. All others go on, for how they are read does not depend on it.
    """
    found: dict[bytes, bytes] = {}
    for stop in (True, False):
        chosen = [text for text in texts if stop == (_UP_TO_THE_SERVER.search(text) is not None)]
        found |= dict(zip(chosen, each(psql, chosen, stop=stop), strict=True))
    return [b"MARK" in found[text] for text in texts]


def fuzz(psql: Psql, batches: int, survived: Callable[..., None]) -> None:
    """Twenty texts at once, for it takes a while to start psql."""
    seen = [0]

    @settings(max_examples=batches, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(st.lists(TEXTS, min_size=20, max_size=20, unique=True))
    def run(texts: list[bytes]) -> None:
        results = [passed(text, 40) for text in texts]
        commands = obeyed(psql, texts)
        for text, (out, refused), command in zip(texts, results, commands, strict=True):
            assert refused or out != text or not command, (
                f"psql {psql.major} obeys, and the guard lets through: {text!r}"
            )
        changed = [out for text, (out, refused) in zip(texts, results, strict=True) if not refused and out != text]
        assert not any(obeyed(psql, changed)), f"psql {psql.major} obeys what the guard made: {changed!r}"
        some = [out for out, refused in results if refused and b"MARK" in out]
        assert not any(obeyed(psql, some)), f"psql {psql.major} obeys what came out before: {some!r}"
        seen[0] += sum(commands)
        survived(39, f"generated dumps against psql {psql.major}", len(texts))

    run()
    assert seen[0] > batches, "too few of the texts make psql obey to prove anything"


def test_whatever_psql_takes_for_a_command_the_guard_refuses(
    embedded_psql: Psql, tries: Callable[[int, int], int], survived: Callable[..., None], expected: Callable[..., None]
) -> None:
    batches = tries(10, 500)
    expected(39, f"generated dumps against psql {embedded_psql.major}", batches * 20)
    fuzz(embedded_psql, batches, survived)


def test_whatever_psql_15_takes_for_a_command_the_guard_refuses(
    psql_15: Psql, tries: Callable[[int, int], int], survived: Callable[..., None], expected: Callable[..., None]
) -> None:
    batches = tries(3, 100)
    expected(39, f"generated dumps against psql {psql_15.major}", batches * 20)
    fuzz(psql_15, batches, survived)


# --- real dumps ---------------------------------------------------------------------------------------------

OWN_LINES = re.compile(rb"^\\(?:un)?restrict \w+$", re.MULTILINE)
OPTIONS = [(), ("--inserts",), ("--use-set-session-authorization",)]


def comes_through(dump: bytes, sizes: tuple[int, ...]) -> None:
    # The table's comments hold such lines, too.
    own = [found.span() for found in OWN_LINES.finditer(dump)]
    expected = dump[: own[0][0]] + dump[own[0][1] : own[-1][0]] + dump[own[-1][1] :]
    for size in sizes:
        assert passed(dump, size) == (expected, "")


@pytest.mark.parametrize("options", OPTIONS)
def test_a_real_dump_comes_through_to_the_byte(started: servers.Server, options: tuple[str, ...]) -> None:
    command = [str(started.installation.programs / "pg_dump"), *options, "--dbname", started.url("odd")]
    dump = subprocess.run(command, capture_output=True, check=True).stdout
    comes_through(dump, (1000,) if options else (100, 1000, 1 << 20))


def test_a_real_dump_of_postgresql_15_comes_through_to_the_byte(postgres_a: Server) -> None:
    postgres_a.psql("-c", "CREATE DATABASE odd")
    try:
        postgres_a.psql("-v", "rows=100", "-f", "-", database="odd", stdin=ODD_TABLES.read_bytes())
        command = ["docker", "exec", postgres_a.id, "pg_dump", "-U", postgres_a.user, "odd"]
        comes_through(subprocess.run(command, capture_output=True, check=True).stdout, (1000, 1 << 20))
    finally:
        postgres_a.psql("-c", "DROP DATABASE odd")


def test_a_dump_that_makes_its_database_comes_through_without_what_would_drop_it(started: servers.Server) -> None:
    """pg_dump --clean --create begins with DROP DATABASE, long before its \\connect."""
    command = [str(started.installation.programs / "pg_dump"), "--clean", "--create", "--dbname", started.url("odd")]
    dump = subprocess.run(command, capture_output=True, check=True).stdout
    plain = subprocess.run([*command[:1], *command[3:]], capture_output=True, check=True).stdout
    rows = re.compile(rb"^COPY .*?^\\\.$", re.MULTILINE | re.DOTALL)
    for size in (100, 1 << 20):
        out, refused = passed(dump, size)
        assert not refused
        assert b"DATABASE odd;" not in out
        assert b"\n\\connect" not in out
        assert rows.findall(out) == rows.findall(plain)
