"""Runs client programs in a container of their own beside the database's: same image, same network namespace.

The data flows through a FIFO in a directory that both sides see, so no byte passes through the Docker daemon.
The sidecar lives exactly as long as the pipe to its standard input: when this process goes, however it goes,
its PID 1 reads the end of that pipe and the kernel takes every program in the container down with it.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import secrets
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

from pgbackup import interrupt, proc
from pgbackup.database.clients import failures
from pgbackup.database.clients.client import Run, patience
from pgbackup.database.clients.contained import Contained
from pgbackup.database.clients.container import Container
from pgbackup.database.clients.orders import Orders, waiting
from pgbackup.database.clients.streams import Sink, Stream, hand_over, make_fifo, widened
from pgbackup.docker import Docker
from pgbackup.errors import SuiteError, Unavailable
from pgbackup.proc import Finished
from pgbackup.settings.config import Settings, Target

LABEL = "pgbackup.owner"
INSIDE = "/pipes"
_PASSFILE = "/passfile"
_START_SECONDS = 15.0
_END_SECONDS = 1.5
# PID 1 says through a FIFO that it is there, then lasts until our end of its standard input closes.
# Opened for both ways: a FIFO whose reader was killed in this moment would otherwise hold it for ever.
FIRST_PROGRAM = f"{waiting(INSIDE)} echo ready 1<>{INSIDE}/ready && exec cat >/dev/null"


def run_arguments(
    docker: Docker,
    target: Target,
    run: Run,
    name: str,
    container: Container,
    pipes: Path,
    user: str,
    foreign: bool,
    mounts: Mapping[Path, str] = MappingProxyType({}),
) -> list[str]:
    """Return the argument list of `docker run` for a sidecar. Pure. user: `uid:gid` of the caller.

    No secret is in it: a password comes from the mounted passfile, which libpq reads itself. foreign: the passfile
    belongs to somebody else, which root may read by a capability only. mounts: further directories, and their paths
    inside.
    """
    passfile = ["--mount", mount(str(target.passfile), _PASSFILE, "readonly"), "--env", f"PGPASSFILE={_PASSFILE}"]
    if foreign:
        passfile += ["--cap-add", "DAC_OVERRIDE"]
    return docker.command(
        *("run", "--rm", "--interactive", "--pull", "never", "--name", name),
        *("--label", f"{LABEL}={run.owner}"),
        *("--network", f"container:{container.id}", "--user", user),
        *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--pids-limit", "64", "--log-driver", "none", "--no-healthcheck"),
        *(passfile if target.passfile else ()),
        *(word for path, inside in mounts.items() for word in ("--mount", mount(str(path), inside))),
        *("--mount", mount(str(pipes), INSIDE), "--entrypoint", "sh"),
        *(container.image, "-c", FIRST_PROGRAM),
    )


def mount(source: str, target: str, *options: str) -> str:
    """Docker reads the value as a line of CSV; unlike --volume, --mount makes no directory where none is."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["type=bind", f"source={source}", f"target={target}", *options])
    return line.getvalue()


class Sidecar(Contained):
    """A running sidecar; made by `started()`."""

    kind = "sidecar"

    def __init__(
        self,
        target: Target,
        settings: Settings,
        run: Run,
        container: Container,
        pipes: Path,
        name: str,
        orders: Orders,
    ) -> None:
        where = {"host": "127.0.0.1", "port": container.port, "sslmode": "disable", "user": target.user}
        super().__init__(target, settings, run, container, {**where, **patience(settings)})
        self.pipes, self._name, self._orders = pipes, name, orders

    def command(self, program: Sequence[str], *, fed: bool = False) -> list[str]:
        return self.inside(self._name, program, fed=fed)

    def completed(self, program: Sequence[str], seconds: float, stdin: bytes = b"") -> Finished:
        found = self._orders.completed(self.steered(program), seconds, stdin)
        return found or super().completed(program, seconds, stdin)

    def place(self, name: str, content: str | bytes) -> None:
        """Put a file where the container sees it, in INSIDE."""
        path = self.pipes / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        hand_over(path)

    @contextmanager
    def reading(self, program: Sequence[str]) -> Iterator[Stream]:
        redirected = ["sh", "-c", 'exec "$@" >"$0"', f"{INSIDE}/output", *program]
        with (
            _fifo(self.pipes / "output") as fd,
            proc.Program(self.command(redirected)) as running,
            self.ending(running),
        ):
            yield Stream(widened(fd), running, self.target.database)

    @contextmanager
    def writing(self, program: Sequence[str], answers: int | None = None) -> Iterator[Sink]:
        redirected = ["sh", "-c", 'exec "$@" <"$0"', f"{INSIDE}/input", *program]
        fifo = self.pipes / "input"
        make_fifo(fifo)
        with (
            proc.Program(self.command(redirected), stdout=answers) as running,
            self.ending(running),
        ):
            try:
                sink = Sink(_open_for_writing(fifo, running, self.target), running, self.target.database)
            finally:
                fifo.unlink(missing_ok=True)
            try:
                yield sink
            finally:
                sink.close()


def _open_for_writing(fifo: Path, program: proc.Program, target: Target) -> int:
    """Open the FIFO when the program has opened its other end. Raise what it has failed of, or Unavailable."""
    descriptor = when_read(fifo, program, _START_SECONDS)
    if descriptor is not None:
        return descriptor
    if program.status is not None:
        raise failures.explained(program.stderr, program.status, "psql", target)
    raise Unavailable(f"psql in the sidecar of '{target.container}' did not start within {_START_SECONDS:g} s")


def when_read(fifo: Path, program: proc.Program, seconds: float) -> int | None:
    """Open a FIFO for writing when its other end is open: what is written before that would be lost.

    None when the program has ended, or the time is over. Raise Interrupted on a signal.
    """
    deadline = time.monotonic() + seconds
    while True:
        interrupt.check()
        try:
            return widened(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if program.status is not None or time.monotonic() > deadline:
            return None
        program.pause(0.002)


@contextmanager
def started(
    target: Target,
    settings: Settings,
    run: Run,
    container: Container,
    pipes: Path,
    mounts: Mapping[Path, str] = MappingProxyType({}),
) -> Iterator[Sidecar]:
    """Start a sidecar of `container` with the directory `pipes` in it; it is gone when the block is left.

    mounts: directories that its programs may write to, and their paths inside; all of the same owner.

    Raise Unavailable when it cannot be started here: another machine's Docker, no `sh` in the image, a file
    system without FIFOs.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and mounts:
        # Without capabilities not even root may write where somebody else is the owner.
        owner = next(iter(mounts)).stat()
        uid, gid = owner.st_uid, owner.st_gid
        os.chown(pipes, uid, gid)
    foreign = target.passfile is not None and target.passfile.stat().st_uid != uid
    name = name_of(run)
    argv = run_arguments(settings.docker, target, run, name, container, pipes, f"{uid}:{gid}", foreign, mounts)
    with alive(argv, name, target, settings.docker, pipes) as orders:
        yield Sidecar(target, settings, run, container, pipes, name, orders)


def name_of(run: Run) -> str:
    """A name for a container of this run; it may have several."""
    return f"{run.application_name}-{secrets.token_hex(2)}"


@contextmanager
def alive(argv: Sequence[str], name: str, target: Target, docker: Docker, pipes: Path) -> Iterator[Orders]:
    """Let a container of that name run for the length of the block, with FIRST_PROGRAM, and give what it does at once.

    argv: its `docker run`, with `pipes` at INSIDE. Raise Unavailable when it cannot be started.
    """
    with ExitStack() as stack:
        ready = stack.enter_context(_fifo(pipes / "ready"))
        orders = Orders(pipes)
        stack.callback(orders.close)
        read_end, lifeline = os.pipe2(os.O_CLOEXEC)
        try:
            program = stack.enter_context(proc.Program(argv, stdin=read_end))
        finally:
            os.close(read_end)
        stack.callback(_end, lifeline, program, name, docker)
        _await(ready, program, target)
        yield orders


@contextmanager
def _fifo(path: Path) -> Iterator[int]:
    """Make a FIFO for the length of the block and give its reading end."""
    try:
        make_fifo(path)
        # Without blocking: a writer that never comes must not hold us here for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"no FIFO can be made at '{path}': {error.strerror}") from None
    try:
        yield fd
    finally:
        os.close(fd)
        path.unlink(missing_ok=True)


def _await(ready: int, program: proc.Program, target: Target) -> None:
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    deadline = time.monotonic() + _START_SECONDS
    while not poll.poll(50):
        interrupt.check()
        if program.status is not None:
            raise failures.explained(program.stderr, program.status, "docker run", target)
        if time.monotonic() > deadline:
            raise Unavailable(f"the sidecar of '{target.container}' was not ready within {_START_SECONDS:g} s")


def _end(lifeline: int, program: proc.Program, name: str, docker: Docker) -> None:
    """Close the lifeline and see the container gone; if that takes too long, remove it by name."""
    os.close(lifeline)
    with interrupt.shielded():
        try:
            program.wait(_END_SECONDS)
        except TimeoutError:
            remove([name], docker, _END_SECONDS)


def remove(names: Sequence[str], docker: Docker, seconds: float | None = None) -> None:
    """Remove sidecars by name or id, running or not. Nothing happens where there are none.

    seconds: the limit, COMMAND_SECONDS if not given.
    """
    if names:
        try:
            docker.run("rm", "--force", "--volumes", *names, seconds=seconds)
        except SuiteError:
            return  # Docker itself is gone; the next run sweeps


def leftovers(run: Run, docker: Docker) -> list[str]:
    """Return the ids of sidecars that earlier runs of this database left behind."""
    finished = docker.run("ps", "--all", "--quiet", "--filter", f"label={LABEL}={run.owner}")
    return finished.stdout.decode().split() if finished.status == 0 else []
