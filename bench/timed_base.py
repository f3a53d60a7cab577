"""One base backup as backup-postgres.sh makes it, due or not: prints its phases, name and bytes as JSON.

    bench/timed_base.py     with the environment of our commands; the database's WAL is being received

What it has made stays, and nothing expires.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))

from pgbackup.commands import archiving, base_backup, base_proof
from pgbackup.commands.job import timed
from pgbackup.report.progress import Reporter
from pgbackup.settings import config
from pgbackup.store import folder, lock
from pgbackup.store.wal import archive, recoverable

PHASES = {"stream": (base_backup, "_received"), "proof": (base_proof.Proof, "of")}


def main() -> int:
    """Make it, with a clock around the two functions that take the time."""
    seconds: dict[str, float] = {}
    for phase, (place, name) in PHASES.items():
        setattr(place, name, _clocked(getattr(place, name), seconds, phase))
    settings = config.load(os.environ, Path("/nonexistent/.env"), {})
    (target,) = settings.targets
    silent = Reporter(lambda _text: None, lambda _text: None, None)
    with (
        folder.opened(settings.backup_dir, create=False, top=True) as top,
        archive.opened(settings.backup_dir, target.directory, create=False) as places,
        lock.held(places.top, archiving.BASE),
    ):
        job = archiving.job_at(settings, target, top, silent)
        begun = time.monotonic()
        name, record = base_backup.take(archiving.job_of(job, places, places.base), recoverable.look(places))
        seconds["take"] = round(time.monotonic() - begun, 3)
    print(json.dumps({"seconds": seconds, "name": name, "bytes": record.bytes, "proven": record.proven}))
    return 0


def _clocked(function: Callable[..., Any], seconds: dict[str, float], phase: str) -> Callable[..., Any]:
    def clocked(*arguments: Any) -> Any:
        with timed(seconds, phase):
            return function(*arguments)

    return clocked


if __name__ == "__main__":
    sys.exit(main())
