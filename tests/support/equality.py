"""Whether a restored database is equal to its source, asked in every way there is.

Equal means: pg_dump writes the same text for both (but for its random `\\restrict` keys and the order of a table's
rows, which is where each found room), every table holds
the same rows, every sequence stands at the same value, the catalogs say the same (pg_dump's text alone could
lack in both what it forgot), large objects hold the same bytes, and every index and heap is sound (the checks
of pg_amcheck, where the server has the extension amcheck).

What belongs to the database as a whole (ALTER DATABASE … SET, its owner, grants, comment) is not compared: a
plain dump does not carry it. Nor are internal triggers: pg_dump has no words for their state.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from tests.support.servers import Server

Place = tuple[Server, str]

SHOWN_LINES = 20  # of each kind of difference
SHOWN_CHARACTERS = 300

# A database may have settings of its own, which its copy lacks: nothing may depend on them.
_SETTINGS = """
SET statement_timeout = 0; SET search_path = ''; SET TimeZone = 'UTC'; SET DateStyle = 'ISO';
SET IntervalStyle = 'postgres'; SET standard_conforming_strings = on;
SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET row_security = off;
SET default_transaction_read_only = off; SET jit = off
"""

# The same for what pg_dump does not set by itself.
_DUMP_OPTIONS = "-c standard_conforming_strings=on -c bytea_output=hex -c TimeZone=UTC -c lc_monetary=C"
_CATALOGS = Path(__file__).with_name("equality.sql")
_USERS = "n.nspname !~ '^pg_(toast|temp)' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"

_ACL = """(
    SELECT array_agg(grantee ORDER BY grantee) FROM (
        SELECT format('%s<-%s %s%s', nullif(grantee, 0)::regrole, grantor::regrole, privilege_type,
                      CASE WHEN is_grantable THEN '*' END) AS grantee
        FROM aclexplode(coalesce(acl, acldefault(kind::"char", owner)))) AS exploded)"""

_RELATIONS = f"""
    SELECT format('%I.%I', nspname, relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE {_USERS} AND strpos('KINDS', relkind::text) > 0 AND NOT (relkind = 'm' AND NOT relispopulated) ORDER BY 1
"""
# pg_amcheck asks the same; it would leave the extension behind.
_AMCHECK_SCHEMA = "amcheck_of_the_tests"
_HEAPS = f"""
    SELECT c.oid::regclass || ': ' || found.msg FROM pg_class AS c, {_AMCHECK_SCHEMA}.verify_heapam(c.oid) AS found
    WHERE relkind IN ('r', 'm', 't') AND relpersistence <> 't' AND relam = (SELECT oid FROM pg_am WHERE amname = 'heap')
"""
_INDEXES = """
    SELECT c.oid, c.oid::regclass::text FROM pg_class AS c JOIN pg_am AS am ON am.oid = relam
    JOIN pg_index ON indexrelid = c.oid
    WHERE relkind = 'i' AND amname = 'btree' AND indisvalid AND relpersistence <> 't' ORDER BY 2
"""


def differences(source: Place, restored: Place) -> list[str]:
    """Given (server, database) twice, return a line for everything that differs; [] when they are equal.

    Both must be at rest. Nothing is left in either.
    """
    return [
        *_dump_differences(source, restored),
        *_state_differences(_state(source), _state(restored)),
        *unsound(restored),
    ]


def other_rows(source: Place, restored: Place) -> list[str]:
    """The same for rows and sequences alone: they are all that does not depend on the server's major version."""
    states = []
    for place in (source, restored):
        with connected(place) as session:
            states.append({"sequences": Counter(_sequences(session)), "rows": Counter(_rows(session))})
    return _state_differences(*states)


def _dump_differences(source: Place, restored: Place) -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory, name) for name in ("source", "restored")]
        with ThreadPoolExecutor() as pool:
            list(pool.map(_dump, (source, restored), files))
        lines = _differing_lines(files)
        if lines:
            for file in files:
                _sort_rows(file)
            lines = _differing_lines(files)
        return [_shown("pg_dump", line.decode(errors="backslashreplace")) for line in lines[:SHOWN_LINES]]


def _differing_lines(files: list[Path]) -> list[bytes]:
    # -I: hunks of nothing but such lines do not count.
    command = ["diff", "-a", "--speed-large-files", "-I", r"^\\\(un\)\?restrict ", *map(str, files)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as diff:
        assert diff.stdout is not None
        lines = [line for line in diff.stdout if line.startswith((b"<", b">"))]
    assert diff.returncode in (0, 1), "diff failed"
    return lines


def _sort_rows(file: Path) -> None:
    """Sort the lines between each COPY and its end."""
    unsorted = file.with_suffix(".unsorted")
    file.rename(unsorted)
    with unsorted.open("rb") as lines, file.open("wb") as output:
        for line in lines:
            output.write(line)
            if line.startswith(b"COPY ") and line.endswith(b" FROM stdin;\n"):
                output.writelines([*sorted(iter(lines.readline, b"\\.\n")), b"\\.\n"])


def _dump(place: Place, file: Path) -> None:
    server, database = place
    with connected(place) as session:
        encoding = str(session.info.parameter_status("server_encoding"))
    command = [
        "docker",
        "exec",
        "-e",
        f"PGOPTIONS={_DUMP_OPTIONS}",
        server.id,
        "pg_dump",
        "-U",
        server.user,
        "-E",
        encoding,
    ]
    command += ["-d", _conninfo(database)]
    with file.open("wb") as output:
        subprocess.run(command, stdout=output, check=True)


def _conninfo(database: str) -> str:
    return "dbname='" + database.replace("\\", "\\\\").replace("'", "\\'") + "'"


def connected(place: Place) -> psycopg.Connection:
    """A session in which every text arrives as it is, whatever the database's encoding."""
    server, database = place
    session = server.connect(database)
    # Bytes of no encoding: as LATIN1 each of them is a character, there and back.
    unknown = session.info.parameter_status("server_encoding") == "SQL_ASCII"
    session.execute(f"SET client_encoding = '{'LATIN1' if unknown else 'UTF8'}'")
    for setting in _SETTINGS.split(";"):
        session.execute(setting)
    return session


def relations(session: psycopg.Connection, kinds: str) -> list[str]:
    """The users' relations of these kinds (letters of pg_class.relkind), as COPY spells them."""
    return [name for (name,) in session.execute(_RELATIONS.replace("KINDS", kinds))]


def find_names(session: psycopg.Connection) -> None:
    """Let the functions in an index find what their text does not qualify, else no query on its table is planned."""
    path = "coalesce(string_agg(quote_ident(nspname), ', ' ORDER BY nspname), '')"
    session.execute(
        f"SELECT set_config('search_path', coalesce({path}, ''), false) FROM pg_namespace AS n WHERE {_USERS}"
    )


def _state(place: Place) -> dict[str, Counter[str]]:
    """What is compared apart from the dump: kind of thing -> lines, with how often each came."""
    with connected(place) as session:
        state = {kind: Counter(text for (text,) in session.execute(query)) for kind, query in _catalogs().items()}
        state["sequences"] = Counter(_sequences(session))
        state["rows"] = Counter(_rows(session))
        return state


def _catalogs() -> dict[str, str]:
    """The queries of equality.sql by their names."""
    text = _CATALOGS.read_text().replace("{users}", _USERS).replace("{acl}", _ACL)
    _, *named = text.split("-- name: ")
    return dict(part.split("\n", 1) for part in named)


def _sequences(session: psycopg.Connection) -> Iterator[str]:
    for name in relations(session, "S"):
        for last, called in session.execute(f"SELECT last_value, is_called FROM {name}"):
            yield f"{name}: last_value {last}, is_called {called}"


def _rows(session: psycopg.Connection) -> Iterator[str]:
    """Number and hash of the rows of every table (partitions on their own) and materialised view."""
    find_names(session)
    for name in relations(session, "rm"):
        query = f"""SELECT count(*), md5(string_agg(hash, '' ORDER BY hash))
            FROM (SELECT md5("one row of it"::text) AS hash FROM ONLY {name} AS "one row of it") AS hashed"""
        for number, digest in session.execute(query):
            yield f"{name}: {number} rows, hash {digest}"


def _state_differences(source: dict[str, Counter[str]], restored: dict[str, Counter[str]]) -> list[str]:
    lines = []
    for kind, expected in source.items():
        missing, added = expected - restored[kind], restored[kind] - expected
        lines += [_shown(kind, f"< {text}") for text in sorted(missing.elements())[:SHOWN_LINES]]
        lines += [_shown(kind, f"> {text}") for text in sorted(added.elements())[:SHOWN_LINES]]
    return lines


def _shown(kind: str, text: str) -> str:
    text = text.rstrip("\n")
    return f"{kind}: {text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + '…'}"


def unsound(place: Place) -> list[str]:
    """What the checks of pg_amcheck find in a database, every heap tuple looked up in every index.

    In a transaction that is rolled back, so that the extension is not there afterwards.
    """
    with connected(place) as session:
        if not session.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'").fetchall():
            return []
        session.execute("BEGIN")
        session.execute(f"CREATE SCHEMA {_AMCHECK_SCHEMA}")
        session.execute(f"CREATE EXTENSION amcheck SCHEMA {_AMCHECK_SCHEMA}")
        heaps = [text for (text,) in session.execute(_HEAPS)]
        found = [_shown("amcheck", text) for text in [*heaps, *_unsound_indexes(session)]]
        session.execute("ROLLBACK")
        return found


def _unsound_indexes(session: psycopg.Connection) -> Iterator[str]:
    for oid, name in session.execute(_INDEXES).fetchall():
        session.execute("SAVEPOINT before")
        try:
            session.execute(f"SELECT {_AMCHECK_SCHEMA}.bt_index_parent_check({oid}, true, true)")
        except psycopg.Error as error:
            session.execute("ROLLBACK TO before")
            yield f"{name}: {error.diag.message_primary}"
