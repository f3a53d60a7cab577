"""What a restore needs of a server and of its role, and what of that is missing."""

from __future__ import annotations

import re
from typing import Any

from pgbackup.database.clients.client import Client
from pgbackup.database.questions import preflight, refused
from pgbackup.database.questions.facts import Facts
from pgbackup.errors import SuiteError

POOLED = (
    "a connection pooler answers and not the server: dumps may pass through it, a restore must not"
    " (take the server's own port)"
)


def of_the_role(client: Client, facts: Facts) -> list[str]:
    """What would stop a restore of what was just backed up, each with what to do about it: told the same night.

    Nothing is raised: a backup does not fail by it.
    """
    if facts.restores:
        return bound(facts.details)
    try:
        found = preflight.look(client, facts.details["owners"])
        problems = lasting(found, facts.details)
        if found["begun"] and not facts.details["in_recovery"]:
            problems += refused.look(client, facts.details, found["roles"])
        return [*problems, *bound(facts.details)]
    except SuiteError as error:
        return [f"cannot find out what it would need: {error.message}"]


def lasting(found: dict[str, Any], server: dict[str, Any]) -> list[str]:
    """What of the role and the server would stop a restore at any time, each with what to do about it.

    found: what preflight.look() tells. server: what facts.gather() tells of the database, the manifest's `server`.
    """
    if not found["begun"]:
        return [POOLED]
    problems = []
    user = _name(found["user"])
    if not found["may_create"]:
        problems.append(f"the role may not create databases (ALTER ROLE {user} CREATEDB)")
    if not found["elsewhere"]:
        problems.append(f"the role may connect to no other database (GRANT CONNECT ON DATABASE postgres TO {user})")
    return problems if found["superuser"] else [*problems, *_of_ordinary_roles(found, server, user)]


def _of_ordinary_roles(found: dict[str, Any], server: dict[str, Any], user: str) -> list[str]:
    problems = []
    whose = {each["owner"] for each in server.get("owners") or []} | {server.get("owner") or found["user"]}
    if foreign := sorted((whose & set(found["roles"])) - set(found["may_be"])):
        grants = ", ".join(map(_name, foreign))
        problems.append(
            f"objects belong to roles that {user} cannot act as: {', '.join(foreign)}"
            f" (GRANT {grants} TO {user}, and ALTER ROLE {user} INHERIT)"
        )
    elif found["no_create"]:
        problems.append(
            f"owners may not create in the schemas of a new database: {', '.join(found['no_create'][:5])}"
            " (restore as a superuser)"
        )
    if untrusted := sorted(set(server.get("extensions") or []) & set(found["untrusted"])):
        problems.append(f"only a superuser can make the extensions {', '.join(untrusted)} (restore as one)")
    if privileged := server.get("privileged"):
        problems.append(f"only a superuser can make {', '.join(privileged)} (restore as one)")
    return problems


def bound(server: dict[str, Any]) -> list[str]:
    """The extensions that can be made in a database of one name only, so never beside it."""
    if "pg_cron" not in (server.get("extensions") or {}):
        return []
    return [
        "extension pg_cron can be made only in the database that cron.database_name names, and a restore loads under"
        " another name while that one is there (docs/restore.md, By hand: rename it first)"
    ]


def of_this_backup(found: dict[str, Any], server: dict[str, Any], dumped_major: int) -> list[str]:
    """What this server lacks of what the dump needs."""
    problems = bound(server) if found["exists"] else []
    if dumped_major > found["major"]:
        problems.append(f"the dump is from PostgreSQL {dumped_major}, but the server is {found['major']}")
    own = {server.get("tablespace") or "pg_default"} - {"pg_default"}  # the server's own default needs no right
    for what, here in (("extensions", found["extensions"]), ("tablespaces", found["tablespaces"])):
        lacking = sorted((set(server.get(what) or []) | (own if what == "tablespaces" else set())) - set(here))
        if lacking:
            problems.append(f"{what} that the dump needs are missing on the server: {', '.join(lacking)}")
    return problems


def of_a_swap(found: dict[str, Any]) -> list[str]:
    """What stands in the way of another database in the place of the live one, now."""
    problems = []
    if not found["owns"]:
        problems.append(
            f"the live database belongs to '{found['owner']}', and {_name(found['user'])} may not rename it"
            f" (GRANT {_name(found['owner'])} TO {_name(found['user'])}, or restore as a superuser)"
        )
    if found["unendable"]:
        problems.append(
            f"sessions in it that the role may not end, of: {', '.join(found['unendable'])}"
            " (end them, or restore as a superuser)"
        )
    if found["prepared"]:
        problems.append(f"{found['prepared']} prepared transactions are open in it (COMMIT or ROLLBACK PREPARED)")
    if found["slots"]:
        problems.append(f"replication slots use it: {', '.join(found['slots'])}")
    if found["subscriptions"]:
        problems.append(f"{found['subscriptions']} subscriptions belong to it")
    return problems


def other_versions(found: dict[str, Any], server: dict[str, Any]) -> list[str]:
    """The extensions that would come in another version than they were in, as sentences."""
    return [
        f"extension {name} was {version} and will be {found['extensions'][name]}:"
        " the dump's rows of its own tables may not fit"
        for name, version in sorted((server.get("extensions") or {}).items())
        if found["extensions"].get(name, version) != version
    ]


def major(version: str) -> int:
    """The major of a server's version as it tells it, 0 where it has none."""
    found = re.match(r"\d+", version)
    return int(found.group()) if found else 0


def _name(role: str) -> str:
    return role if re.fullmatch(r"[a-z_][a-z0-9_]*", role) else '"' + role.replace('"', '""') + '"'
