"""Side by side: the guide's pipeline, other pipelines and ours, on one database."""

from __future__ import annotations

import re
import shutil
import subprocess

import contenders
import ways
from contenders import Table
from scene import Scene, missing_tools

CLIENTS = ("sidecar", "exec", "direct")


def measure(scene: Scene, rows: int, rounds: int) -> list[Table]:
    """Return one table: seconds, CPU seconds, memory and file size of every way."""
    database = scene.payments(rows)
    left_out = missing_tools({"pigz": "pigz", "zstd": "zstd"})
    ways_here = [
        ways.floor(scene, database),
        ways.guide(scene, database, after="gunzip -t"),
        *(ways.piped(scene, database, tool, tool) for tool in ("pigz", "zstd") if tool not in left_out),
        ways.compressed_by_pg_dump(scene, database, "-Z1", "plain_z1"),
        ways.compressed_by_pg_dump(scene, database, "-Fc", "custom"),
        ways.directory_format(scene, database),
    ]
    problem = no_pg_dump_here(scene.server.major)
    for client in CLIENTS:
        if client == "direct" and problem:
            left_out["backup-postgres.sh, direct"] = problem
            continue
        ways_here.append(ways.ours(scene, database, client, scene.folder(f"ours-{client}")))
    size = scene.database_bytes(database)
    title = f"Backup of a payment_db of {size / 1e9:.2f} GB ({rows:,} payments)"
    table = contenders.compare("backup", title, ways_here, rounds, left_out)
    table.facts |= {"payments": rows, "database_bytes": size}
    contenders.derived(
        table,
        "guide",
        "guide_checked",
        "docker exec pg_dump | gzip, then gunzip -t",
        lambda run: run["seconds"] + run["after_seconds"],
    )
    for client in CLIENTS:
        contenders.derived(
            table,
            f"ours_{client}",
            f"ours_{client}_published",
            f"backup-postgres.sh, {client}, less its read-back",
            lambda run: run["seconds"] - run["read_back_seconds"],
        )
    return [table]


def no_pg_dump_here(major: int) -> str:
    """Why the direct client cannot be measured: it needs a pg_dump on the host that is as new as the server."""
    if not shutil.which("pg_dump"):
        return f"no pg_dump on this host. Hint: sudo apt-get install postgresql-client-{major}"
    said = subprocess.run(["pg_dump", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\) (\d+)", said)
    if not found or int(found[1]) < major:
        return f"pg_dump on this host is too old for PostgreSQL {major}: {said.strip()}"
    return ""
