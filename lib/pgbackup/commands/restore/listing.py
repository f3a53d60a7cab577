"""restore-postgres.sh --list and --history: what can be restored, and what was."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime, timezone
from typing import Any

from pgbackup.commands import lost_settings
from pgbackup.errors import BackupBad, NoBackup
from pgbackup.report import history
from pgbackup.report.log import advice, say
from pgbackup.report.result import Result, age, document, instant, size, table
from pgbackup.settings.config import Settings, Target
from pgbackup.store import catalog, folder, source
from pgbackup.store.catalog import Backup
from pgbackup.store.folder import Folder
from pgbackup.store.state import drills

_MOST = 1000


def listing(settings: Settings, target: Target) -> Result:
    """Show the backups of one database, newest first, each read through. Status 66 when there is no good one."""
    now = datetime.now(timezone.utc)
    path = settings.backup_dir / target.directory
    with ExitStack() as stack:
        top = stack.enter_context(folder.opened(settings.backup_dir, create=False, top=True))
        others = lost_settings.found(settings, top)
        place = stack.enter_context(folder.opened(path, create=False)) if os.path.lexists(path) else None
        backups = catalog.listing(place, target.database) if place else []
        looks = [_look(place, backup) for backup in backups] if place else []
        drilled, unknown = drills.look(place, target.database) if place else (drills.Drills(), "")
    if unknown:
        say(f"restore-postgres.sh: {target.name}: warning: {unknown}")
    rows = [
        [
            str(path / backup.name),
            age((now - backup.taken).total_seconds()),
            size(backup.bytes),
            f"{sum(rows.values()):,}",
            drilled.state(backup.sha256),
            state,
        ]
        for backup, (state, rows) in zip(backups, looks, strict=True)
    ]
    files = [
        {
            "file": str(path / backup.name),
            "taken": instant(backup.taken),
            "file_bytes": backup.bytes,
            "state": state,
            "rows": counts,
            **drilled.entry(backup.sha256),
        }
        for backup, (state, counts) in zip(backups, looks, strict=True)
    ]
    status = 0 if any(not state.startswith(("BAD", "unknown")) for state, _ in looks) else NoBackup.status
    lines = table(["file", "age", "size", "rows", "drilled", "state"], rows, right=(1, 2, 3)) if rows else []
    if not lines:
        lines = [f"there is no backup of '{target.database}' in '{path}'", *lost_settings.told(top, others)]
        lines += [advice(lost_settings.hint(others))] if others else []
    contents = document(
        "restore --list",
        status,
        database=target.database,
        files=files,
        unclaimed=lost_settings.entries(others),
    )
    return Result(status, lines, contents)


def _look(place: Folder, backup: Backup) -> tuple[str, dict[str, int]]:
    """Read a backup through and return its state and the rows in it."""
    if backup.problem:
        return f"{'unknown' if backup.denied else 'BAD'}: {backup.problem}", {}
    try:
        contents = source.read_through(place, backup.name)
    except (BackupBad, OSError) as error:
        return f"BAD: {error}", {}
    return "verified" if contents.manifest else "complete (no manifest)", contents.rows


def past(settings: Settings, target: Target) -> Result:
    """Show the restores of one database, newest first."""
    with folder.opened(settings.backup_dir, create=False, top=True) as top:
        records = history.newest(top, lambda record: _is_restore(record, target.name), _MOST)
    rows = [
        [
            str(record.get("started")), str(record.get("who")), str(record.get("action")),
            str(record.get("outcome")), f"{_number(record.get('rows')):,.0f}",
            f"{_seconds(record.get('seconds')):.1f}", f"{_number(record.get('downtime_seconds')):.1f}",
            str(record.get("file")),
        ]
        for record in records
    ]  # fmt: skip
    heads = ["started (UTC)", "who", "what", "outcome", "rows", "seconds", "downtime", "file"]
    lines = table(heads, rows, right=(4, 5, 6)) if rows else [f"nothing was restored into '{target.database}' yet"]
    return Result(0, lines, document("restore --history", 0, database=target.database, restores=records))


def _is_restore(record: Mapping[str, Any], target: str) -> bool:
    """Whether a record is of a restore, rollback, drop or drill of that database; backups have a list of their own."""
    return record.get("target") == target and record.get("action") not in ("backup", "verify", "copy")


def _number(value: object) -> float:
    """What stands where a number should, in a file that anybody may have edited."""
    return value if isinstance(value, int | float) else 0


def _seconds(phases: object) -> float:
    return sum(map(_number, phases.values())) if isinstance(phases, dict) else 0
