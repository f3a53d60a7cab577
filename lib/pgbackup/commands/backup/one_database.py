"""The backup of one database, step by step. Everything it says in the end is in its Outcome."""

from __future__ import annotations

from datetime import datetime, timezone

from pgbackup.commands import claim, dump
from pgbackup.commands.backup import proving
from pgbackup.commands.job import Job, Outcome
from pgbackup.commands.loading import one_copy
from pgbackup.formats import names
from pgbackup.store import publish, retention, workfiles
from pgbackup.store.expiry import Proofs
from pgbackup.store.state import drills


def back_up(job: Job, outcome: Outcome) -> None:
    """Make, prove and publish one backup, then let old ones expire. Raise SuiteError or OSError."""
    with claim.claimed(job) as unsettled:
        if isinstance(unsettled, one_copy.Lost):
            raise unsettled
        if unsettled:
            job.warn("backup.beside", unsettled.message, outcome)
        inode = dump.make(job, outcome, job.client)
        _point_latest(job, outcome)
        with outcome.timed("retention"):
            proofs = proving.begin(job, outcome, inode)
            _expire(job, outcome, proofs)
    with outcome.timed("reread"):  # others may have the database meanwhile
        proving.finish(job, outcome, proofs)


def _point_latest(job: Job, outcome: Outcome) -> None:
    link = workfiles.link_name(job.run.owner, job.run.token)
    if not publish.point_latest(job.place, job.target.database, outcome.file, link):
        latest = names.latest(job.target.database)
        message = (
            f"there is no '{latest}': the file system of '{job.place.path}' has no symbolic links;"
            f" a restore of '{latest}' takes the newest good backup"
        )
        job.warn("latest.missing", message, outcome)


def _expire(job: Job, outcome: Outcome, proofs: Proofs) -> None:
    """Apply the retention rule. It comes last: after any failure nothing is removed."""
    known, now = proofs.known, datetime.now(timezone.utc)
    if known and now < known[0].taken:
        job.warn("clock.behind", f"the clock is behind the backup '{known[0].name}': nothing expires", outcome)
    policy = retention.Policy(job.settings.retention_days, job.settings.min_backups)
    drilled, unknown = drills.look(job.place, job.target.database)
    if unknown:
        job.warn("drills.unknown", unknown, outcome)
    for decision in retention.decide(known, policy, now, proofs.is_good, drills.newest_passed(drilled, known)):
        if not decision.keep:
            publish.remove(job.place, decision.name)
            outcome.expired.append(decision.name)
            said = f"expired '{decision.name}': {decision.reason}"
            job.info("backup.expired", said, file=decision.name, reason=decision.reason)
