"""What pg_dump without --create leaves out of a database: its settings, owner, privileges, limits and comment."""

from __future__ import annotations

import re
from typing import Any

from pgbackup.database.clients.client import Client
from pgbackup.sql.naming import identifier, literal

# Settings that hold a list are written down as a list and must be set as one (manual, ALTER DATABASE; GUC_LIST_QUOTE).
_LISTS = {
    "search_path",
    "temp_tablespaces",
    "session_preload_libraries",
    "local_preload_libraries",
    "shared_preload_libraries",
    "unix_socket_directories",
}
LIBRARIES = ("session_preload_libraries", "local_preload_libraries")
# These do not change what a value means, but who a session is, what it runs and how long: they come after the load.
_STEERING = re.compile(
    r"role|session_authorization|(?:session|local)_preload_libraries|temp_file_limit|default_transaction_.*|.*_timeout",
    re.IGNORECASE,
)


def settings_sql(name: str, server: dict[str, Any], *, steering: bool) -> list[str]:
    """Return the ALTER DATABASE/ROLE … SET statements that give `name` those that `server` has, in its order. Pure.

    server: what facts.gather() says, the manifest's `server`. steering: also those that must not steer the load, not
    only those that what is loaded may depend on. Every name and value is quoted: a manifest may come from anywhere.
    """
    database = identifier(name)
    found: dict[str, list[str]] = {}
    for role, key, value in settings(server):
        subject = f"ROLE {identifier(role)} IN DATABASE {database}" if role else f"DATABASE {database}"
        statements = found.setdefault(subject, [f"ALTER {subject} RESET ALL"])
        if steering or not _STEERING.fullmatch(key):
            statements.append(setting_sql(subject, key, value))
    return [statement for statements in found.values() for statement in statements]


def settings(server: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Role ("" for all), setting and value of each."""
    return [
        (str(entry.get("role") or ""), key, value)
        for entry in server.get("settings") or []
        for key, value in (split(str(word)) for word in entry.get("settings") or [])
    ]


def split(word: str) -> tuple[str, str]:
    """A setting's name and value, as pg_db_role_setting has them in one word. Pure."""
    key, _, value = word.partition("=")
    return key, value


def setting_sql(subject: str, key: str, value: str) -> str:
    """Return the statement that sets it for that subject, `ROLE "x"`. Pure."""
    return f"ALTER {subject} SET {_setting(key)} TO {_value(key, value)}"


def _setting(key: str) -> str:
    return ".".join(identifier(part) for part in key.split("."))


def _value(key: str, value: str) -> str:
    if key.lower() not in _LISTS:
        return literal(value)
    return ", ".join(map(literal, words(value))) or "''"


def words(value: str) -> list[str]:
    words = re.findall(r'\s*(?:"((?:[^"]|"")*)"|([^",]+))\s*(?:,|$)', value)
    return [quoted.replace('""', '"') or bare.strip() for quoted, bare in words]


def property_sql(name: str, server: dict[str, Any]) -> list[str]:
    """Return statements that put back the rest, in an order in which a role may that gives the database away. Pure.

    Connection limit, comment, settings, whether it is a template, owner and privileges.
    """
    database = identifier(name)
    found = server.get("database", {})
    statements = []
    limit = found.get("datconnlimit")
    if isinstance(limit, int) and limit >= -1:
        statements.append(f"ALTER DATABASE {database} CONNECTION LIMIT {limit}")
    if found.get("datistemplate") is True:
        statements.append(f"ALTER DATABASE {database} IS_TEMPLATE true")
    if isinstance(server.get("comment"), str):
        statements.append(f"COMMENT ON DATABASE {database} IS {literal(server['comment'])}")
    statements += settings_sql(name, server, steering=True)
    if server.get("owner"):
        owner = identifier(server["owner"])
        # Who may give it to that role may also be it; without inheriting from it, only so the rest is allowed.
        statements += [f"ALTER DATABASE {database} OWNER TO {owner}", f"SET LOCAL ROLE {owner}"]
    if isinstance(server.get("acl"), str):
        statements += [f"REVOKE ALL ON DATABASE {database} FROM PUBLIC", _grants(name, server["acl"])]
    return statements


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


def apply(client: Client, name: str, statements: list[str]) -> None:
    """Run statements about the database `name` in one transaction, and in the database itself.

    Comments and settings are kept in the encoding of whoever writes them. A name that is not ASCII would be written
    in another one, too, and not be found.
    """
    if statements:
        where = name if name.isascii() else client.maintenance(name)
        client.query("; ".join(["BEGIN", *statements, "COMMIT"]), database=where)
