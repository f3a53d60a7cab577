"""Many backups out of a real one, as a directory has them after many nights."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

import contenders
from measure import MeasuredFailed
from scene import manifest


def copy_dated(directory: Path, database: str, moments: Iterable[datetime], into: Path) -> None:
    """Put a good backup for each moment into a directory: the one of `directory` over and over.

    Each has a manifest that names its own time, as its file name does. Raise MeasuredFailed.
    """
    original = next(file for file in directory.glob("*.sql.gz") if not file.is_symlink())
    with original.open("rb") as file:
        found = manifest.read(file.fileno(), contenders.size(original))
    if found is None:
        raise MeasuredFailed(f"'{original.name}' has no manifest")
    dump, raw = original.read_bytes()[: -found[1]], found[0].raw
    for moment in moments:
        told = f"{moment.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
        copy = into / f"{database}_{moment.astimezone():%Y%m%d_%H%M%S}.sql.gz"
        copy.touch(0o600)
        copy.write_bytes(dump + manifest.encoded({**raw, "started": told, "ended": told}))
