"""What a set-up may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from pgbackup.host.scheduling.schedule import Schedule


@dataclass(frozen=True)
class Options:
    """user, schedule: None where nothing was asked for, and what is there stays."""

    user: str | None
    schedule: Schedule | None
    dry_run: bool
