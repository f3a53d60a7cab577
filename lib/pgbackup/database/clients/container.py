"""Asks Docker about the database's container, once, at the start of a run: afterwards only its id is used."""

from __future__ import annotations

import difflib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pgbackup import interrupt
from pgbackup.database.clients import failures
from pgbackup.database.clients.client import Client
from pgbackup.docker import Docker, absent
from pgbackup.errors import SuiteError, Unavailable
from pgbackup.settings.config import Settings, Target

_MOST_TOLD = 5


@dataclass(frozen=True)
class Container:
    """id and image: the full ids; a container made anew under the same name has another id.

    port: where the server in it listens, as far as the container's arguments and environment tell. steering: variables
    of its environment by which libpq would find another server, database or role, or begin a session otherwise.
    memory_bytes: its limit, 0 for none. processors: likewise.
    """

    id: str
    image: str
    status: str
    port: str = "5432"
    steering: tuple[str, ...] = ()
    memory_bytes: int = 0
    processors: int = 0


# PostgreSQL manual, 34.15 Environment Variables, but for those that hold a password or its file.
_STEERING = re.compile(
    r"PG(?:HOST|HOSTADDR|PORT|DATABASE|USER|REQUIREAUTH|CHANNELBINDING|SERVICE|SERVICEFILE|OPTIONS|APPNAME|REQUIRESSL"
    r"|SSL\w*|REQUIREPEER|GSS\w*|KRBSRVNAME|CONNECT_TIMEOUT|CLIENTENCODING|TARGETSESSIONATTRS|LOADBALANCEHOSTS"
    r"|MINPROTOCOLVERSION|MAXPROTOCOLVERSION|DATESTYLE|TZ|GEQO|SYSCONFDIR|LOCALEDIR)|PSQLRC|PSQL_\w+|PG_COLORS?"
)


def find(target: Target, settings: Settings) -> Container:
    """Return the target's container, running. A paused or restarting one is waited for, WAIT_SECONDS long.

    Raise Unavailable when there is none, it is stopped or Docker is silent; PermissionDenied on the socket.
    """
    deadline = time.monotonic() + settings.wait_seconds
    while True:
        found = inspect(target, settings.docker)
        if found.status == "running":
            return found
        if found.status not in ("paused", "restarting") or time.monotonic() >= deadline:
            raise _not_running(found, target)
        interrupt.check()
        time.sleep(0.2)


def inspect(target: Target, docker: Docker) -> Container:
    """Return what Docker says of the target's container, whatever its state."""
    words = ("container", "inspect", "--", target.container)
    finished = docker.run(*words)
    if finished.status != 0:
        error = failures.explained(finished.stderr, finished.status, "docker inspect", target)
        if absent(finished.stderr) and (names := near(target.container, _running(docker))):
            error.hint = f"is it called {' or '.join(names)} now? set {target.name.upper()}_CONTAINER; see: docker ps"
        raise error
    try:
        (facts,) = json.loads(finished.stdout)
        given = facts["Config"]["Env"] or []
        port = server_port(facts["Args"] or [], given)
        names = [word.partition("=")[0] for word in given]
        steering = tuple(sorted({name for name in names if _STEERING.fullmatch(name)}))
        limits = facts.get("HostConfig") or {}
        found = facts["Id"], facts["Image"], facts["State"]["Status"]
        return Container(*found, port, steering, int(limits.get("Memory") or 0), processors(limits))
    except (ValueError, KeyError, TypeError):
        raise Unavailable(
            f"'{docker.words[0]}' gave an answer that cannot be understood for container '{target.container}'",
            f"try it: {' '.join(docker.command(*words))}",
        ) from None


def processors(limits: Mapping[str, Any]) -> int:
    """Given a container's HostConfig, return how many processors it may use at once, 0 for no limit. Pure.

    By `--cpus` (NanoCpus), by `--cpu-quota` and `--cpu-period`, whose default is 100 ms, and by `--cpuset-cpus`.
    """
    found = [int(limits.get("NanoCpus") or 0) / 1e9]
    found.append(max(0, int(limits.get("CpuQuota") or 0)) / (int(limits.get("CpuPeriod") or 0) or 100_000))
    named = [part.split("-") for part in str(limits.get("CpusetCpus") or "").split(",") if part]
    found.append(sum(int(part[-1]) - int(part[0]) + 1 for part in named))
    return max(1, int(min(each for each in found if each))) if any(found) else 0


def _running(docker: Docker) -> list[str]:
    """The names of the containers that run; none where Docker does not say."""
    try:
        finished = docker.run("ps", "--format", "{{.Names}}")
    except Unavailable:
        return []
    return finished.stdout.decode("utf-8", "replace").split() if finished.status == 0 else []


def near(name: str, running: Sequence[str]) -> list[str]:
    """Given a container's name and those that run, return what it may be called now. Pure.

    Compose and Swarm put something around a name: `db` becomes `shop-db-1`, `db.1.x3f0` or `a8ef7c_db`.
    """
    wanted, others = _plain(name), [other for other in running if not other.startswith("pgbackup-")]
    found = [other for other in others if wanted in _plain(other)]
    found = found or [other for other in others if len(other) > 3 and _plain(other) in wanted]
    return (found or difflib.get_close_matches(name, others, cutoff=0.75))[:_MOST_TOLD]


def _plain(name: str) -> str:
    """A name without what Swarm puts behind it and Compose, for a moment, in front of it."""
    core = re.sub(r"^[0-9a-f]{12}_|\.[0-9]+\.[0-9a-z]+$", "", name.lower())
    return re.sub(r"[-_.]+", "-", core)


def server_port(arguments: Sequence[str], environment: Sequence[str]) -> str:
    """Given a container's arguments and environment, return the server's port: as postgres(1) reads them."""
    port = next((word[7:] for word in environment if word.startswith("PGPORT=")), "") or "5432"
    line = "\0".join(["", *arguments, ""])
    for found in re.finditer(r"\0(?:-p\0?|--port=|-c\0?port=|-p=)([0-9]+)(?=\0)", line):
        port = found.group(1)
    return port


_LISTENING = """
head -n 4 "${PGDATA:-/var/lib/postgresql/data}/postmaster.pid" 2>/dev/null | tail -n 1
for socket in /var/run/postgresql/.s.PGSQL.* /tmp/.s.PGSQL.*; do echo "${socket##*.}"; done
"""


def listening_port(container_id: str, docker: Docker) -> str:
    """The port that a server in a container says it listens at, "" where that cannot be told.

    By postmaster.pid (PostgreSQL manual, 66.1 Database File Layout), else by its one socket: the port may stand in a
    configuration file.
    """
    try:
        finished = docker.run("exec", container_id, "sh", "-c", _LISTENING)
    except SuiteError:
        return ""
    ports = [word for word in finished.stdout.decode("utf-8", "replace").split() if word.isdigit()]
    return ports[0] if len(set(ports)) == 1 else ""


def blamed(error: SuiteError, client: Client) -> SuiteError:
    """Given the failure of a program next to a database, return the one to report: the container's, if it is at
    fault (paused, stopped, gone, replaced by another one), else the same.
    """
    if not client.container_id:
        return error
    target = client.target
    try:
        found = inspect(target, client.settings.docker)
    except SuiteError as gone:
        return gone
    if found.id != client.container_id:
        return Unavailable(
            f"container '{target.container}' was replaced by another one in the middle of the work",
            "run it again when nobody is deploying",
        )
    return error if found.status == "running" else _not_running(found, target)


def _not_running(found: Container, target: Target) -> Unavailable:
    verb = {"paused": "unpause", "restarting": "logs --tail 20"}.get(found.status, "start")
    return Unavailable(f"container '{target.container}' is {found.status}", f"docker {verb} {target.container}")


def has_image(image: str, docker: Docker) -> bool:
    """Whether an image, by its full id, is on this host. Raise Unavailable where Docker is silent."""
    return docker.run("image", "inspect", "--format", "{{.Id}}", "--", image).status == 0


def image_major(image: str, docker: Docker) -> int | None:
    """The major version of the PostgreSQL in an image, None where it does not tell."""
    alone = ("run", "--rm", "--pull", "never", "--network", "none", "--entrypoint", "postgres")
    finished = docker.run(*alone, image, "--version")
    found = re.search(rb"\(PostgreSQL\) (\d+)", finished.stdout)
    return int(found[1]) if finished.status == 0 and found else None
