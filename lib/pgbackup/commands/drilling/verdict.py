"""What came of a drill."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pgbackup.commands.loading.record import Record

PASSED, FAILED, NOT_DONE = "passed", "failed", "not done"
_OF_A_RESTORE = ("fetch", "recovery", "load", "indexes", "finish")


@dataclass
class Drill:
    """verdict: PASSED, all compared and equal; FAILED: why is in record.outcome; NOT_DONE: nothing is known.

    record: what was drilled, and for how long. steps: what was compared, in order. notes: what is not as a reader may
    expect, and no fault of the backup. sha256, schema: of the dump, as its manifest has them; "" if not known.
    """

    record: Record
    verdict: str = NOT_DONE
    steps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sha256: str = ""
    schema: str = ""

    @property
    def restore_seconds(self) -> float:
        """How long a restore takes by this drill: without what only a drill does, and without the reading before it."""
        return round(sum(self.record.seconds.get(phase, 0.0) for phase in _OF_A_RESTORE), 1)

    def document(self) -> dict[str, Any]:
        """The drill as JSON values."""
        record = self.record
        return {
            "target": record.target,
            "database": record.database,
            "file": record.file,
            "verdict": self.verdict,
            "status": record.status,
            "error": record.outcome if record.status else "",
            "hint": record.hint,
            "tables": record.tables,
            "rows": record.rows,
            "sql_bytes": record.sql_bytes,
            "steps": self.steps,
            "notes": self.notes,
            "seconds": record.seconds,
            "restore_seconds": self.restore_seconds,
        }
