"""The roles that a backup needs, those that act through them, and what of both a server lacks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from pgbackup.database.clients.client import Client
from pgbackup.database.questions import properties
from pgbackup.errors import SuiteError
from pgbackup.sql.naming import identifier, literal

_ATTRIBUTES = {
    "INHERIT", "NOINHERIT", "CREATEROLE", "NOCREATEROLE", "CREATEDB", "NOCREATEDB", "LOGIN", "NOLOGIN",
    "NOSUPERUSER", "NOREPLICATION", "NOBYPASSRLS",
}  # fmt: skip
_PRIVILEGED = ("SUPERUSER", "REPLICATION", "BYPASSRLS")


@dataclass(frozen=True)
class Lacking:
    """What of the roles is not on the server.

    needed: name -> the manifest's CREATE ROLE text, of those without which the dump cannot be loaded; members: likewise
    of those that have their rights through them, and of groups that they belong to. grants: memberships, as the
    manifest has them. settings: those of roles, whatever the database.
    """

    needed: dict[str, str] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    grants: list[dict[str, Any]] = field(default_factory=list)
    settings: list[tuple[str, str]] = field(default_factory=list)

    def still_to_do(self) -> list[str]:
        """What stays as it is without --create-roles, with what to type. Pure."""
        return [
            *(
                f"role '{name}' belongs to roles that the dump needs and is missing (--create-roles)"
                for name in self.members
            ),
            *(
                f"role '{each['member']}' is no longer a member of '{each['role']}': {_grant(each)}"
                for each in self.grants
                if each["member"] not in self.needed and each["member"] not in self.members
            ),
        ]


def lacking(server: dict[str, Any], present: list[str], memberships: list[list[str]]) -> Lacking:
    """Compare a manifest's `server` with the roles that a server has. Pure. memberships: pairs of role and member."""
    needed = dict(server.get("roles") or {})
    if isinstance(server.get("owner"), str):
        needed.setdefault(server["owner"], "")
    for entry in server.get("settings") or []:
        if entry.get("role"):
            needed.setdefault(entry["role"], "")
    members = {name: text for name, text in (server.get("members") or {}).items() if name not in needed}
    missing = {name for name in (*needed, *members) if name not in present}
    return Lacking(
        {name: needed[name] for name in sorted(missing & needed.keys())},
        {name: members[name] for name in sorted(missing & members.keys())},
        [
            each
            for each in server.get("memberships") or []
            if isinstance(each.get("role"), str) and isinstance(each.get("member"), str)
            if [each["role"], each["member"]] not in memberships
        ],
        [
            (each["role"], str(word))
            for each in server.get("role_settings") or []
            if each.get("role") in missing
            for word in each.get("settings") or []
        ],
    )


def create(client: Client, found: Lacking, major: int) -> list[str]:
    """Make the missing roles, without passwords, and return what has to be done by hand.

    Only the names and harmless attributes are taken from the manifest: its text is never run, no superuser comes out
    of a file, and no role that was there before becomes anything for somebody else.
    """
    new = {**found.needed, **found.members}
    todo, statements = [], []
    for name, text in new.items():
        attributes = text.partition(" WITH ")[2]
        words = re.findall(r"[A-Z]+", attributes.partition(" VALID UNTIL ")[0])
        limit = re.search(r" CONNECTION LIMIT (\d+)", attributes)
        until = re.search(r" VALID UNTIL '([^'\\]*)'", attributes)
        statements.append(
            f"CREATE ROLE {identifier(name)} WITH {' '.join(w for w in words if w in _ATTRIBUTES)}"
            + (f" CONNECTION LIMIT {limit[1]}" if limit else "")
            + (f" VALID UNTIL {literal(until[1])}" if until else "")
        )
        if "LOGIN" in words:
            todo.append(f"role '{name}' was made without a password: ALTER ROLE {identifier(name)} PASSWORD '…'")
        todo += [f"role '{name}' was {word} but is not now" for word in _PRIVILEGED if word in words]
    if statements:
        client.server_query("; ".join(["BEGIN", *statements, "COMMIT"]))
    granted = [each for each in found.grants if each["role"] in new]
    for each in found.grants:
        if each not in granted:
            todo.append(f"role '{each['member']}' is no longer a member of '{each['role']}': {_grant(each)}")
    later = [(_grant(each, major), _grant(each)) for each in granted]
    for role, word in found.settings:
        statement = properties.setting_sql(f"ROLE {identifier(role)}", *properties.split(word))
        later.append((statement, statement))
    for statement, shown in later:
        try:
            client.server_query(statement)
        except SuiteError as error:
            todo.append(f"still to be done: {shown} ({error.message})")
    return todo


def _grant(each: dict[str, Any], major: int = 0) -> str:
    """The statement of a membership. major: of the server; options of 16 and later are told to nobody older."""
    words = f"GRANT {identifier(each['role'])} TO {identifier(each['member'])}"
    options = [f"{key.upper()} {'TRUE' if each[key] else 'FALSE'}" for key in ("inherit", "set") if key in each]
    if major >= 16 and options:
        return f"{words} WITH {', '.join([*options, *(['ADMIN TRUE'] if each.get('admin') else [])])}"
    return words + (" WITH ADMIN OPTION" if each.get("admin") else "")
