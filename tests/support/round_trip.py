"""The way of a database into a backup and back: content to fill it with, the real script, the guide's commands.

PGBACKUP_TEST_SCALE=256 makes the heavy run of it: 100,000 large objects, fields of 256 MB.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import equality, images, runs
from tests.support.servers import Server, docker

ROOT = Path(__file__).parents[2]
CONTENT = ROOT / "tests" / "integration" / "content"
SCALE = int(os.environ.get("PGBACKUP_TEST_SCALE", "1"))
VARIABLES = {"large_objects": 400 * SCALE, "big_bytes": 2**20 * SCALE}
EXTENSION = ("shop_settings.control", "shop_settings--1.0.sql")


def fill(server: Server) -> None:
    """Load all content that the server's version and extensions allow."""
    load(server, "postgres", CONTENT / "cluster" / "shared.sql")
    files = sorted(CONTENT.glob("*.sql"))
    if server.major >= 18:
        files += sorted((CONTENT / "18").glob("*.sql"))
    if server.sql("SELECT 1 FROM pg_available_extensions WHERE name = 'hstore'"):
        share = server.sql("SELECT setting FROM pg_config WHERE name = 'SHAREDIR'")[0][0]
        for name in EXTENSION:
            docker("cp", str(CONTENT / "contrib" / name), f"{server.id}:{share}/extension/")
        files += [CONTENT / "contrib" / "extensions.sql"]
    for file in files:
        load(server, "content", file)
    load(server, "postgres", CONTENT / "cluster" / "of_the_database.sql")


def load(server: Server, database: str, file: Path) -> None:
    """Load one file of the content with psql."""
    variables = [word for key, value in VARIABLES.items() for word in ("-v", f"{key}={value}")]
    server.psql(*variables, "-f", "-", database=database, stdin=file.read_bytes())


def target(server: Server, database: str, client: str = "sidecar", **more: str) -> dict[str, str]:
    """The settings of one database, without the prefix."""
    return {
        "CONTAINER": server.name,
        "DATABASE": database,
        "USER": server.user,
        "CLIENT": client,
        "SERVICES": "",
        "HEALTH_URL": "",
        **more,
    }


@contextmanager
def reached(server: Server, database: str, client: str) -> Iterator[tuple[dict[str, str], str]]:
    """The settings of one database for any client, and the PATH that they need."""
    path = os.environ["PATH"]
    if client != "direct":
        yield target(server, database, client), path
        return
    with runs.passfile(server) as passfile:
        url = f"postgresql://{server.user}@{server.address}:5432/"
        # Of a host that is kept as up to date as its servers: not newer than 16, whose dumps 15 understands.
        path = f"{images.wheel_tree(max(server.major, 16)) / 'bin'}:{path}"
        yield target(server, database, client, URL=url, PASSFILE=passfile), path


def script(
    place: Path,
    targets: Mapping[str, Mapping[str, str]],
    name: str,
    *arguments: str,
    path: str | None = None,
    **more: str,
) -> subprocess.CompletedProcess[str]:
    """Run one of scripts/ with these databases for its settings and `place` for BACKUP_DIR."""
    settings = {f"{target.upper()}_{key}": value for target, of in targets.items() for key, value in of.items()}
    environment = {key: os.environ[key] for key in ("HOME", "LANG", "DOCKER_HOST") if key in os.environ}
    environment |= {"PATH": path or os.environ["PATH"], "BACKUP_DIR": str(place), "DATABASES": " ".join(targets)}
    command = [str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(command, env=environment | settings | more, capture_output=True, text=True, check=False)


def back_up(
    place: Path, targets: Mapping[str, Mapping[str, str]], path: str | None = None, *, drilled: bool = False
) -> dict[str, Path]:
    """Run scripts/backup-postgres.sh on these databases and return the file of each.

    drilled: with the drill after it, which only what the server's own image has can pass.
    """
    drill = "yes" if drilled else "no"
    done = script(place, targets, "backup-postgres.sh", path=path, DRILL_AFTER_BACKUP=drill)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: place / of["CONTAINER"] / f"{of['DATABASE']}_LATEST.sql.gz" for name, of in targets.items()}


def manifest(file: Path) -> dict[str, Any]:
    """The JSON in the comment lines at the end of a backup, found as a person would."""
    tail = "gunzip -c \"$1\" | sed -n '/^-- pgbackup manifest:/,$p' | sed '1d;$d;s/^-- //'"
    found: dict[str, Any] = json.loads(
        subprocess.run(["sh", "-c", tail, "sh", file], capture_output=True, check=True).stdout
    )
    return found


def guide(command: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the guide, as it stands there, with "$1" … for its names."""
    return subprocess.run(["sh", "-c", command, "sh", *arguments], capture_output=True, check=False)


def restore(server: Server, file: Path, database: str, create: str = 'CREATE DATABASE "{0}" OWNER "{1}";') -> None:
    """Follow the guide's manual restore, from terminating sessions to the last line of the dump."""
    psql = 'docker exec "$1" psql -U "$2" -d postgres -c "$3"'
    for statement in (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'",
        f'DROP DATABASE "{database}";',
        create.format(database, server.user),
    ):
        done = guide(psql, server.name, server.user, statement)
        assert done.returncode == 0, done.stderr
    load_it = 'gunzip -c "$4" | docker exec -i "$1" psql -U "$2" -d "$3"'
    done = guide(load_it, server.name, server.user, database, file)
    assert done.returncode == 0, done.stderr
    assert b"ERROR" not in done.stderr, done.stderr.decode(errors="replace")


@contextmanager
def restored(server: Server, file: Path, **options: str) -> Iterator[str]:
    """A database made from the backup, in place of one that was there before; it is dropped afterwards."""
    name = "restored"
    server.sql(f"CREATE DATABASE {name}", "postgres")
    try:
        server.sql("CREATE TABLE of_before ()", name)
        restore(server, file, name, **options)
        yield name
    finally:
        server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", "postgres")


def counted(server: Server, database: str) -> dict[str, int]:
    """Rows of every table that has its own, counted now; named in the dump's bytes as the manifest spells them."""
    with equality.connected((server, database)) as session:
        encoding = session.info.parameter_status("server_encoding")
        names = equality.relations(session, "r")
        equality.find_names(session)
        codec = {"UTF8": "utf-8", "SQL_ASCII": "latin-1", "LATIN1": "latin-1", "EUC_JP": "euc_jp"}[str(encoding)]
        return {
            name.encode(codec).decode("utf-8", "backslashreplace"): number
            for name in names
            for (number,) in session.execute(f"SELECT count(*) FROM ONLY {name}")
        }
