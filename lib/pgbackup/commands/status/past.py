"""backup-status.sh --history: what was done, by whom, from where to where, how it ended and how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgbackup.report import history
from pgbackup.report.promises.lines import plain
from pgbackup.report.result import Result, document, table
from pgbackup.settings.config import Settings, Target
from pgbackup.store import folder

_MOST = 100
_LONGEST = 60


def run(settings: Settings, targets: Sequence[Target]) -> Result:
    """Show the last hundred events, newest first. targets: of these only, none for all. Raise as folder.opened()."""
    names = {target.name for target in targets}
    with folder.opened(settings.backup_dir, create=False, top=True) as top:
        records = history.newest(top, lambda record: not names or record.get("target") in names, _MOST)
    events = [_event(record) for record in records]
    heads = ["started (UTC)", "who", "what", "database", "status", "seconds", "from", "to", "outcome"]
    rows = [
        [
            each["started"], each["who"], each["action"], each["target"], str(each["status"]),
            f"{each['seconds']:.1f}", each["from"], each["to"], each["outcome"],
        ]
        for each in events
    ]  # fmt: skip
    shown = [[_cell(cell) for cell in row] for row in rows]
    lines = table(heads, shown, right=(4, 5)) if rows else ["nothing has happened yet"]
    return Result(0, lines, document("status --history", 0, events=events))


def _event(record: Mapping[str, Any]) -> dict[str, Any]:
    """What all lines of the history have, in a file that anybody may have edited."""
    action = _text(record.get("action"))
    file, phases = _text(record.get("file")), record.get("seconds")
    seconds = sum(each for each in phases.values() if _is_number(each)) if isinstance(phases, dict) else 0.0
    source = _text(record.get("from")) or _text(record.get("place")) or ("" if action == "backup" else file)
    to = _text(record.get("to")) or _text(record.get("into"))
    if action in ("restore", "rollback") and not to:
        to = _text(record.get("database"))
    status = record.get("status")
    return {
        "started": _text(record.get("started")),
        "who": _text(record.get("who")),
        "action": action,
        "target": _text(record.get("target")),
        "file": file,
        "from": source,
        "to": to,
        "status": status if type(status) is int else -1,
        "seconds": round(float(seconds), 1),
        "outcome": _text(record.get("outcome")),
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _cell(text: str) -> str:
    told = plain(text)
    return told if len(told) <= _LONGEST else told[: _LONGEST - 1] + "…"
