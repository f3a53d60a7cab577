"""How seconds, memory and size grow with the database."""

from __future__ import annotations

import contenders
import ways
from contenders import Table
from scene import Scene

# Megabytes of database -> payments; each makes 1.9 kB of database, and 8 MB are there from the beginning.
SIZES = {10: 1_000, 100: 48_000, 1000: 540_000, 4000: 2_150_000}
MOST_ROUNDS = 3


def measure(scene: Scene, megabytes: list[int], keep: int, rounds: int) -> list[Table]:
    """Return one table for each size. keep: payments of the database that other sections use."""
    tables = []
    for size in megabytes:
        rows = SIZES.get(size, size * 530)
        database = scene.payments(rows)
        found = scene.database_bytes(database)
        ways_here = [
            ways.floor(scene, database),
            ways.guide(scene, database),
            ways.ours(
                scene, database, "sidecar", scene.folder("growth"), label="backup-postgres.sh, sidecar, with read-back"
            ),
        ]
        title = f"Growth: a payment_db of {found / 1e6:,.0f} MB ({rows:,} payments)"
        table = contenders.compare(
            f"growth_{size}", title, ways_here, 1 if size > 1000 else min(rounds, MOST_ROUNDS), {}
        )
        table.facts |= {"payments": rows, "database_bytes": found}
        tables.append(table)
        if rows != keep:
            scene.drop(database)
    return tables
