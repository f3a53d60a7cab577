"""Runs client programs inside the database's own container, as the guide does by hand: works wherever Docker does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pgbackup.config import Settings, Target
from pgbackup.database.client import Run, Sink, Stream, end_own_backends, fed, piped
from pgbackup.database.container import Container


class DockerExec:
    """One process per `docker exec`, never a shell with a pipeline: PostgreSQL is PID 1 there and takes an
    orphan that dies of a signal for a crashed backend of its own, and restarts the whole cluster.
    Never `-t`: a terminal would turn every newline of the dump into two characters.
    """

    kind = "exec"

    def __init__(
        self, target: Target, settings: Settings, run: Run, container: Container, environment: Mapping[str, str]
    ) -> None:
        self.connection: Mapping[str, str] = {
            "port": container.port,
            "user": target.user,
            "connect_timeout": str(max(2, settings.wait_seconds)),
        }
        self.environment = environment
        self.container_id = container.id
        self.image_id = container.image
        self._target, self._settings, self._run = target, settings, run

    def command(self, program: Sequence[str]) -> list[str]:
        return [*self._settings.docker, "exec", self.container_id, *program]

    @contextmanager
    def reading(self, program: Sequence[str]) -> Iterator[Stream]:
        finished = False
        try:
            with piped(self.command(program), self.environment, self._target.database) as stream:
                yield stream
                finished = stream.program.status == 0
        finally:
            if not finished:
                end_own_backends(self, self._run, self._target, self._settings)

    @contextmanager
    def writing(self, program: Sequence[str]) -> Iterator[Sink]:
        finished = False
        try:
            with fed(
                [*self._settings.docker, "exec", "--interactive", self.container_id, *program],
                self.environment,
                self._target.database,
            ) as sink:
                yield sink
                finished = sink.program.status == 0
        finally:
            if not finished:
                end_own_backends(self, self._run, self._target, self._settings)
