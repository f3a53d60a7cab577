"""The ways to make a backup that are compared: the guide's pipeline, other pipelines, and ours."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import contenders
from contenders import FLOOR, OURS, PEER, Contender, Run
from scene import USER, Scene

BACKUP = "scripts/backup-postgres.sh --json --quiet"
VERIFY = "scripts/verify-backups.sh --json --quiet"


def dump(database: str, *options: str) -> str:
    """The guide's `docker exec … pg_dump …`."""
    return " ".join(['docker exec "$CONTAINER" pg_dump', *options, "-U", USER, database])


def floor(scene: Scene, database: str) -> Contender:
    """pg_dump with nowhere to go: no one who uses it can be faster."""
    inside = shlex.quote(f"pg_dump -U {USER} {database} >/dev/null")
    line = f'docker exec "$CONTAINER" sh -c {inside}'
    return Contender("floor", "pg_dump > /dev/null inside the container (the floor)", FLOOR, line, scene.environment)


def piped(scene: Scene, database: str, program: str, key: str, after: str = "", remark: str = "") -> Contender:
    """`docker exec pg_dump | program > file`. after: a program that is measured on the file afterwards."""
    output = scene.place / f"{key}.out"
    line = f'{dump(database)} | {program} > "$PLACE"/{output.name}'
    checked = f'{after} < "$PLACE"/{output.name}' if after else ""
    label = f"docker exec pg_dump | {program}{remark}"
    return Contender(key, label, PEER, line, scene.environment, output=output, after=checked)


def guide(scene: Scene, database: str, after: str = "") -> Contender:
    """The pipeline of the operator's guide."""
    return piped(scene, database, "gzip", "guide", after, " (the guide)")


def compressed_by_pg_dump(scene: Scene, database: str, option: str, key: str) -> Contender:
    """pg_dump's own compression, to a file through `docker exec`."""
    output = scene.place / f"{key}.out"
    line = f'{dump(database, option)} > "$PLACE"/{output.name}'
    return Contender(key, f"docker exec pg_dump {option} > file", PEER, line, scene.environment, output=output)


def directory_format(scene: Scene, database: str) -> Contender:
    """pg_dump -Fd with two jobs: it needs a directory, so it runs in a container beside the server, as ours does."""
    output, image = scene.place / "directory", scene.server.image
    who = f"{os.geteuid()}:{os.getegid()}"
    line = (
        f'docker run --rm --network container:"$CONTAINER" --user {who} -v "$PLACE":/out'
        f" --entrypoint pg_dump {image} -h 127.0.0.1 -U {USER} -Fd -j2 -f /out/{output.name} {database}"
    )
    label = "pg_dump -Fd -j2, in a container beside the server"
    return Contender("directory", label, PEER, line, scene.environment, output=output)


def ours(
    scene: Scene, database: str, client: str, folder: Path, *, key: str = "", label: str = "", arguments: str = ""
) -> Contender:
    """scripts/backup-postgres.sh with a client, the file read back and checked. `folder` is emptied before each run."""

    def inspect(stdout: str) -> Run:
        run: Run = {"read_back_seconds": phase(stdout, "read_back"), "dump_seconds": phase(stdout, "dump")}
        files = [file for file in (folder / "payment").glob("*.sql.gz") if not file.is_symlink()]
        return {**run, "file_bytes": max(file.stat().st_size for file in files)}

    return Contender(
        key or f"ours_{client}",
        label or f"backup-postgres.sh, {client}",
        OURS,
        f"{BACKUP} {arguments}".rstrip(),
        scene.settings(database, folder, client),
        inspect=inspect,
        prepare=lambda: contenders.remove(folder / "payment"),
    )


def phase(stdout: str, name: str) -> float:
    """Seconds of one phase of the only database in the document of backup-postgres.sh --json. Raise LookupError."""
    seconds: dict[str, Any] = contenders.only_document(stdout)["databases"][0]["seconds"]
    return float(seconds[name])
