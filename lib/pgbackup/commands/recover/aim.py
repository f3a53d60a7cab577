"""Where a recovery is to go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Aim:
    """kind: time, lsn, xid, name or latest. text: as it was typed, "" for latest.

    moment: of a time. position: of an LSN, the byte's number.
    """

    kind: str
    text: str = ""
    moment: datetime | None = None
    position: int | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.text}" if self.text else "the latest commit"
