"""What the clients that run in containers share: nothing of the container's own environment steers libpq."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pgbackup.database.clients import container
from pgbackup.database.clients.client import Client, Run
from pgbackup.database.clients.container import Container
from pgbackup.settings.config import Settings, Target


class Contained(Client):
    """A client whose programs run in a container: the database's own, or one beside it."""

    def __init__(
        self,
        target: Target,
        settings: Settings,
        run: Run,
        found: Container,
        connection: Mapping[str, str],
    ) -> None:
        super().__init__(target, settings, run, connection)
        self.container_id, self.image_id, self._steering = found.id, found.image, found.steering
        self.memory_bytes = found.memory_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self.processors = min(found.processors or self.processors, self.processors)

    def inside(self, name: str, program: Sequence[str], *, fed: bool) -> list[str]:
        """Return the argument list that runs a program in that container. Pure.

        Messages are to be English, and libpq is not to take its server, options or service from the environment.
        """
        without = self._without()
        options = ["--interactive"] if fed else []
        steered = ["env", *without] if without else []
        return self.settings.docker.command("exec", *options, "--env", "LC_ALL=C", name, *steered, *program)

    def steered(self, program: Sequence[str]) -> list[str]:
        """Return what runs a program likewise, when it is started in the container itself. Pure."""
        return ["env", *self._without(), "LC_ALL=C", *program]

    def _without(self) -> list[str]:
        return [word for key in self._steering for word in ("-u", key)]

    def relocated(self) -> bool:
        if not self.container_id:
            return False
        port = container.listening_port(self.container_id, self.settings.docker)
        if port in ("", self.connection["port"]):
            return False
        self.connection["port"] = port
        return True
