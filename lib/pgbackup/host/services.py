"""The containers that use a database: stopped before it is replaced, started again whatever happened."""

from __future__ import annotations

from collections.abc import Sequence

from pgbackup import interrupt
from pgbackup.docker import Docker, absent
from pgbackup.errors import Interrupted, SuiteError, Unavailable


def running(names: Sequence[str], docker: Docker) -> tuple[list[str], list[str]]:
    """Return those of the named containers that run, and those that do not exist, both in the given order.

    Raise Unavailable when Docker gives no answer.
    """
    up, gone = [], []
    for name in names:
        finished = docker.run("container", "inspect", "--format", "{{.State.Running}}", "--", name)
        if finished.status == 0 and finished.stdout.strip() == b"true":
            up.append(name)
        elif finished.status != 0 and absent(finished.stderr):
            gone.append(name)
        elif finished.status != 0:
            raise Unavailable(f"cannot ask Docker about service '{name}': {finished.stderr}", "systemctl status docker")
    return up, gone


def stop(name: str, docker: Docker) -> None:
    """Stop one container. Raise Unavailable when it does not stop: its writes would be lost."""
    try:
        finished = docker.run("stop", "--", name)
    except Interrupted:
        # Docker goes on with the stopping, and starting it before its end would change nothing: hasten it.
        with interrupt.shielded():
            docker.run("stop", "--time", "1", "--", name)
        raise
    if finished.status != 0:
        raise Unavailable(f"service '{name}' could not be stopped: {finished.stderr}", f"docker stop {name}")


def start(names: Sequence[str], docker: Docker) -> list[str]:
    """Start the containers, given in stopping order, in reverse; also after a signal. Return those that failed."""
    failed = []
    with interrupt.shielded():
        for name in reversed(names):
            try:
                finished = docker.run("start", "--", name)
            except SuiteError:
                failed.append(name)
            else:
                failed += [name] if finished.status != 0 else []
    return failed
