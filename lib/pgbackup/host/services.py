"""The containers that use a database: stopped before it is replaced, started again whatever happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pgbackup import interrupt, proc
from pgbackup.database.clients import failures
from pgbackup.errors import Interrupted, SuiteError, Unavailable
from pgbackup.settings.config import Settings


def running(names: Sequence[str], settings: Settings, environment: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return those of the named containers that run, and those that do not exist, both in the given order.

    Raise Unavailable when Docker gives no answer.
    """
    up, absent = [], []
    for name in names:
        argv = [*settings.docker, "container", "inspect", "--format", "{{.State.Running}}", "--", name]
        finished = proc.run(argv, environment=environment, seconds=settings.command_seconds)
        if finished.status == 0 and finished.stdout.strip() == b"true":
            up.append(name)
        elif finished.status != 0 and failures.absent(finished.stderr):
            absent.append(name)
        elif finished.status != 0:
            raise Unavailable(f"cannot ask Docker about service '{name}': {finished.stderr}", "systemctl status docker")
    return up, absent


def stop(name: str, settings: Settings, environment: Mapping[str, str]) -> None:
    """Stop one container. Raise Unavailable when it does not stop: its writes would be lost."""
    argv = [*settings.docker, "stop", "--", name]
    try:
        finished = proc.run(argv, environment=environment, seconds=settings.command_seconds)
    except Interrupted:
        # Docker goes on with the stopping, and starting it before its end would change nothing: hasten it.
        with interrupt.shielded():
            hasty = [*settings.docker, "stop", "--time", "1", "--", name]
            proc.run(hasty, environment=environment, seconds=settings.command_seconds)
        raise
    if finished.status != 0:
        raise Unavailable(f"service '{name}' could not be stopped: {finished.stderr}", f"docker stop {name}")


def start(names: Sequence[str], settings: Settings, environment: Mapping[str, str]) -> list[str]:
    """Start the containers, given in stopping order, in reverse; also after a signal. Return those that failed."""
    failed = []
    with interrupt.shielded():
        for name in reversed(names):
            try:
                finished = proc.run(
                    [*settings.docker, "start", "--", name], environment=environment, seconds=settings.command_seconds
                )
            except SuiteError:
                failed.append(name)
            else:
                failed += [name] if finished.status != 0 else []
    return failed
