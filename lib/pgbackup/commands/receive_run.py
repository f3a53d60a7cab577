"""receive-wal.sh: the frame around the receiver: one at a time for an archive, and its log."""

from __future__ import annotations

import os

from pgbackup import lock, proc
from pgbackup.archive import folder, walarchive
from pgbackup.commands import archiving, receive_wal
from pgbackup.commands.job import Job, identity
from pgbackup.commands.result import Result, document
from pgbackup.config import Settings, Target
from pgbackup.errors import ConfigurationError, LockHeld
from pgbackup.log import EventLog
from pgbackup.progress import reporting

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
        log = EventLog(top)
        try:
            with lock.held(places.top, LOCK):
                run_of = identity(target, places.receiving)
                job = Job(target, settings, places.top, run_of, proc.environment(os.environ), log, reporter)
                receive_wal.receive(job, places, state)
        except LockHeld:
            if not watchdog:
                raise
    return Result(0, [], document("receive-wal", 0, target=target.name))
