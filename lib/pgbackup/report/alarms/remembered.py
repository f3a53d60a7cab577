"""What is known of the alarms: for whoever only looks, without all that tells."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from pgbackup.host.channels import Alerts, Channel
from pgbackup.report.promises import facts
from pgbackup.store import folder
from pgbackup.store.state import alarms
from pgbackup.store.state.alarms import Alarms

# A message that waits longer is no longer on its way: somebody has to know.
_ON_ITS_WAY = timedelta(minutes=10)


def called(backup_dir: Path) -> str:
    """The directory in ALERTS_STATE that remembers what was told of one BACKUP_DIR."""
    return str(backup_dir).strip("/").replace("/", "-")


def keys(channels: Sequence[Channel]) -> tuple[str, ...]:
    """What the channels are called in state files."""
    return tuple(channel.key for channel in channels)


def look(state: Path, backup_dir: Path) -> Alarms:
    """Return what is known of the alarms, nothing where there is nothing. Raise Unreadable, Newer, PermissionDenied."""
    if not os.path.lexists(state / called(backup_dir)):
        return Alarms()
    with folder.opened(state / called(backup_dir), create=False) as own:
        return alarms.read(own)


def facts_of(held: Alarms, alerts: Alerts, now: datetime) -> facts.Alarms:
    """What promises, page and metrics are to know of the alarms. Pure."""
    late = [message.made for message in held.messages().values() if now - message.made > _ON_ITS_WAY]
    failing = [
        f"{channel.name}: {failure.why}" for channel in alerts.channels if (failure := held.failure(channel.key))
    ]
    return facts.Alarms(
        channels=len(alerts.channels),
        tested=held.tested if held.has_arrived(keys(alerts.channels)) else None,
        undelivered=len(late),
        oldest=min(late, default=None),
        problem="; ".join(failing),
        lost=held.lost,
    )
