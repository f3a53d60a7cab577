"""Which containers on this host look like a database server, whether or not a job has their databases."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgbackup.docker import Docker
from pgbackup.errors import Unavailable

_OWN = "pgbackup.owner"  # the label of what this suite itself has started
_OF_A_SERVER = re.compile(r"(?:PG_MAJOR|PGDATA|POSTGRES_[A-Z_]+)=")


@dataclass(frozen=True)
class Neighbour:
    """A container that runs. id: the full one. user: the superuser that its image was told to make."""

    id: str
    name: str
    user: str

    def is_called(self, name: str) -> bool:
        """Whether a setting that says `name` means it."""
        return self.name == name or (len(name) >= 12 and self.id.startswith(name))


def running(docker: Docker) -> list[Neighbour]:
    """Return the containers that run and look like a server, by name. Raise Unavailable or PermissionDenied."""
    listed = docker.run("ps", "--quiet", "--no-trunc")
    if listed.status != 0:
        raise Unavailable(f"Docker does not tell which containers run: {listed.stderr}", "docker ps")
    ids = listed.stdout.decode("ascii", "replace").split()
    if not ids:
        return []
    seen = docker.run("container", "inspect", "--", *ids)
    try:
        found = [_of(facts) for facts in json.loads(seen.stdout)]  # one that has just gone is only left out
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unavailable(
            f"Docker's answer about {len(ids)} containers cannot be understood: {seen.stderr}",
            "docker inspect $(docker ps -q)",
        ) from None
    return sorted((each for each in found if each), key=lambda each: each.name)


def _of(facts: Mapping[str, Any]) -> Neighbour | None:
    """Given what `docker inspect` says of a container, return it if it looks like a server. Pure."""
    config = facts["Config"]
    environment = config.get("Env") or []
    words = [facts.get("Path") or "", *(facts.get("Args") or [])]
    looks = (
        any(_OF_A_SERVER.match(word) for word in environment)
        or any(word.rpartition("/")[2] in ("postgres", "postmaster") for word in words)
        or "5432/tcp" in (config.get("ExposedPorts") or {})
    )
    if not looks or _OWN in (config.get("Labels") or {}):
        return None
    users = [word.partition("=")[2] for word in environment if word.startswith("POSTGRES_USER=")]
    return Neighbour(facts["Id"], facts["Name"].lstrip("/"), (users or ["postgres"])[0] or "postgres")
