"""A copy of the suite that loads whatever it restores as it loads a large backup: in several sessions, row by row."""

from __future__ import annotations

from pathlib import Path

from tests.support import backups

JOBS = "4"
CHANGES = (
    ("commands/loading/fill.py", "_LARGE_BYTES = 64 << 20", "_LARGE_BYTES = 0"),
    ("database/loading/copying.py", "_PIECE_BYTES = 2 << 20", "_PIECE_BYTES = 4000"),
    ("database/loading/copying.py", "_FREEZE_BYTES = 128 << 10", "_FREEZE_BYTES = 100"),
    ("database/loading/psql.py", "client.settings.restore_jobs or", f"{JOBS} or"),
)


def copied(directory: Path) -> Path:
    """Make the copy; return its root."""
    return backups.mutated(directory, *CHANGES)
