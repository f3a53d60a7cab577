"""What of a database's backups is proven: known from earlier nights, read anew in turn, and noted for the next ones."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from pgbackup.commands.job import Job, Outcome
from pgbackup.errors import SuiteError, path_error
from pgbackup.store import catalog
from pgbackup.store.expiry import Proofs
from pgbackup.store.state import statefile, verified
from pgbackup.store.state.statefile import Newer, Unreadable
from pgbackup.store.state.verified import Verified


def begin(job: Job, outcome: Outcome, inode: int) -> Proofs:
    """Return what is proven, tonight's backup included. inode: of the file that was read back. Raise IoFailed."""

    def bad(name: str, reason: str) -> None:
        job.warn("backup.bad", f"'{name}' is bad and does not count: {reason}", outcome)

    now = datetime.now(timezone.utc)
    noted = Verified()
    try:
        noted = verified.read(job.place, job.target.database) or noted
    except SuiteError as error:
        job.warn("proofs.unknown", f"what was proven is not known, so more is read: {error.message}", outcome)
    known = catalog.listing(job.place, job.target.database)
    since = now - timedelta(days=job.settings.reprove_days)
    proofs = Proofs(job.place, known, noted.believable(now), since, bad)
    proofs.published(outcome.file, inode, now)
    return proofs


def finish(job: Job, outcome: Outcome, proofs: Proofs) -> None:
    """Read tonight's portion of the backups that are left anew, and note what is proven.

    Raise SuiteError where it cannot be noted: the next night would not know.
    """
    database, settings = job.target.database, job.settings
    now = datetime.now(timezone.utc)
    left = {each.name for each in proofs.known} - {*outcome.expired}
    proofs.read_anew(left, now, settings.reprove_days, settings.retention_days)
    try:
        with verified.held(job.place, database):
            before, now = _noted(job, database), datetime.now(timezone.utc)
            if before is not None:
                believed, at = before.believable(now), statefile.to_the_second(now)
                noted = verified.after_night(before, left, proofs.read, proofs.problems, believed, at)
                verified.write(job.place, database, noted)
    except (SuiteError, OSError) as raised:
        error = raised if isinstance(raised, SuiteError) else path_error(raised, job.place.path)
        error.message = f"the backup is published, but what is proven could not be noted: {error.message}"
        raise error from None


def _noted(job: Job, database: str) -> Verified | None:
    """What is noted by now; what cannot be understood is begun anew, None where a later version has written it."""
    try:
        return verified.read(job.place, database) or Verified()
    except Newer:
        return None  # told by begin()
    except Unreadable:
        return Verified()
