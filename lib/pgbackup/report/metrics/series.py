"""The table of all gauges, and their text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CollectorRegistry, GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from pgbackup import __version__
from pgbackup.report.metrics import gauges
from pgbackup.report.metrics.gauges import Metric, Samples, at, measured
from pgbackup.report.promises.facts import Database
from pgbackup.report.promises.promise import KEPT
from pgbackup.report.promises.status import Status

MARK = "# pgbackup: metrics for the textfile collector of Prometheus' node_exporter\n"


def text(status: Status) -> str:
    """Given a status, return it in Prometheus' text format. Pure."""
    registry = CollectorRegistry()
    registry.register(_Collector(status))
    return MARK + generate_latest(registry).decode("utf-8")


class _Collector:
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for metric in METRICS:
            family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
            # One series twice, and the collector would refuse the whole file.
            for labels, value in dict(metric.samples(self._status)).items():
                family.add_metric(labels, value)
            yield family


def _copies(status: Status) -> Samples:
    for place in status.facts.copies:
        for database in status.facts.databases:
            yield (place.place, database.name), at(place.newest.get(database.name))


def _findings(status: Status) -> Samples:
    found = status.facts.coverage.findings if status.facts.coverage else ()
    broken = [one.kind for one in found if not one.ignored and not one.harmless]
    return (((kind,), float(broken.count(kind))) for kind in ("database", "gone", "unreachable", "unreadable", *broken))


def _last_drill(database: Database) -> float | None:
    return next((float(one.status) for one in database.exercises if one.action == "drill"), None)


METRICS: Sequence[Metric] = (
    Metric(
        "pgbackup_info",
        "The suite that wrote these metrics, and the host that it is on.",
        ("version", "host"),
        lambda status: [((__version__, status.host), 1.0)],
    ),
    gauges.host(
        "pgbackup_status_timestamp_seconds", "When all of this was true.", lambda status: status.now.timestamp()
    ),
    gauges.promise(
        "pgbackup_promise_kept",
        "Whether a promise is kept: 1, or 0 where it is broken. What nobody wants has no series.",
        lambda status, promise: float(promise.state == KEPT),
    ),
    gauges.promise(
        "pgbackup_promise_alarm",
        "Whether a broken promise is to be told now: not while the run that mends it is under way or just due.",
        lambda status, promise: float(promise.is_to_be_told(status.now)),
    ),
    gauges.promise(
        "pgbackup_promise_broken_since_timestamp_seconds",
        "Since when a promise is broken; 0 where it is kept, or where nobody knows.",
        lambda status, promise: at(promise.since),
    ),
    gauges.promise(
        "pgbackup_promise_timestamp_seconds",
        "When a promise with an age limit was last fulfilled; 0 for never.",
        lambda status, promise: None if promise.limit is None else at(promise.last),
    ),
    gauges.promise(
        "pgbackup_promise_limit_seconds",
        "How old that may be at most.",
        lambda status, promise: promise.limit,
    ),
    gauges.newest(
        "pgbackup_backup_timestamp_seconds",
        "Which moment the newest good backup shows; 0 for none.",
        lambda backup: at(backup.taken),
        none=0.0,
    ),
    gauges.newest(
        "pgbackup_backup_bytes",
        "Size of the newest good backup's file.",
        lambda backup: float(backup.bytes),
    ),
    gauges.newest(
        "pgbackup_backup_sql_bytes",
        "Size of the newest good backup, unpacked.",
        lambda backup: float(backup.sql_bytes),
    ),
    gauges.newest(
        "pgbackup_backup_rows",
        "Rows of all tables in the newest good backup.",
        lambda backup: float(backup.rows),
    ),
    gauges.newest(
        "pgbackup_backup_seconds",
        "How long the newest good backup took.",
        lambda backup: float(backup.seconds),
    ),
    gauges.database(
        "pgbackup_backup_attempt_timestamp_seconds",
        "When the last backup ended, good or not; 0 for never.",
        lambda database: at(database.attempts[0].ended if database.attempts else None),
    ),
    gauges.database(
        "pgbackup_backup_attempt_status",
        "Exit status of the last backup (docs/exit-codes.md).",
        lambda database: measured(database.attempts[0].status if database.attempts else None),
    ),
    gauges.database("pgbackup_backups", "Number of backups that are there.", lambda database: float(database.files)),
    gauges.database("pgbackup_backups_bytes", "Size of all of them.", lambda database: float(database.bytes)),
    gauges.database(
        "pgbackup_backups_bad",
        "Number of backups, among the newest, that are bad.",
        lambda database: float(sum(bool(backup.problem) for backup in database.backups)),
    ),
    gauges.database(
        "pgbackup_verify_timestamp_seconds",
        "When all backups were last read to the last byte; 0 for never.",
        lambda database: at(database.verified),
    ),
    gauges.database(
        "pgbackup_drill_timestamp_seconds",
        "When a backup last passed a drill; 0 for never.",
        lambda database: at(database.drilled),
    ),
    gauges.database(
        "pgbackup_drill_status",
        "Exit status of the last drill.",
        lambda database: measured(_last_drill(database)),
    ),
    gauges.rescue(
        "pgbackup_rescue_timestamp_seconds",
        "If this host died now: the moment that comes back from another place; 0 for nothing.",
        lambda rescue: at(rescue.moment),
    ),
    gauges.rescue(
        "pgbackup_rescue_seconds",
        "How long the restore would take, as measured by restores and drills.",
        lambda rescue: measured(rescue.seconds),
    ),
    Metric(
        "pgbackup_copy_timestamp_seconds",
        "Which moment the newest copy at a place shows; 0 for none.",
        ("place", "database"),
        _copies,
    ),
    gauges.place(
        "pgbackup_copy_run_timestamp_seconds",
        "When copying to a place last succeeded; 0 for never.",
        lambda place: at(place.succeeded),
    ),
    gauges.place(
        "pgbackup_copy_failures",
        "Runs to a place that have failed since one succeeded.",
        lambda place: float(place.failures),
    ),
    gauges.place("pgbackup_copy_objects", "Objects that a place ever confirmed.", lambda place: float(place.objects)),
    gauges.place("pgbackup_copy_bytes", "Size of these objects.", lambda place: float(place.bytes)),
    gauges.archive(
        "pgbackup_wal_confirmed_timestamp_seconds",
        "Up to when everything that a server had written is in its WAL archive; 0 for never.",
        lambda status, archive: at(archive.confirmed),
    ),
    gauges.archive(
        "pgbackup_wal_lag_seconds",
        "How long ago that was when the status was made.",
        lambda status, archive: measured(
            max(0.0, (status.now - archive.confirmed).total_seconds()) if archive.confirmed else None
        ),
    ),
    gauges.archive(
        "pgbackup_wal_window_start_timestamp_seconds",
        "From when on a moment can be recovered; 0 for no moment.",
        lambda status, archive: at(archive.since),
    ),
    gauges.archive(
        "pgbackup_wal_window_end_timestamp_seconds",
        "Up to when a moment can be recovered; 0 for no moment.",
        lambda status, archive: at(archive.until),
    ),
    gauges.archive(
        "pgbackup_base_timestamp_seconds",
        "When the newest base backup was made; 0 for never.",
        lambda status, archive: at(archive.base),
    ),
    gauges.archive("pgbackup_base_bytes", "Size of it.", lambda status, archive: float(archive.base_bytes)),
    Metric(
        "pgbackup_key_timestamp_seconds",
        "When the private key of a recipient was last proven to exist; 0 for never.",
        ("recipient",),
        lambda status: (((key.recipient,), at(key.proven)) for key in status.facts.keys),
    ),
    Metric(
        "pgbackup_schedule_next_timestamp_seconds",
        "When a schedule runs next; 0 where nobody knows.",
        ("run",),
        lambda status: (((one.what,), at(one.next)) for one in status.facts.schedules),
    ),
    gauges.disk(
        "pgbackup_disk_free_bytes",
        "Room on the disk of BACKUP_DIR.",
        lambda disk: float(disk.free),
    ),
    gauges.disk(
        "pgbackup_disk_size_bytes",
        "Size of that disk.",
        lambda disk: float(disk.total),
    ),
    gauges.disk(
        "pgbackup_disk_wanted_bytes",
        "Room that the next three backups of each database need.",
        lambda disk: float(disk.wanted),
    ),
    gauges.host(
        "pgbackup_coverage_timestamp_seconds",
        "When this host's servers were last asked which databases they have; 0 for never.",
        lambda status: at(status.facts.coverage.probed if status.facts.coverage else None),
    ),
    gauges.host(
        "pgbackup_coverage_databases",
        "Databases that were found then.",
        lambda status: float(status.facts.coverage.databases) if status.facts.coverage else 0.0,
    ),
    Metric(
        "pgbackup_coverage_findings",
        "What no backup covers, or not wholly, without a reason in IGNORE.",
        ("kind",),
        _findings,
    ),
    gauges.host("pgbackup_alarm_channels", "Channels of alarms.", lambda status: float(status.facts.alarms.channels)),
    gauges.host(
        "pgbackup_alarm_undelivered",
        "Alarms that could not be delivered yet.",
        lambda status: float(status.facts.alarms.undelivered),
    ),
    gauges.host("pgbackup_alarm_lost", "Alarms given up so far.", lambda status: float(status.facts.alarms.lost)),
)
