"""The throwaway server: a container of a database's own image, or the host's own programs where none is in Docker."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import quote

from pgbackup import interrupt
from pgbackup.commands.job import looking
from pgbackup.database.clients import container
from pgbackup.database.cluster import empty_server
from pgbackup.database.cluster.empty_server import Site
from pgbackup.docker import Docker
from pgbackup.errors import Interrupted, SuiteError, Unavailable
from pgbackup.settings.config import Settings, Target

NAME = "sabotage"  # of the database in DATABASES, of the database itself, and of its role
_LABEL = "pgbackup.test-alarms"
_START_SECONDS = 120
_TICK_SECONDS = 0.2
_MAJORS = range(18, 12, -1)
_MEGABYTES = 512


class Server(Protocol):
    """What a sabotage does with the server."""

    def settings(self) -> dict[str, str]:
        """How the suite reaches it now: settings of the database."""

    def sql(self, text: str) -> None:
        """Run statements in the database. Raise Unavailable."""

    def stop(self) -> None:
        """Let it be dead."""

    def start(self) -> None:
        """Let it answer again."""


@contextmanager
def running(settings: Settings) -> Iterator[Server]:
    """Give a server with an empty database for the length of the block. Raise Unavailable where none can be had."""
    target = next((one for one in settings.targets if one.client != "direct"), None)
    with _in_container(settings, target) if target else _on_host(settings) as server:
        yield server


@dataclass
class _InContainer:
    docker: Docker
    name: str

    def settings(self) -> dict[str, str]:
        return {"CONTAINER": self.name}

    def sql(self, text: str) -> None:
        self._do("exec", self.name, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", NAME, "-d", NAME, "-c", text)

    def stop(self) -> None:
        self._do("kill", self.name)

    def start(self) -> None:
        self._do("start", self.name)
        self.wait()

    def wait(self) -> None:
        """Wait until it answers over TCP, which it does not while its image still prepares the database."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            interrupt.check()
            ready = self.docker.run("exec", self.name, "pg_isready", "-q", "-h", "127.0.0.1", "-U", NAME, "-d", NAME)
            if ready.status == 0:
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"the throwaway server does not answer within {_START_SECONDS} s: {ready.stderr}")
            time.sleep(_TICK_SECONDS)

    def _do(self, *words: str) -> None:
        ended = self.docker.run(*words, seconds=_START_SECONDS)
        if ended.status:
            raise Unavailable(f"'docker {words[0]}' of the throwaway server failed: {ended.stderr}", "docker ps -a")


@contextmanager
def _in_container(settings: Settings, target: Target) -> Iterator[_InContainer]:
    docker = settings.docker
    image = container.inspect(target, docker).image
    # What a killed run of this installation has left; that of another one may be at work.
    ours = f"{settings.alerts_state}\0{settings.backup_dir}".encode()
    label = f"{_LABEL}={hashlib.sha256(ours).hexdigest()[:16]}"
    for left in docker.run("ps", "-aq", "--filter", f"label={label}").stdout.decode().split():
        docker.run("rm", "-fv", left)
    made = _InContainer(docker, f"pgbackup-test-alarms-{secrets.token_hex(4)}")
    words = ["--detach", "--pull", "never", "--name", made.name, "--label", label, "--network", "none"]
    words += ["--memory", f"{_MEGABYTES}m", "--log-driver", "none"]
    for key in ("POSTGRES_USER", "POSTGRES_DB"):
        words += ["--env", f"{key}={NAME}"]
    try:
        made._do("run", *words, "--env", "POSTGRES_HOST_AUTH_METHOD=trust", image)
        made.wait()
        yield made
    finally:
        with interrupt.shielded(), suppress(SuiteError):
            docker.run("rm", "-fv", made.name, seconds=_START_SECONDS)


@dataclass
class _OnHost:
    site: Site
    dead: bool = False

    def settings(self) -> dict[str, str]:
        place = f"{self.site.disk}/gone" if self.dead else self.site.disk
        return {"URL": f"postgresql:///{NAME}?host={quote(place, safe='')}&user={NAME}", "CLIENT": "direct"}

    def sql(self, text: str) -> None:
        self.site.client.of(NAME).query(f"SET search_path = public; {text}")  # which a suite's session leaves out

    def stop(self) -> None:
        self.dead = True

    def start(self) -> None:
        self.dead = False


@contextmanager
def _on_host(settings: Settings) -> Iterator[_OnHost]:
    target = replace(settings.targets[0], name=NAME, database=NAME, user=NAME, url="", passfile=None)
    small = replace(settings, recovery_megabytes=min(settings.recovery_megabytes, _MEGABYTES))
    with ExitStack() as stack:
        for major in _MAJORS:
            try:
                site = stack.enter_context(empty_server.on_host(target, small, looking(), major))
                break
            except Interrupted:
                raise
            except Unavailable:
                continue
        else:
            raise Unavailable("there are no programs of a PostgreSQL server on this host", "apt-get install postgresql")
        stack.enter_context(empty_server.running(site, {}, []))
        site.client.server_query(f"CREATE DATABASE {NAME}")
        yield _OnHost(site)
