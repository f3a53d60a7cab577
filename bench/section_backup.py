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
    """Return two tables: every way; the guide's and ours on the demo's data, which are easy to compress."""
    return [_all_ways(scene, rows, rounds), _demo(scene, 2 * rows, rounds)]


def _all_ways(scene: Scene, rows: int, rounds: int) -> Table:
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
    _add_derived(table)
    return table


def _demo(scene: Scene, rows: int, rounds: int) -> Table:
    database = scene.demo_payments(rows)
    ways_here = [
        ways.floor(scene, database),
        ways.guide(scene, database, after="gunzip -t"),
        ways.ours(scene, database, "sidecar", scene.folder("demo")),
    ]
    size = scene.database_bytes(database)
    title = f"The demo's data, easier to compress: {size / 1e9:.2f} GB ({rows:,} payments)"
    table = contenders.compare("demo", title, ways_here, rounds, {})
    table.facts |= {"payments": rows, "database_bytes": size}
    _add_derived(table)
    scene.drop(database)
    return table


def _add_derived(table: Table) -> None:
    """Add what follows from two measurements: the guide's pipeline with a check, and ours without one."""
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


def no_pg_dump_here(major: int) -> str:
    """Why the direct client cannot be measured: it needs a pg_dump on the host that is as new as the server."""
    if not shutil.which("pg_dump"):
        return f"no pg_dump on this host. Hint: sudo apt-get install postgresql-client-{major}"
    said = subprocess.run(["pg_dump", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\) (\d+)", said)
    if not found or int(found[1]) < major:
        return f"pg_dump on this host is too old for PostgreSQL {major}: {said.strip()}"
    return ""
