"""Calls Docker, or what takes its place, and knows what it says when it fails."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from pgbackup import proc
from pgbackup.errors import KnownFailure, PermissionDenied, Unavailable
from pgbackup.proc import Finished

# Docker says the first with a capital, podman without, or the second.
_ABSENT = r"(?i:no such container|no such object|no container with name or ID)"

FAILURES = [
    KnownFailure(
        r"(?i)permission denied while trying to connect to the docker|dial unix .*: permission denied",
        PermissionDenied,
        "may not use Docker: {reason}",
        "run it with sudo, or as a member of the group docker: sudo usermod -aG docker USER, then log in again",
    ),
    KnownFailure(
        r"(?i)cannot connect to the docker daemon|error during connect|docker daemon is not running|docker API",
        Unavailable,
        "Docker cannot be reached: {reason}",
        "systemctl status docker",
    ),
    KnownFailure(
        _ABSENT + r"|(?i:container \S+ is not running|container state improper|is restarting|is paused)",
        Unavailable,
        "container '{container}' is not there or not running: {reason}",
        "docker ps -a --filter name={container}",
    ),
]


@dataclass(frozen=True)
class Docker:
    """How Docker is called. words: the program and what always follows it. seconds: how long an answer may take."""

    words: tuple[str, ...]
    seconds: float

    def command(self, *words: str) -> list[str]:
        """Return the argument list of one of its commands. Pure."""
        return [*self.words, *words]

    def run(self, *words: str, seconds: float | None = None, stdin: int | None = None) -> Finished:
        """Run one of its commands to the end. seconds: another limit. Raise what proc.run() raises."""
        return proc.run(self.command(*words), seconds=seconds or self.seconds, stdin=stdin)


def absent(stderr: str) -> bool:
    """Whether Docker, or what takes its place, says that there is no such container."""
    return bool(re.search(_ABSENT, stderr))


def elsewhere() -> str:
    """DOCKER_HOST where it names another machine, which sees no file of this one; else ""."""
    host = os.environ.get("DOCKER_HOST", "")
    return "" if host.startswith("unix://") else host
