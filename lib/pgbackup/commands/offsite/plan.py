"""copy-backups.sh --dry-run: looks here and there, makes the same decision, and copies nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgbackup.commands.offsite import one_place
from pgbackup.commands.offsite.copy import check_any, overall
from pgbackup.commands.offsite.one_place import Copies
from pgbackup.commands.offsite.wal import once
from pgbackup.errors import SuiteError
from pgbackup.formats import copies as named
from pgbackup.report.log import advice
from pgbackup.report.result import Result, document, size
from pgbackup.settings.config import Offsite, Settings, Target
from pgbackup.store import folder
from pgbackup.store.folder import Folder

_MOST_SHOWN = 100


def plan(settings: Settings, targets: Sequence[Target], places: Sequence[Offsite]) -> Result:
    """Say for each place what a run would copy now. Raise SuiteError only where no run could begin at all."""
    check_any(places)
    folder.check_mounted(settings.backup_mount, folder.fstab_lines_above(settings.backup_dir))
    with folder.opened(settings.backup_dir, create=False, top=True) as top:
        found = [_one(settings, offsite, targets, top) for offsite in places]
    status = overall([copies for copies, _ in found])
    fields = ("place", "required", "status", "error", "hint", "problems", "warnings")
    entries = [
        {**{field: one_place.entry_of(copies)[field] for field in fields}, "would_copy": names}
        for copies, names in found
    ]
    lines = [line for copies, names in found for line in _lines(copies, names)]
    return Result(status, lines, document("copy --dry-run", status, places=entries))


def _one(
    settings: Settings, offsite: Offsite, targets: Sequence[Target], top: Folder
) -> tuple[Copies, list[dict[str, Any]]]:
    copies, names = Copies(offsite.name, offsite.required), []
    try:
        where = one_place.elsewhere(settings, offsite, top)
        decision = one_place.decided(where, targets, one_place.known(top, offsite), copies)
        names = [{"object": source.name, "file_bytes": source.backup.bytes} for source in decision.to_copy]
        suffix = named.ENCRYPTED if offsite.encrypted else ""
        archived = once.missing(settings, where, targets, copies)
        names += [{"object": item.name + suffix, "file_bytes": item.size} for item in archived]
    except SuiteError as error:
        copies.fail(error)
    copies.status = copies.status or copies.status_of_problems()
    return copies, names


def _lines(copies: Copies, names: Sequence[dict[str, Any]]) -> list[str]:
    if copies.error:
        failed = f"{copies.place}: would fail ({copies.status}): {copies.error}"
        return [failed, *([f"  {advice(copies.hint)}"] if copies.hint else [])]
    total = size(sum(one["file_bytes"] for one in names))
    first = f"{copies.place}: would copy {len(names)}, {total}" if names else f"{copies.place}: nothing to copy"
    lines = [first, *(f"  {one['object']}  {size(one['file_bytes'])}" for one in names[:_MOST_SHOWN])]
    lines += [f"  and {len(names) - _MOST_SHOWN} more"] * (len(names) > _MOST_SHOWN)
    lines += [f"  warning: {warning}" for warning in copies.warnings]
    return lines + [f"  {name}: {problem}" for name, problem in {**copies.problems, **copies.lacking}.items()]
