"""Chooses the client for a target: as configured, or the first of sidecar and exec that works."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pgbackup import docker, interrupt
from pgbackup.database.clients import container, failures, sidecar
from pgbackup.database.clients.client import Client, Run
from pgbackup.database.clients.direct import Direct
from pgbackup.database.clients.docker_exec import DockerExec
from pgbackup.errors import ConfigurationError, PermissionDenied, SuiteError, Unavailable
from pgbackup.settings.config import Settings, Target


@contextmanager
def opened(
    target: Target,
    settings: Settings,
    run: Run,
    pipes: Path,
    tell: Callable[[str], None],
) -> Iterator[Client]:
    """Give a client for `target` for the length of the block.

    pipes: an empty directory for the sidecar's FIFOs. tell: takes the sentence why `auto` fell back to exec.
    Raise Unavailable or PermissionDenied when no way leads to the container, ConfigurationError for a passfile
    that libpq would ignore.
    """
    _check_passfile(target)
    if target.client == "direct":
        yield Direct(target, settings, run)
        return
    found = container.find(target, settings)
    within = DockerExec(target, settings, run, found)
    if target.client == "exec":
        yield within
        return
    with ExitStack() as stack:
        client: Client = within
        try:
            if remote := docker.elsewhere():
                raise Unavailable(f"DOCKER_HOST={remote} is another machine")
            client = stack.enter_context(sidecar.started(target, settings, run, found, pipes))
            if target.client == "auto" and (hindrance := _hindrance(client, within)):
                raise hindrance
        except (Unavailable, PermissionDenied) as error:
            if target.client == "sidecar":
                raise
            stack.close()
            tell(f"no sidecar, so docker exec is used: {error.message}")
            client = within
        yield client


def _hindrance(beside: Client, within: Client) -> SuiteError | None:
    """Why the server can be asked in its own container only, or None.

    What fails both ways (no such role, a server that is starting) is no reason; the first real question will tell.
    """
    deadline = time.monotonic() + beside.settings.wait_seconds
    while (error := _failure(beside)) is not None:
        if (other := _failure(within)) is None:
            # Once more: the server may have come up between the two questions.
            return _failure(beside)
        if not failures.passing(other.message) or time.monotonic() >= deadline:
            return None
        interrupt.check()
        time.sleep(0.25)
    return error


def _failure(client: Client) -> SuiteError | None:
    """What keeps the role out of the server: its own database may be lost, closed or broken."""
    try:
        client.query("SELECT 1")
    except (Unavailable, PermissionDenied) as error:
        if failures.passing(error.message):
            return error
        try:
            client.server_query("SELECT 1")
        except (Unavailable, PermissionDenied):
            return error
    return None


def _check_passfile(target: Target) -> None:
    """libpq passes over a passfile that others may read, in silence where nobody looks (manual, 34.16)."""
    if target.passfile is None:
        return
    key = f"{target.name.upper()}_PASSFILE"
    try:
        status = target.passfile.stat()
    except OSError as error:
        raise ConfigurationError(
            f"{key}='{target.passfile}' cannot be used: {error.strerror}", f"ls -l '{target.passfile}'"
        ) from None
    if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(
            f"{key}='{target.passfile}' must be a file that only its owner may read", f"chmod 600 '{target.passfile}'"
        )
    if not os.access(target.passfile, os.R_OK):
        raise PermissionDenied(f"{key}='{target.passfile}' may not be read by this user", f"ls -l '{target.passfile}'")
