"""backup-postgres.sh --dry-run: asks the same questions and makes the same decisions, and changes nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pgbackup.commands import archiving, base_backup
from pgbackup.commands.job import looking
from pgbackup.database.clients import connect
from pgbackup.database.questions import needs
from pgbackup.database.questions.facts import gather
from pgbackup.errors import SuiteError, overall_status
from pgbackup.formats import names
from pgbackup.report.log import advice
from pgbackup.report.result import Result, document, short_version, size
from pgbackup.settings.config import Settings, Target
from pgbackup.store import catalog, folder, retention
from pgbackup.store.catalog import Backup
from pgbackup.store.expiry import Proofs
from pgbackup.store.folder import Folder
from pgbackup.store.state import drills, verified
from pgbackup.store.state.verified import Verified
from pgbackup.store.wal import recoverable
from pgbackup.store.wal.recoverable import counted


def plan(settings: Settings, targets: Sequence[Target]) -> Result:
    """Say for each target what a run would do now. Raise SuiteError only where no run could begin at all."""
    folder.check_mounted(settings.backup_mount, folder.fstab_lines_above(settings.backup_dir))
    entries = [_one(target, settings) for target in targets]
    status = overall_status([entry["status"] for entry in entries])
    lines = [line for entry in entries for line in _lines(entry)]
    return Result(status, lines, document("backup --dry-run", status, databases=entries))


def _one(target: Target, settings: Settings) -> dict[str, Any]:
    now = datetime.now(timezone.utc)
    path = settings.backup_dir / target.directory
    entry: dict[str, Any] = {"target": target.name, "database": target.database, "status": 0, "error": "", "hint": None}
    entry |= {"file": str(path / names.dated(target.database, now)), "client": target.client, "retention": []}
    entry |= {"warnings": []}
    try:
        with ExitStack() as stack:
            place = _place(stack, settings, path)
            known = catalog.listing(place, target.database) if place.fd >= 0 else []
            entry["retention"] = _decisions(place, known, settings, target, now)
            entry |= _server(target, settings)
            entry["base"] = _base_backup(settings, target, now)
    except SuiteError as error:
        entry |= {"status": error.status, "error": error.message, "hint": error.hint}
    return entry


def _place(stack: ExitStack, settings: Settings, path: Path) -> Folder:
    """The directory that a run would write to. One that it would make first has no descriptor: nothing lies in it."""
    if not os.path.lexists(settings.backup_dir):
        folder.check_creatable(settings.backup_dir)
        return Folder(path, -1)
    top = stack.enter_context(folder.opened(settings.backup_dir, create=False, top=True, writing=True))
    if not os.path.lexists(path):
        folder.check_creatable(path)
        return Folder(top.path / path.name, -1)
    return stack.enter_context(folder.opened(path, create=False, writing=True))


def _decisions(
    place: Folder, known: list[Backup], settings: Settings, target: Target, now: datetime
) -> list[dict[str, Any]]:
    """The decisions of a run that publishes a backup now, which then is the newest good one."""
    tonight = names.dated(target.database, now)
    coming = Backup(tonight, now, manual=False, bytes=0, manifest=None, problem="")
    noted = _noted(place, target.database).believable(now) if place.fd >= 0 else {}
    proofs = Proofs(place, known, noted, now - timedelta(days=settings.reprove_days))
    policy = retention.Policy(settings.retention_days, settings.min_backups)
    ahead = [backup for backup in known if backup.taken > now]
    rest = [backup for backup in known if backup.taken <= now]
    drilled = drills.newest_passed(drills.look(place, target.database)[0], known) if place.fd >= 0 else ""

    def is_good(name: str) -> bool:
        return name == tonight or proofs.is_good(name)

    found = retention.decide([*ahead, coming, *rest], policy, now, is_good, drilled)
    return [
        {"file": decision.name, "keep": decision.keep, "reason": decision.reason}
        for decision in found
        if decision.name != tonight
    ]


def _noted(place: Folder, database: str) -> Verified:
    try:
        return verified.read(place, database) or Verified()
    except SuiteError:
        return Verified()  # as a run: it says so and reads more


def _server(target: Target, settings: Settings) -> dict[str, Any]:
    """Ask the server, by the way that the dump will take."""
    told: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="pgbackup-") as pipes,
        connect.opened(target, settings, looking(), Path(pipes), told.append) as client,
    ):
        facts = gather(client)
        told += [f"a restore would be refused: {problem}" for problem in needs.of_the_role(client, facts)]
        return {
            "server_version": facts.server_version,
            "size_bytes": facts.size_bytes,
            "tables": facts.tables,
            "client": client.kind,
            "warnings": told,
        }


def _base_backup(settings: Settings, target: Target, now: datetime) -> str:
    """Why a base backup would be made as well, "" where none would."""
    with archiving.opened(settings, target) as archive:
        return base_backup.is_due(recoverable.look(archive[0]), target.base_every_days, now) if archive else ""


def _lines(entry: dict[str, Any]) -> list[str]:
    name = entry["target"]
    if entry["status"]:
        first = f"{name}: would fail ({entry['status']}): {entry['error']}"
        lines = [first, *([f"  {advice(entry['hint'])}"] if entry["hint"] else [])]
    else:
        lines = [
            f"{name}: would write '{entry['file']}'",
            f"  from '{entry['database']}', {size(entry['size_bytes'])} in {counted(entry['tables'], 'table')},"
            f" PostgreSQL {short_version(entry['server_version'])}, client {entry['client']}",
        ]
    lines += [f"  warning: {warning}" for warning in entry["warnings"]]
    if entry.get("base"):
        lines.append(f"  and a base backup: {entry['base']}")
    for decision in entry["retention"]:
        lines.append(f"  {'keep  ' if decision['keep'] else 'expire'} {decision['file']}: {decision['reason']}")
    return lines
