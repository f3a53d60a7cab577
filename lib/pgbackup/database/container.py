"""Asks Docker about the database's container, once, at the start of a run: afterwards only its id is used."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pgbackup import interrupt, proc
from pgbackup.config import Settings, Target
from pgbackup.database import failures
from pgbackup.errors import Unavailable


@dataclass(frozen=True)
class Container:
    """id and image: the full ids; a container made anew under the same name has another id."""

    id: str
    image: str
    status: str


def find(target: Target, settings: Settings, environment: Mapping[str, str]) -> Container:
    """Return the target's container, running. A paused or restarting one is waited for, WAIT_SECONDS long.

    Raise Unavailable when there is none, it is stopped or Docker is silent; PermissionDenied on the socket.
    """
    deadline = time.monotonic() + settings.wait_seconds
    while True:
        found = inspect(target, settings, environment)
        if found.status == "running":
            return found
        if found.status not in ("paused", "restarting") or time.monotonic() >= deadline:
            raise Unavailable(
                f"container '{target.container}' is {found.status}",
                f"docker {'unpause' if found.status == 'paused' else 'start'} {target.container}",
            )
        interrupt.check()
        time.sleep(0.2)


def inspect(target: Target, settings: Settings, environment: Mapping[str, str]) -> Container:
    """Return what Docker says of the target's container, whatever its state."""
    argv = [*settings.docker, "container", "inspect", "--", target.container]
    finished = proc.run(argv, environment=environment, seconds=settings.command_seconds)
    if finished.status != 0:
        raise failures.explained(finished.stderr, finished.status, "docker inspect", target)
    try:
        (facts,) = json.loads(finished.stdout)
        return Container(facts["Id"], facts["Image"], facts["State"]["Status"])
    except (ValueError, KeyError, TypeError):
        raise Unavailable(
            f"'{settings.docker[0]}' gave an answer that cannot be understood for container '{target.container}'",
            f"try it: {' '.join(argv)}",
        ) from None
