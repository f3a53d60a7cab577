"""restore-postgres.sh TARGET --window: which moments can be recovered, and whether archiving is as it should be."""

from __future__ import annotations

from datetime import datetime, timezone

from pgbackup import wal
from pgbackup.errors import NoBackup
from pgbackup.report.log import advice, say
from pgbackup.report.result import Result, document, size
from pgbackup.settings.config import Settings, Target
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal import recoverable
from pgbackup.store.wal.recoverable import local

_SCRIPT = "restore-postgres.sh"


def show(settings: Settings, target: Target, directory: str) -> Result:
    """Show the windows of an archive, oldest first. Status 66 when it does not reach to now, or has gaps.

    directory: in BACKUP_DIR/pitr. Raise NoBackup where nothing was set up.
    """
    with walarchive.opened(settings.backup_dir, directory, create=False) as places:
        archive = recoverable.look(places)
    problems = recoverable.complaints(archive, target.base_every_days, datetime.now(timezone.utc))
    receiver = archive.receiver
    confirmed = archive.confirmed
    state = "off" if not archive.state.active else "on" if not problems else "on, but not well"
    lines = [f"{target.name}: '{places.top.path}', PostgreSQL {archive.state.major}, archiving is {state}"]
    lines += recoverable.described(archive.windows)
    if confirmed:
        lines.append(f"  confirmed     {local(confirmed.time)}, LSN {wal.format_lsn(confirmed.lsn)}")
    for name, (base, record) in archive.bases.items():
        kind = f"upon {record.parent}" if record.parent else "full"
        lines.append(f"  base backup   {local(base.ended)}, {size(record.bytes)}, {kind}: {name}")
    if receiver and receiver.trouble:
        lines.append(f"  now           nothing is received: {receiver.trouble}")
    for problem in problems:
        say(f"{_SCRIPT}: {target.name}: {problem}")
    if problems:
        say(advice(f"see what the receiver says: journalctl -u postgres-wal@{archive.state.owner} -n 20; backup.log"))
    status = NoBackup.status if problems else 0
    told = document(
        "restore --window",
        status,
        target=target.name,
        archive=str(places.top.path),
        active=archive.state.active,
        windows=recoverable.values(archive.windows),
        problems=problems,
    )
    return Result(status, lines, told)
