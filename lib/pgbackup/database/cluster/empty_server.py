"""An empty server for a drill, started where it can do no harm: in a throwaway container, or from the host's programs.

It has no network, nothing in it has to survive a crash, and it is gone with the block, or with the process.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pgbackup import interrupt, proc
from pgbackup.database.clients import failures
from pgbackup.database.clients.client import Client, Run
from pgbackup.database.clients.direct import Direct
from pgbackup.database.clients.sidecar import INSIDE
from pgbackup.database.cluster import libraries, throwaway
from pgbackup.database.cluster.libraries import PRELOADED
from pgbackup.database.cluster.throwaway import DISK, NOBODY
from pgbackup.database.questions.facts import INSTANCE
from pgbackup.errors import Unavailable
from pgbackup.settings.config import Settings, Target
from pgbackup.sql.naming import identifier, literal

_READY = "database system is ready to accept connections"
_TICK_SECONDS = 0.05
# Of 1,024, which others have: as `nice -n 10` on the host. With less it would never end beside a busy database.
_CPU_SHARES = "102"
_PACKAGED = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin", "/usr/local/pgsql/bin")


@dataclass(frozen=True)
class Site:
    """Where the server is to run. client: asks it. server: given a program, the argument list that runs it as the
    server's account. put: writes a small file, by its name. disk: the server's own directory; notes: where it finds
    what was put.
    """

    client: Client
    server: Callable[[Sequence[str]], list[str]]
    put: Callable[[str, str], None]
    disk: str
    notes: str


@contextmanager
def in_container(target: Target, settings: Settings, run: Run, image: str, pipes: Path) -> Iterator[Site]:
    """Give a site in a throwaway container of that image, behind all others where processors are scarce."""
    limits = ["--cpu-shares", _CPU_SHARES, "--shm-size", f"{settings.recovery_megabytes // 2}m"]
    if settings.drill_cpus:
        limits += ["--cpus", str(settings.drill_cpus)]
    with throwaway.started(target, settings, run, image, pipes, settings.recovery_megabytes, limits) as container:
        container.memory_bytes = settings.recovery_megabytes << 20
        container.processors = settings.drill_cpus or container.processors
        container.name_user()
        yield Site(container, container.command, container.place, DISK, INSIDE)


@contextmanager
def on_host(target: Target, settings: Settings, run: Run, major: int) -> Iterator[Site]:
    """Give a site on this host, with the host's own programs. Raise Unavailable where it has none of that major."""
    own = programs(major)
    _sweep(run)
    place = Path(tempfile.mkdtemp(prefix=run.family))
    try:
        prefix = ["nice", "-n", "10", "setpriv", "--pdeathsig", "KILL"]
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            os.chown(place, NOBODY, NOBODY)
            prefix += [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]

        def put(name: str, content: str) -> None:
            (place / name).write_text(content, encoding="utf-8")
            (place / name).chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)

        def server(program: Sequence[str]) -> list[str]:
            path = own / program[0]
            return [*prefix, str(path) if path.exists() else program[0], *program[1:]]

        client = Direct(target, settings, run)
        client.connection = {"host": str(place), "port": "5432", "user": target.user}
        client.memory_bytes = settings.recovery_megabytes << 20
        yield Site(client, server, put, str(place), str(place))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _sweep(run: Run) -> None:
    """Remove what a killed drill has left; its lock is held, and its server died with it."""
    for left in Path(tempfile.gettempdir()).glob(f"{run.family}*"):
        shutil.rmtree(left, ignore_errors=True)


def programs(major: int) -> Path:
    """Return the directory of this host's programs of that major version, a server's among them.

    Raise Unavailable where there is none.
    """
    wanted = f"(PostgreSQL) {major}."
    path = proc.environment()["PATH"].split(":")
    for directory in map(Path, [*path, *(each.format(major=major) for each in _PACKAGED)]):
        if not (directory / "initdb").exists() or not (directory / "postgres").exists():
            continue
        directory = (directory / "postgres").resolve().parent  # a link beside a few others: the rest lies there
        said = proc.run([str(directory / "postgres"), "--version"], seconds=10)
        if wanted in said.stdout.decode("utf-8", "replace"):
            return directory
    raise Unavailable(
        f"there are no programs of a PostgreSQL {major} server on this host, to load the backup into one",
        f"sudo apt-get install postgresql-{major}",
    )


@contextmanager
def running(site: Site, origin: Mapping[str, str], tablespaces: Sequence[str]) -> Iterator[list[str]]:
    """Make a cluster there and let its server answer for the length of the block, to a superuser of the target's name.

    origin: settings of the server that the backup is of. tablespaces: to be made. Give what it has to do without.
    Raise Unavailable.
    """
    data, client = f"{site.disk}/data", site.client
    words = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    _say(site, ["initdb", f"--username={client.target.user}", *words, f"--pgdata={data}"])
    missing = libraries.missing(client, origin) if site.notes == INSIDE else []
    site.put("postgresql.conf", configuration(site, origin, missing))
    program = ["postgres", "-D", data, f"--config_file={site.notes}/postgresql.conf", f"--hba_file={data}/pg_hba.conf"]
    with proc.Program(site.server(program)) as server:
        deadline = client.settings.load_stall_seconds / _TICK_SECONDS
        while _READY not in server.stderr:
            interrupt.check()
            deadline -= 1
            if server.status is not None or deadline < 0:
                raise Unavailable(f"the server of the drill does not start: {failures.first_error(server.stderr)}")
            server.pause(_TICK_SECONDS)
        for number, name in enumerate(tablespaces):
            _say(site, ["mkdir", "-m", "0700", f"{site.disk}/tablespace{number}"])
            location = literal(f"{site.disk}/tablespace{number}")
            client.server_query(f"CREATE TABLESPACE {identifier(name)} LOCATION {location}")
        yield [f"library {name!r}, which is not in the image" for name in missing]


def configuration(site: Site, origin: Mapping[str, str], missing: Sequence[str]) -> str:
    """Return the text of postgresql.conf. missing: libraries that its origin loads and the image lacks. Pure.

    As the manual has it for loading (14.4 Populating a Database), and for a server without durability (14.5).
    """
    megabytes = site.client.settings.recovery_megabytes
    as_origin = {name: origin[name] for name in INSTANCE if name in origin}
    loaded = [name for name in libraries.preloaded(origin) if name not in missing]
    settings = {
        **as_origin,
        PRELOADED: ", ".join('"' + name.replace('"', '""') + '"' for name in loaded),
        "listen_addresses": "",
        "unix_socket_directories": site.disk,
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "autovacuum": "off",
        "shared_buffers": f"{max(16, megabytes // 4)}MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "1h",
        "huge_pages": "off",
        "logging_collector": "off",
        "log_destination": "stderr",
        "lc_messages": "C",
    }
    return "".join(f"{key} = {_quoted(value)}\n" for key, value in settings.items() if value.isprintable())


def _quoted(value: str) -> str:
    """A value as postgresql.conf has it (PostgreSQL manual, 20.1.2)."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _say(site: Site, program: Sequence[str]) -> None:
    finished = proc.run(site.server(program), seconds=site.client.settings.load_stall_seconds)
    if finished.status != 0:
        said = failures.first_error(finished.stderr or finished.stdout.decode("utf-8", "replace"))
        raise Unavailable(f"'{program[0]}' of the drill failed: {said}")
