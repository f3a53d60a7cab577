"""restore-postgres.sh TARGET --window --from PLACE: what could be recovered from there alone."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from pgbackup import wal
from pgbackup.commands.elsewhere import copies
from pgbackup.commands.elsewhere.wal import archive
from pgbackup.commands.elsewhere.wal.archive import Seen
from pgbackup.errors import BackupBad, NoBackup
from pgbackup.report.log import say
from pgbackup.report.result import Result, age, document, size
from pgbackup.settings.config import Settings, Target
from pgbackup.store.wal import recoverable
from pgbackup.store.wal.recoverable import local
from pgbackup.store.wal.window import Window

_SCRIPT = "restore-postgres.sh"


def show(settings: Settings, target: Target, called: str, series: str | None, identities: Sequence[str]) -> Result:
    """Show the windows that a place alone gives, oldest first. Status 65: something there is refused; 66: nothing can
    be recovered, or there are gaps.

    series: another one than the newest. identities: without keys, what names promise is shown. Raise as look().
    """
    there = copies.at(settings, target, called)
    with tempfile.TemporaryDirectory(prefix="pgbackup-") as directory:
        seen = archive.look(there, series, identities, Path(directory) / "fetched")
    found = seen.windows()
    problems = gaps(seen, found)
    for name, reason in seen.refused.items():
        say(f"{_SCRIPT}: {target.name}: '{called}:{name}' is not used: {reason}")
    for problem in problems:
        say(f"{_SCRIPT}: {target.name}: {problem}")
    status = BackupBad.status if seen.refused else NoBackup.status if problems else 0
    told = document(
        "restore --window --from",
        status,
        target=target.name,
        place=called,
        host=there.host,
        series=str(seen.known.series),
        read=not seen.locked(identities),
        windows=recoverable.values(found),
        problems=problems,
        refused=[{"object": name, "reason": reason} for name, reason in seen.refused.items()],
    )
    return Result(status, _lines(seen, found, called, locked=seen.locked(identities)), told)


def gaps(seen: Seen, found: Sequence[Window]) -> list[str]:
    """What cannot be recovered though something of it is there, in sentences. Pure."""
    if not found:
        return ["nothing can be recovered: there is no base backup with its WAL"]
    size_of, newest, last = seen.known.series.segment_bytes, found[-1], max(seen.times())
    told = [
        f"nothing between {local(earlier.until)} and {local(later.since)} can be recovered: WAL is missing"
        for earlier, later in itertools.pairwise(found)
    ]
    if newest.last.number < last.number:
        end, there = wal.segment_name(newest.last, size_of), wal.segment_name(last, size_of)
        missing = f"WAL is missing after '{end}', but '{there}' is there"
        told.append(f"nothing after {local(newest.until)} can be recovered: {missing}")
    return told


def _lines(seen: Seen, found: Sequence[Window], called: str, *, locked: bool) -> list[str]:
    target, series = seen.there.target, seen.known.series
    lines = [f"{target.name}: '{called}', copies of the host '{seen.there.host}', archive {series}"]
    lines += recoverable.described(found)
    if found:
        last = found[-1]
        sure = "everything up to then" if last.current else "the last segment arrived then"
        old = age((datetime.now(timezone.utc) - last.until).total_seconds())
        lines.append(f"  the last      {local(last.until)}, {old} ago: {sure}")
    for name, base in seen.bases.items():
        held = seen.known.bases[name]
        total = sum(one.bytes for one in held.files.values())
        kind = f"upon {base.parent}" if base.parent else "full"
        lines.append(f"  base backup   {local(base.ended)}, {size(total)}, {kind}: {name}")
    if locked:
        lines.append("  as the names there promise: with --key FILE it is looked into")
    return lines
