"""What came of a restore: for the line in restore-history.jsonl, the JSON document and the people who wait."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from pgbackup.commands.job import timed
from pgbackup.report import history
from pgbackup.report.result import instant


@dataclass
class Record:
    """place: of OFFSITE, where the file was fetched from, "" for this host. seconds: by phase. downtime_seconds: how
    long the services were stopped. replaced: what the old one is called. safety: the backup of what was dropped.
    unwell: what is wrong with the services. swapped: the restored database is in its place. compared: the tables of
    backup and live database, as loss.Compared. unreplayed: what of the dump it lacks, with --keep-going. began:
    something was changed, so it belongs into the history.
    """

    target: str
    database: str
    action: str
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    who: str = field(default_factory=history.who)
    file: str = ""
    place: str = ""
    into: str = ""
    rows: int = 0
    tables: int = 0
    sql_bytes: int = 0
    replaced: str = ""
    safety: str = ""
    swapped: bool = False
    unreplayed: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    downtime_seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    unwell: list[str] = field(default_factory=list)
    health: str = ""
    status: int = 0
    outcome: str = ""
    hint: str | None = None
    began: bool = False
    compared: list[dict[str, Any]] = field(default_factory=list)

    def timed(self, phase: str) -> AbstractContextManager[None]:
        return timed(self.seconds, phase)

    def document(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {**asdict(self), "started": instant(self.started)}

    def line(self) -> dict[str, Any]:
        """What of it belongs into the history: not every table."""
        return {key: value for key, value in self.document().items() if key != "compared"}
