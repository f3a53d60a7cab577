"""The database that a backup is loaded into beside the live one: made, compared, given the live one's properties."""

from __future__ import annotations

import re
from typing import Any

from pgbackup.database.client import Client
from pgbackup.database.naming import identifier, literal, parts

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


def create_sql(name: str, server: dict[str, Any], major: int) -> str:
    """Return the statement that makes an empty database with encoding and locale as `server` has them. Pure.

    server: what facts.gather() says of a database, the manifest's `server`. From template0, as the manual (23.3
    Template Databases) asks for other encodings and locales. major: of the server that it is made on.
    """
    found = server.get("database", {})
    words = [f"CREATE DATABASE {identifier(name)} TEMPLATE template0"]
    if server.get("encoding"):
        words.append(f"ENCODING {literal(server['encoding'])}")
    for option, key in (("LC_COLLATE", "datcollate"), ("LC_CTYPE", "datctype")):
        if found.get(key):
            words.append(f"{option} {literal(found[key])}")
    provider = _PROVIDERS.get(found.get("datlocprovider") or "c", "libc")
    locale = found.get("datlocale") or found.get("daticulocale")
    if major >= 15 and provider != "libc":
        words.append(f"LOCALE_PROVIDER {provider}")
        if locale:
            words.append(f"{'ICU_LOCALE' if provider == 'icu' else 'BUILTIN_LOCALE'} {literal(locale)}")
        if found.get("daticurules") and major >= 16:
            words.append(f"ICU_RULES {literal(found['daticurules'])}")
    return " ".join(words)


def probe_locale(client: Client, server: dict[str, Any]) -> None:
    """Let the server look for the locale of `server`. Raise SuiteError when it does not like it; nothing is made."""
    found = server.get("database", {})
    words = [
        f"{option} = {literal(found[key])}"
        for option, key in (("LC_COLLATE", "datcollate"), ("LC_CTYPE", "datctype"))
        if found.get(key)
    ]
    if len(words) == 2:
        sql = f"BEGIN; CREATE COLLATION pg_temp.probe ({', '.join(words)}); ROLLBACK"
        client.server_query(sql)


def create(client: Client, name: str, sql: str) -> None:
    """Run create_sql()'s statement."""
    client.server_query(sql)


# The server itself puts the names into the counting queries, so that no name has to survive a change of encoding;
# they come back in the database's own encoding, as the reader of the dump has seen them. And whether the table
# belongs to an extension, which may have filled it before the dump did. Nothing is written on the way: a setting
# of the session carries the answer from the block to the last statement.
_COUNTS = """
DO $counts$
DECLARE
  encoding text := (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database());
  one record;
  rows bigint;
  told text[] := '{}';
BEGIN
  FOR one IN
    SELECT nspname, relname, EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass
                                     AND objid = c.oid AND deptype = 'e') AS of_extension
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
  LOOP
    EXECUTE format('SELECT count(*) FROM ONLY %I.%I', one.nspname, one.relname) INTO rows;
    told := told || concat_ws('|', encode(convert_to(one.nspname, encoding), 'hex'),
                              encode(convert_to(one.relname, encoding), 'hex'), one.of_extension, rows);
  END LOOP;
  PERFORM set_config('pgbackup.counts', array_to_string(told, E'\\n'), false);
END $counts$;
SELECT current_setting('pgbackup.counts')
"""


def count_rows(client: Client, database: str, tables: set[str], seconds: float) -> tuple[dict[str, int], set[str]]:
    """Count, in `database`, the rows of those tables that are there; names as the dump's COPY spells them.

    The second value: those of them that belong to extensions. seconds: the limit for all of it.
    """
    wanted = {parts(name): name for name in tables}
    counts, of_extensions = {}, set()
    for line in client.query(_COUNTS, database=database, seconds=seconds).splitlines():
        schema, table, of_extension, count = line.split("|")
        found = tuple(bytes.fromhex(name).decode("utf-8", "backslashreplace") for name in (schema, table))
        if found in wanted:
            counts[wanted[found]] = int(count)
            of_extensions |= {wanted[found]} if of_extension == "t" else set()
    return counts, of_extensions


def analyze(client: Client, database: str, seconds: float) -> None:
    """Give the planner its statistics before anybody asks: a dump has none."""
    client.query("ANALYZE", database=database, seconds=seconds)


def property_sql(name: str, server: dict[str, Any]) -> list[str]:
    """Return statements that put back what pg_dump without --create leaves out. Pure.

    Owner, connection limit, comment, ALTER DATABASE/ROLE … SET and privileges: of the database `name`, as `server`
    (facts.gather(), the manifest) has them. Every name and value is quoted: a manifest may come from anywhere.
    """
    database = identifier(name)
    found = server.get("database", {})
    statements = [f"ALTER DATABASE {database} OWNER TO {identifier(server['owner'])}"] if server.get("owner") else []
    limit = found.get("datconnlimit")
    if isinstance(limit, int) and limit >= -1:
        statements.append(f"ALTER DATABASE {database} CONNECTION LIMIT {limit}")
    if isinstance(server.get("comment"), str):
        statements.append(f"COMMENT ON DATABASE {database} IS {literal(server['comment'])}")
    for entry in server.get("settings") or []:
        role = entry.get("role")
        subject = f"ROLE {identifier(role)} IN DATABASE {database}" if role else f"DATABASE {database}"
        for word in entry.get("settings") or []:
            key, _, value = str(word).partition("=")
            statements.append(f"ALTER {subject} SET {_setting(key)} TO {_value(key, value)}")
    if isinstance(server.get("acl"), str):
        statements += [f"REVOKE ALL ON DATABASE {database} FROM PUBLIC", _grants(name, server["acl"])]
    return statements


# Settings that hold a list are written down as a list and must be set as one (manual, ALTER DATABASE; GUC_LIST_QUOTE).
_LISTS = {
    "search_path",
    "temp_tablespaces",
    "session_preload_libraries",
    "local_preload_libraries",
    "shared_preload_libraries",
    "unix_socket_directories",
}


def _setting(key: str) -> str:
    return ".".join(identifier(part) for part in key.split("."))


def _value(key: str, value: str) -> str:
    if key.lower() not in _LISTS:
        return literal(value)
    words = re.findall(r'\s*(?:"((?:[^"]|"")*)"|([^",]+))\s*(?:,|$)', value)
    return ", ".join(literal(quoted.replace('""', '"') or bare.strip()) for quoted, bare in words) or "''"


def _grants(name: str, acl: str) -> str:
    """A DO block that grants what the ACL says; the server itself takes the ACL apart (manual, 9.26 aclexplode)."""
    body = (
        "DECLARE one record; BEGIN FOR one IN"
        " SELECT privilege_type, is_grantable, CASE WHEN grantee = 0 THEN 'PUBLIC'"
        " ELSE quote_ident(pg_get_userbyid(grantee)) END AS who"
        f" FROM aclexplode({literal(acl)}::aclitem[]) LOOP"
        f" EXECUTE format('GRANT %s ON DATABASE %I TO %s%s', one.privilege_type, {literal(name)}, one.who,"
        " CASE WHEN one.is_grantable AND one.who <> 'PUBLIC' THEN ' WITH GRANT OPTION' ELSE '' END);"
        " END LOOP; END"
    )
    return f"DO {literal(body)}"


def apply_properties(client: Client, name: str, server: dict[str, Any]) -> None:
    """Run property_sql() in one transaction, and in the database itself.

    Comments and settings are kept in the encoding of whoever writes them. A name that is not ASCII would be written
    in another one, too, and not be found.
    """
    statements = property_sql(name, server)
    if statements:
        where = name if name.isascii() else client.maintenance(name)
        client.query("; ".join(["BEGIN", *statements, "COMMIT"]), database=where)
