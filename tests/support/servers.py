"""Real PostgreSQL servers in containers, for the integration tests.

`running(15, database="auth_db", user="auth_user")` yields a `Server` and removes its container and volume
afterwards, whatever happened. What a killed run left behind, `sweep()` removes at the start of the next one.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The reaper of testcontainers would be one more image; we remove what we start ourselves.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"

import psycopg
from testcontainers.core.container import DockerContainer

from tests.support import images

START_SECONDS = 60
CONNECT_SECONDS = 5
OWNER = "pgbackup-test.owner"  # label: the process that a container belongs to

# Where a container was last, by its id: to ask costs as much as a session. Another server there knows another password.
_ADDRESSES: dict[str, str] = {}

# For servers that no test crashes: nothing of them has to survive a power cut.
_CARELESS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class ServerFailed(Exception):
    """A server did not start, or a program in its container failed; with what it said."""


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL container.

    name, id, image: of the container; image is the image's name. user: a superuser, as in the official image.
    """

    name: str
    id: str
    image: str
    major: int
    database: str
    user: str
    password: str = field(repr=False)

    @property
    def address(self) -> str:
        """The container's present address on the bridge network; a restart may change it."""
        found = docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", self.id)
        return next((network["IPAddress"] for network in json.loads(found.stdout).values()), "")

    def dsn(self, database: str | None = None, user: str | None = None) -> str:
        """A connection string for psycopg on this host, with the password."""
        return self._dsn_at(self.address, database, user)

    def passfile(self, directory: Path) -> Path:
        """Make a .pgpass file that opens the server from anywhere, once in a directory; return its path."""
        file = directory / f"{self.name}.pass, file"
        if not file.exists():
            directory.mkdir(parents=True, exist_ok=True)
            file.touch(0o600)
            file.write_text(f"*:*:*:*:{self.password}\n")
        return file

    def connect(self, database: str | None = None, **options: Any) -> psycopg.Connection:
        """Open a session of the test's own, in autocommit unless the options say otherwise."""
        address, options = _ADDRESSES.get(self.id), {"autocommit": True, **options}
        try:
            return psycopg.connect(self._dsn_at(address or self._present_address(), database), **options)
        except psycopg.OperationalError:
            if address is None or address == self._present_address():
                raise
        return psycopg.connect(self.dsn(database), **options)

    def _present_address(self) -> str:
        _ADDRESSES[self.id] = self.address
        return _ADDRESSES[self.id]

    def _dsn_at(self, address: str, database: str | None = None, user: str | None = None) -> str:
        return psycopg.conninfo.make_conninfo(
            host=address,
            port=5432,
            dbname=database or self.database,
            user=user or self.user,
            password=self.password,
            connect_timeout=CONNECT_SECONDS,
        )

    def sql(self, text: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements in a session that ends with them, and return the rows of the last one.

        What cannot run in a transaction (CREATE DATABASE) has to be the only statement.
        """
        with self.connect(database) as session:
            cursor = session.execute(text.encode())
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def psql(self, *arguments: str, database: str | None = None, stdin: str | bytes = b"") -> str:
        """Run psql inside the container and return what it printed; raise ServerFailed at the first error."""
        command = [
            "psql",
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            self.user,
            "-d",
            database or self.database,
        ]
        return self.exec([*command, *arguments], stdin=stdin).stdout

    def psql_file(self, path: Path | str, database: str | None = None) -> str:
        """Load a file of this host, plain or .gz, with the container's psql; return what it printed."""
        data = Path(path).read_bytes()
        if str(path).endswith(".gz"):
            data = subprocess.run(["gunzip", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
        return self.psql("-f", "-", database=database, stdin=data)

    def exec(
        self,
        arguments: Sequence[str],
        *,
        user: str | None = None,
        stdin: str | bytes = b"",
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside the container, as root or as `user`."""
        options = ["-i", *(["--user", user] if user else [])]
        return docker("exec", *options, self.id, *arguments, stdin=stdin, check=check)

    def logs(self) -> str:
        """All that the server has said."""
        done = docker("logs", self.id, check=False)
        return done.stdout + done.stderr

    def restart(self) -> None:
        """Stop the server cleanly, start it again, and wait until it answers."""
        docker("restart", self.id)
        self.wait()

    def kill(self) -> None:
        """Kill the server with SIGKILL, as a power cut would."""
        docker("kill", self.id)

    def start(self) -> None:
        """Start a server that was stopped or killed, and wait until it answers.

        More than once if need be: the engine can take the end of the container that was killed for that of the one
        that was started just after it.
        """
        for remaining in (2, 1, 0):
            docker("start", self.id)
            try:
                self.wait()
            except ServerFailed:
                if not remaining:
                    raise
            else:
                return

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Wait until the server answers from outside, so after its set-up; raise ServerFailed."""
        deadline = time.monotonic() + seconds
        dsn = self.dsn()
        for number in itertools.count(1):
            with suppress(psycopg.OperationalError):
                psycopg.connect(dsn).close()
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
            if number % 10:
                continue
            state = docker("inspect", "--format", "{{json .State}}", self.id).stdout.strip()
            if not json.loads(state)["Running"]:
                raise ServerFailed(f"container '{self.name}' ended: {state} {self.logs()[-2000:]}")
            dsn = self.dsn()
        raise ServerFailed(f"'{self.name}' did not answer within {seconds} s: {self.logs()[-2000:]}")


def docker(
    *arguments: str, stdin: str | bytes = b"", check: bool = True, seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run the Docker client; raise ServerFailed with its last words unless `check` is false."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(["docker", *arguments], input=data, capture_output=True, timeout=seconds, check=False)
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if check and done.returncode != 0:
        raise ServerFailed(f"`docker {' '.join(arguments)[:300]}` ended with {done.returncode}: {err.strip()[-2000:]}")
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


@contextmanager
def running(
    major: int,
    *,
    name: str | None = None,
    database: str = "postgres",
    user: str = "postgres",
    password: str | None = None,
    settings: Mapping[str, str | int] | None = None,
    environment: Mapping[str, str] | None = None,
    initdb: Sequence[str] = (),
    mounts: Mapping[Path, str] | None = None,
    tmpfs: Mapping[str, str] | None = None,
    durable: bool = False,
    wait: bool = True,
    **container: Any,
) -> Iterator[Server]:
    """Yield a running server of `major` in a container of its own; afterwards container and volume are gone.

    name: of the container; made up and unique when not given, and made unique when it ends in "-".
    settings: for the server's command line. initdb: arguments for initdb, each without spaces.
    mounts: host directory -> path inside. tmpfs: path inside -> size ("300m").
    durable: keep fsync on, for tests that crash the server. wait: until it answers from outside.
    container: whatever docker-py's `containers.create` takes (`network_mode`, `mem_limit` …).
    """
    unique = f"pgbackup-test-{secrets.token_hex(4)}"
    name = unique if name is None else f"{name}{secrets.token_hex(4)}" if name.endswith("-") else name
    password = password if password is not None else secrets.token_urlsafe(12)
    image = images.ensure(major)
    server_settings = {**({} if durable else _CARELESS), **(settings or {})}
    labels = {**container.pop("labels", {}), OWNER: _owner(os.getpid())}
    started = (
        DockerContainer(image)
        .with_name(name)
        .with_envs(
            POSTGRES_USER=user,
            POSTGRES_DB=database,
            POSTGRES_PASSWORD=password,
            POSTGRES_INITDB_ARGS=" ".join(["--no-sync", *initdb]),
            **(environment or {}),
        )
        .with_command(
            [
                "postgres",
                *(word for key, value in server_settings.items() for word in ("-c", f"{key}={value}")),
            ]
        )
        .with_kwargs(labels=labels, **container)
    )
    for host, inside in (mounts or {}).items():
        started.with_volume_mapping(host, inside, "rw")
    for inside, size in (tmpfs or {}).items():
        started.with_tmpfs_mount(inside, f"size={size}")
    try:
        started.start()
        server = Server(name, started.get_container_id(), image, major, database, user, password)
        if wait:
            server.wait()
        yield server
    finally:
        # By name, because a test may have removed or replaced the container.
        docker("rm", "-fv", name, check=False)
        started.get_docker_client().client.close()


def sweep() -> None:
    """Remove the containers of test runs that were killed; those of a run that goes on are left alone."""
    listed = docker("ps", "-aq", "--no-trunc", "--filter", f"label={OWNER}").stdout.split()
    for container in listed:
        found = docker("inspect", "--format", f'{{{{index .Config.Labels "{OWNER}"}}}}', container, check=False)
        namespace, _, pid_and_start = found.stdout.strip().partition("/")
        pid = pid_and_start.partition("/")[0]
        if namespace == _namespace() and pid.isdigit() and _owner(int(pid)) != found.stdout.strip():
            docker("rm", "-fv", container, check=False)


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _owner(pid: int) -> str:
    """What tells a process from all others on this machine: its pid namespace, pid and time of start."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{_namespace()}/{pid}/{after_name[19]}/{boot}"
