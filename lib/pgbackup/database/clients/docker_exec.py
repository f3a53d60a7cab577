"""Runs client programs inside the database's own container, as the guide does by hand: works wherever Docker does."""

from __future__ import annotations

from collections.abc import Sequence

from pgbackup.database.clients.client import Run, patience
from pgbackup.database.clients.contained import Contained
from pgbackup.database.clients.container import Container
from pgbackup.settings.config import Settings, Target


class DockerExec(Contained):
    """One process per `docker exec`, never a shell with a pipeline: PostgreSQL is PID 1 there and takes an
    orphan that dies of a signal for a crashed backend of its own, and restarts the whole cluster.
    Never `-t`: a terminal would turn every newline of the dump into two characters.
    """

    kind = "exec"

    def __init__(self, target: Target, settings: Settings, run: Run, container: Container) -> None:
        connection = {"port": container.port, "user": target.user, **patience(settings)}
        super().__init__(target, settings, run, container, connection)

    def command(self, program: Sequence[str], *, fed: bool = False) -> list[str]:
        return self.inside(self.container_id, program, fed=fed)
