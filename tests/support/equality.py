"""Whether a restored database is equal to its source, asked in every way there is.

Equal means: pg_dump writes the same text for both (but for its random `\\restrict` keys), every table holds
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
SET search_path = ''; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres';
SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET row_security = off;
SET default_transaction_read_only = off; SET jit = off
"""

_USERS = "n.nspname !~ '^pg_(toast|temp)' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"

# Each query gives texts, names instead of numbers in them. Both databases must give the same, in any order.
# {acl} is replaced by the expression below: an absent ACL and the default one spelled out are the same thing.
_CATALOGS = {
    "owners, grants and policies' roles": """
        SELECT format('%s: %s %s', pg_describe_object(classid, objid, objsubid), deptype, refobjid::regrole)
        FROM pg_shdepend WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND refclassid = 'pg_authid'::regclass""",
    "grants": """
        SELECT format('%s: %s', what, {acl}) FROM (
            SELECT pg_describe_object('pg_class'::regclass, oid, 0) AS what, relacl AS acl, relowner AS owner,
                   CASE relkind WHEN 'S' THEN 's' ELSE 'r' END AS kind FROM pg_class
            UNION ALL SELECT pg_describe_object('pg_class'::regclass, attrelid, attnum), attacl, relowner, 'c'
                FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE attacl IS NOT NULL AND NOT attisdropped
            UNION ALL SELECT pg_describe_object('pg_namespace'::regclass, oid, 0), nspacl, nspowner, 'n' FROM pg_namespace
            UNION ALL SELECT pg_describe_object('pg_proc'::regclass, oid, 0), proacl, proowner, 'f' FROM pg_proc
            UNION ALL SELECT pg_describe_object('pg_type'::regclass, oid, 0), typacl, typowner, 'T' FROM pg_type
                WHERE typacl IS NOT NULL
            UNION ALL SELECT pg_describe_object('pg_language'::regclass, oid, 0), lanacl, lanowner, 'l' FROM pg_language
            UNION ALL SELECT pg_describe_object('pg_foreign_server'::regclass, oid, 0), srvacl, srvowner, 'S'
                FROM pg_foreign_server
            UNION ALL SELECT pg_describe_object('pg_foreign_data_wrapper'::regclass, oid, 0), fdwacl, fdwowner, 'F'
                FROM pg_foreign_data_wrapper
        ) AS granted WHERE what !~ '^(toast table|index|view information_schema)'""",
    "default privileges": """
        SELECT format('%s %s %s: %s', defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype,
                      (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(defaclacl) AS a)) FROM pg_default_acl""",
    "large objects": """
        SELECT format('%s: owner %s, %s, %s', m.oid, lomowner::regrole, {acl}, md5(lo_get(m.oid)))
        FROM (SELECT oid, lomowner, lomacl AS acl, lomowner AS owner, 'L' AS kind FROM pg_largeobject_metadata) AS m""",
    "comments": """
        SELECT format('%s: %L', pg_describe_object(classoid, objoid, objsubid), description) FROM pg_description""",
    "security labels": "SELECT format('%s %s: %s %L', objtype, objname, provider, label) FROM pg_seclabels",
    "triggers": """
        SELECT format('%s on %s: enabled %s, %s', tgname, tgrelid::regclass, tgenabled, pg_get_triggerdef(oid))
        FROM pg_trigger WHERE NOT tgisinternal""",
    "event triggers": """
        SELECT format('%s: enabled %s, on %s %s, %s, owner %s', evtname, evtenabled, evtevent, evttags, evtfoid::regproc,
                      evtowner::regrole) FROM pg_event_trigger""",
    "rules": """
        SELECT format('%s on %s: enabled %s, %s', rulename, ev_class::regclass, ev_enabled, pg_get_ruledef(r.oid))
        FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = ev_class JOIN pg_namespace AS n ON n.oid = relnamespace
        WHERE {users}""",
    "policies": "SELECT p::text FROM pg_policies AS p",
    "publications": """
        SELECT (to_jsonb(p) - 'oid' - 'pubowner')::text || pubowner::regrole FROM pg_publication AS p
        UNION ALL SELECT format('%s: %s', pg_describe_object('pg_publication_rel'::regclass, oid, 0),
            concat_ws(' ', prattrs::text, pg_get_expr(prqual, prrelid))) FROM pg_publication_rel
        UNION ALL SELECT pg_describe_object('pg_publication_namespace'::regclass, oid, 0) FROM pg_publication_namespace""",
    "extended statistics": """
        SELECT format('%s: target %s, %s', stxname, stxstattarget, pg_get_statisticsobjdef(oid))
        FROM pg_statistic_ext""",
    "extensions": """
        SELECT format('%s %s in %s, filters %s', extname, extversion, extnamespace::regnamespace, extcondition)
        FROM pg_extension
        UNION ALL SELECT format('%s: %s', pg_describe_object(refclassid, refobjid, 0), pg_describe_object(classid, objid, objsubid))
        FROM pg_depend WHERE deptype IN ('e', 'x')""",
    "relations": """
        SELECT format('%s: %s %s, replica identity %s, row security %s %s, options %s %s, %s, tablespace %s, partition %s of %s',
            c.oid::regclass, c.relkind, c.relpersistence, c.relreplident, c.relrowsecurity, c.relforcerowsecurity, c.reloptions,
            t.reloptions, am.amname, (SELECT spcname FROM pg_tablespace WHERE oid = c.reltablespace),
            pg_get_expr(c.relpartbound, c.oid), (SELECT array_agg(inhparent::regclass ORDER BY inhseqno) FROM pg_inherits
                                                 WHERE inhrelid = c.oid))
            || concat(', populated ', c.relispopulated, ', partitioned by ', pg_get_partkeydef(c.oid))
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid
        LEFT JOIN pg_am AS am ON am.oid = c.relam WHERE {users}""",
    "columns": """
        SELECT format('%s %s %s: %s %s, not null %s, default %s, identity %s, generated %s, %s',
            attrelid::regclass, row_number() OVER (PARTITION BY attrelid ORDER BY attnum), attname,
            format_type(atttypid, atttypmod), attcollation::regcollation, attnotnull,
            pg_get_expr(adbin, adrelid), attidentity, attgenerated,
            concat_ws(' ', attstorage, attcompression, nullif(attstattarget, -1), attoptions, attfdwoptions, attislocal, attinhcount))
        FROM pg_attribute AS a LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        JOIN pg_class AS c ON c.oid = attrelid JOIN pg_namespace AS n ON n.oid = relnamespace
        WHERE {users} AND attnum > 0 AND NOT attisdropped""",
    "indexes": """
        SELECT format('%s: %s, valid %s, clustered %s, replica identity %s, part of %s, statistics %s', indexrelid::regclass,
            pg_get_indexdef(indexrelid), indisvalid, indisclustered, indisreplident,
            (SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = indexrelid),
            (SELECT array_agg(attstattarget ORDER BY attnum) FROM pg_attribute WHERE attrelid = indexrelid))
        FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid JOIN pg_namespace AS n ON n.oid = relnamespace WHERE {users}""",
    "constraints": """
        SELECT format('%s on %s %s: %s, validated %s, local %s, inherited %s', conname, nullif(conrelid, 0)::regclass,
            nullif(contypid, 0)::regtype, pg_get_constraintdef(k.oid), convalidated, conislocal, coninhcount)
        FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = connamespace WHERE {users} AND contype <> 't'""",
    "functions": """
        SELECT format('%s: %s', p.oid::regprocedure, (to_jsonb(p) - '{{oid,pronamespace,proowner,prolang,proacl,prosqlbody,proargdefaults,
            prorettype,proargtypes,proallargtypes,provariadic,protrftypes,prosupport}}'::text[])::text
            || md5(pg_get_function_result(p.oid) || pg_get_function_arguments(p.oid) || coalesce(pg_get_function_sqlbody(p.oid), '')))
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace WHERE {users} AND prokind <> 'a'""",
    "enums": "SELECT format('%s %s', enumtypid::regtype, array_agg(enumlabel ORDER BY enumsortorder)) FROM pg_enum GROUP BY enumtypid",
}
_ACL = """(SELECT array_agg(format('%s<-%s %s%s', nullif(grantee, 0)::regrole, grantor::regrole, privilege_type,
    CASE WHEN is_grantable THEN '*' ELSE '' END) ORDER BY nullif(grantee, 0)::regrole::text, grantor::regrole::text, privilege_type)
    FROM aclexplode(coalesce(acl, acldefault(kind::"char", owner))))"""

_RELATIONS = f"""
    SELECT format('%I.%I', nspname, relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE {_USERS} AND relkind = ANY (%s::"char"[]) AND NOT (relkind = 'm' AND NOT relispopulated) ORDER BY 1
"""
_INSTALL_AMCHECK = "BEGIN; CREATE SCHEMA {0}; CREATE EXTENSION amcheck SCHEMA {0}"
_AMCHECK = """
    SELECT c.oid::regclass || ': ' || found.msg FROM pg_class AS c, LATERAL {0}.verify_heapam(c.oid) AS found
    WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't' AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'heap');
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


def _dump_differences(source: Place, restored: Place) -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory, name) for name in ("source", "restored")]
        with ThreadPoolExecutor() as pool:
            list(pool.map(_dump, (source, restored), files))
        # -I: hunks of nothing but such lines do not count.
        command = ["diff", "-a", "--speed-large-files", "-I", r"^\\\(un\)\?restrict ", *map(str, files)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as diff:
            assert diff.stdout is not None
            lines = [line for line in diff.stdout if line.startswith((b"<", b">"))]
        assert diff.returncode in (0, 1), "diff failed"
        return [_shown("pg_dump", line.decode(errors="backslashreplace")) for line in lines[:SHOWN_LINES]]


def _dump(place: Place, file: Path) -> None:
    server, database = place
    command = ["docker", "exec", server.id, "pg_dump", "-U", server.user, "-d", _conninfo(database)]
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
        session.execute(setting.encode())
    return session


def relations(session: psycopg.Connection, kinds: str) -> list[str]:
    """The users' relations of these kinds (letters of pg_class.relkind), as COPY spells them."""
    return [name for (name,) in session.execute(_RELATIONS, [list(kinds)])]


def _state(place: Place) -> dict[str, Counter[str]]:
    """What is compared apart from the dump: kind of thing -> lines, with how often each came."""
    with connected(place) as session:
        state = {
            kind: Counter(text for (text,) in session.execute(_filled(query).encode()))
            for kind, query in _CATALOGS.items()
        }
        state["sequences"] = Counter(_sequences(session))
        state["rows"] = Counter(_rows(session))
        return state


def _filled(query: str) -> str:
    return query.format(acl=_ACL, users=_USERS)


def _sequences(session: psycopg.Connection) -> Iterator[str]:
    for name in relations(session, "S"):
        for value in session.execute(f"SELECT last_value, is_called FROM {name}".encode()):
            yield f"{name}: last_value %s, is_called %s" % value


def _rows(session: psycopg.Connection) -> Iterator[str]:
    """Number and hash of the rows of every table (partitions on their own) and materialised view."""
    for name in relations(session, "rm"):
        query = f"""SELECT count(*), md5(string_agg(hash, '' ORDER BY hash))
            FROM (SELECT md5("one row of it"::text) AS hash FROM ONLY {name} AS "one row of it") AS hashed"""
        for value in session.execute(query.encode()):
            yield f"{name}: %s rows, hash %s" % value


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
        if not session.execute("SELECT FROM pg_available_extensions WHERE name = 'amcheck'").fetchall():
            return []
        schema = "amcheck_of_the_tests"
        try:
            for statement in _INSTALL_AMCHECK.format(schema).split(";"):
                session.execute(statement.encode())
            found = [text for (text,) in session.execute(_AMCHECK.format(schema).encode())]
            return [_shown("amcheck", text) for text in [*found, *_unsound_indexes(session, schema)]]
        finally:
            session.execute("ROLLBACK")


def _unsound_indexes(session: psycopg.Connection, schema: str) -> Iterator[str]:
    indexes = session.execute("""
        SELECT c.oid, c.oid::regclass::text FROM pg_class AS c JOIN pg_am AS am ON am.oid = relam
        JOIN pg_index ON indexrelid = c.oid WHERE relkind = 'i' AND amname = 'btree' AND indisvalid
          AND relpersistence <> 't' ORDER BY 2""").fetchall()
    for oid, name in indexes:
        session.execute("SAVEPOINT before")
        try:
            session.execute(f"SELECT {schema}.bt_index_parent_check({oid}, true, true)".encode())
        except psycopg.Error as error:
            session.execute("ROLLBACK TO before")
            yield f"{name}: {error.diag.message_primary}"
