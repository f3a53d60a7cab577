"""receive-wal.sh: the frame around the receiver: one at a time for an archive, and its log."""

from __future__ import annotations

from pgbackup.commands import archiving
from pgbackup.commands.wal import receive
from pgbackup.errors import ConfigurationError, LockHeld
from pgbackup.report.progress import reporting
from pgbackup.report.result import Result, document
from pgbackup.settings.config import Settings, Target
from pgbackup.store import folder, lock
from pgbackup.store.wal import archive as walarchive

LOCK = "receiver"


def run(settings: Settings, target: Target, *, watchdog: bool, quiet: bool) -> Result:
    """Receive until a signal comes. watchdog: where another one receives already, that is as it should be.

    Raise ConfigurationError where archiving is not set up, LockHeld, and Interrupted in the end.
    """
    folder.check_mounted(settings.backup_mount, folder.fstab_lines_above(settings.backup_dir))
    with (
        folder.opened(settings.backup_dir, create=False, top=True) as top,
        archiving.opened(settings, target) as archive,
        reporting(quiet) as reporter,
    ):
        if archive is None:
            raise ConfigurationError(f"the WAL of '{target.name}' is not archived", walarchive.SET_UP)
        places, state = archive
        job = archiving.job_of(archiving.job_at(settings, target, top, reporter), places, places.receiving)
        try:
            with lock.held(places.top, LOCK):
                receive.receive(job, places, state)
        except LockHeld:
            if not watchdog:
                raise
    return Result(0, [], document("receive-wal", 0, target=target.name))
