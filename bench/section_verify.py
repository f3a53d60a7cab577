"""Checking the same set of backups: verify-backups.sh against gunzip -t."""

from __future__ import annotations

import time

import contenders
import ways
from contenders import OURS, PEER, Contender, Table
from measure import run as run_once
from scene import Scene, missing_tools

FILES = 4


def measure(scene: Scene, rows: int, rounds: int) -> list[Table]:
    """Return one table, over four backups of one database."""
    database, folder = scene.payments(rows), scene.folder("verify")
    environment = scene.settings(database, folder, "sidecar")
    for _ in range(FILES):
        began = int(time.time())
        run_once(f"{ways.BACKUP}", environment, 0.0)
        while int(time.time()) == began:  # a file's name has seconds: the next one needs another
            time.sleep(0.05)
    files = sorted(file for file in (folder / "payment").glob("*.sql.gz") if not file.is_symlink())
    names = '"$PLACE"/verify/payment/*[0-9].sql.gz'  # the link is left out
    left_out = missing_tools({"pigz": "pigz"})
    lines = [
        ("gunzip", "gunzip -t, one file after the other", PEER, f"gunzip -t {names}"),
        (
            "gunzip_parallel",
            "gunzip -t, two at a time (xargs -P2)",
            PEER,
            f"printf '%s\\n' {names} | xargs -P2 -n1 gunzip -t",
        ),
        *([] if left_out else [("pigz", "pigz -t, one file after the other", PEER, f"pigz -t {names}")]),
        ("ours", "verify-backups.sh", OURS, f"{ways.VERIFY}"),
    ]
    title = f"Verification of {len(files)} backups, {sum(map(contenders.size, files)) / 1e6:.0f} MB in all"
    checks = [Contender(key, label, kind, line, environment) for key, label, kind, line in lines]
    table = contenders.compare("verify", title, checks, rounds, left_out)
    table.facts |= {"files": len(files), "bytes": sum(map(contenders.size, files))}
    contenders.remove(folder)
    return [table]
