"""Chooses the client for a target: as configured, or the first of sidecar and exec that works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pgbackup import interrupt
from pgbackup.config import Settings, Target
from pgbackup.database import container, failures, sidecar
from pgbackup.database.client import Client, Run, query
from pgbackup.database.direct import Direct
from pgbackup.database.docker_exec import DockerExec
from pgbackup.errors import PermissionDenied, SuiteError, Unavailable

_LOOPBACK_PATIENCE_SECONDS = 5.0


@contextmanager
def opened(
    target: Target,
    settings: Settings,
    run: Run,
    environment: Mapping[str, str],
    pipes: Path,
    tell: Callable[[str], None],
) -> Iterator[Client]:
    """Give a client for `target` for the length of the block.

    pipes: an empty directory for the sidecar's FIFOs. tell: takes the sentence why `auto` fell back to exec.
    Raise Unavailable or PermissionDenied when no way leads to the container.
    """
    if target.client == "direct":
        yield Direct(target, settings, run, environment)
        return
    found = container.find(target, settings, environment)
    with ExitStack() as stack:
        if target.client == "exec":
            yield DockerExec(target, settings, run, found, environment)
            return
        try:
            if remote := _remote_docker(environment):
                raise Unavailable(f"DOCKER_HOST={remote} is another machine")
            client: Client = stack.enter_context(sidecar.started(target, settings, run, found, environment, pipes))
            if target.client == "auto":
                _probe(client, run, target, settings)
        except SuiteError as error:
            if target.client == "sidecar" or not isinstance(error, _ReasonsToFallBack):
                raise
            stack.close()
            tell(f"no sidecar, so docker exec is used: {error.message}")
            client = DockerExec(target, settings, run, found, environment)
        yield client


_ReasonsToFallBack = (Unavailable, PermissionDenied)


def _remote_docker(environment: Mapping[str, str]) -> str:
    """DOCKER_HOST where it names another machine: a FIFO here would not be seen there."""
    host = environment.get("DOCKER_HOST", "")
    return "" if not host or host.startswith("unix://") else host


def _probe(client: Client, run: Run, target: Target, settings: Settings) -> None:
    """Ask something through the sidecar. Raise only what its own socket might not suffer from.

    A server that is starting also refuses on 127.0.0.1: that passes, so it is asked again for a while.
    """
    deadline = time.monotonic() + _LOOPBACK_PATIENCE_SECONDS
    while True:
        try:
            query(client, run, target, "SELECT 1", settings)
        except SuiteError as error:
            if not failures.refused_on_loopback(error.message):
                return  # not the sidecar's fault; the first real question will tell
            if "Connection refused" not in error.message or time.monotonic() > deadline:
                raise
            interrupt.check()
            time.sleep(0.25)
        else:
            return
