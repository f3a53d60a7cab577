"""The promises about one database: backup made, verified, drilled. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from pgbackup.report.promises.aged import Aged
from pgbackup.report.promises.facts import Backup, Database
from pgbackup.report.promises.limits import CLOCK_SLACK_SECONDS, Limits
from pgbackup.report.promises.promise import BACKUP, DRILL, VERIFY, Promise
from pgbackup.store.state.ledger import Run

_BUSY = 75  # another run was at work, and its end tells


def promises(database: Database, now: datetime, limits: Limits, backup_dir: str) -> list[Promise]:
    """Return the promises about a database. backup_dir: BACKUP_DIR. Pure."""
    return [_backup(database, now, limits, backup_dir), _verify(database, now, limits), _drill(database, now, limits)]


def newest_good(database: Database, now: datetime) -> Backup | None:
    """The newest backup that is not known to be bad and is not dated later than now; where all good ones are, the
    oldest of those. Pure.
    """
    good = [each for each in database.backups if not each.problem]
    latest = now + timedelta(seconds=CLOCK_SLACK_SECONDS)
    return next((each for each in good if each.taken <= latest), good[-1] if good else None)


def _backup(database: Database, now: datetime, limits: Limits, backup_dir: str) -> Promise:
    remedy = f"backup-postgres.sh {database.name}"
    promise = Aged(BACKUP, database.name, limits.backup, "the newest good backup", remedy)
    newest = newest_good(database, now)
    last = newest.taken if newest else None
    failed = _failing(database.attempts)
    if failed is None:
        return promise.judged(last, now)
    reason = f"the last run failed with {failed.status}: {failed.error}"
    by = max(0.0, (now - last).total_seconds() - limits.backup) if last else 0.0
    return promise.broken(reason, last, failed.ended, by, f"{remedy}; see: grep ERROR '{backup_dir}/backup.log'")


def _failing(attempts: Sequence[Run]) -> Run | None:
    """The first of the failures since the last success; None where the last run did not fail. Stopped ones are none."""
    first = None
    for each in attempts:
        if each.status == 0:
            break
        if each.status <= 128 and each.status != _BUSY:
            first = each if first is None else Run(each.ended, first.status, first.seconds, "", first.error)
    return first


def _verify(database: Database, now: datetime, limits: Limits) -> Promise:
    remedy = f"verify-backups.sh {database.name}"
    promise = Aged(VERIFY, database.name, limits.verify, "the last verification", remedy)
    if not database.backups and not database.begun:
        return promise.not_wanted("there is no backup yet")
    bad = [each for each in database.backups if each.problem]
    if not bad:
        return promise.judged(database.verified, now, database.begun)
    more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
    reason = f"'{bad[0].file}' is bad: {bad[0].problem}{more}"
    aside = f"{remedy}; then move what is bad out of the directory, and: backup-postgres.sh {database.name}"
    return promise.broken(reason, database.verified, bad[0].verified, remedy=aside)


def _drill(database: Database, now: datetime, limits: Limits) -> Promise:
    remedy = f"drill-backups.sh {database.name}"
    promise = Aged(DRILL, database.name, limits.drill or 0.0, "the last drill that passed", remedy)
    if limits.drill is None:
        return promise.not_wanted("DRILL_WEEKLY and DRILL_AFTER_BACKUP are off")
    if not database.backups and not database.begun:
        return promise.not_wanted("there is no backup yet")
    failed = [each for each in database.backups if each.drill_failed]
    if not failed:
        return promise.judged(database.drilled, now, database.begun)
    reason = f"the drill of '{failed[0].file}' failed: {failed[0].drill_failed}"
    return promise.broken(reason, database.drilled, failed[-1].drilled, remedy=f"{remedy}; docs/drill.md")
