"""Runs client programs inside the database's own container, as the guide does by hand: works wherever Docker does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pgbackup.config import Settings, Target
from pgbackup.database.client import Run, Sink, Stream, ending, fed, piped
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
        return self._command(program)

    def _command(self, program: Sequence[str], *options: str) -> list[str]:
        return [*self._settings.docker, "exec", *options, self.container_id, *program]

    @contextmanager
    def reading(self, program: Sequence[str]) -> Iterator[Stream]:
        with (
            piped(self.command(program), self.environment, self._target.database) as stream,
            ending(self, self._run, self._target, self._settings, stream.program),
        ):
            yield stream

    @contextmanager
    def writing(self, program: Sequence[str]) -> Iterator[Sink]:
        with (
            fed(self._command(program, "--interactive"), self.environment, self._target.database) as sink,
            ending(self, self._run, self._target, self._settings, sink.program),
        ):
            yield sink
