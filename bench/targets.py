"""What is to be reached, and what was measured. Says so, and never fails a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from contenders import OURS, Table

Tables = Mapping[str, Table]
MANY = 10_000
STARTS = 10
_OF_CLUSTERS = {"base": "ours_base", "recovery": "ours_recovery"}  # table -> row


@dataclass(frozen=True)
class Target:
    """key: for results.json. value(tables): what was measured, None without a measurement.

    limit: value must be at most that, or at least that if `at_least`. unit: behind the number.
    """

    key: str
    meaning: str
    value: Callable[[Tables], float | None]
    limit: float
    unit: str
    at_least: bool = False

    def outcome(self, tables: Tables) -> dict[str, object]:
        """Return what was wanted, what was measured, and whether it was reached (None: not measured)."""
        value = self.value(tables)
        reached = None if value is None else (value >= self.limit if self.at_least else value <= self.limit)
        return {
            "key": self.key,
            "meaning": self.meaning,
            "wanted": f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}",
            "measured": None if value is None else round(value, 3),
            "unit": self.unit,
            "reached": reached,
        }


def _ratio(table: str, above: str, below: str, field: str = "seconds") -> Callable[[Tables], float | None]:
    def value(tables: Tables) -> float | None:
        if table not in tables:
            return None
        upper, lower = (tables[table].median(key, field) for key in (above, below))
        return upper / lower if upper is not None and lower else None

    return value


def _more(table: str, more: str, less: str) -> Callable[[Tables], float | None]:
    def value(tables: Tables) -> float | None:
        if table not in tables:
            return None
        upper, lower = (tables[table].median(key) for key in (more, less))
        return upper - lower if upper is not None and lower is not None else None

    return value


def _difference(table: str, more: str, less: str) -> Callable[[Tables], float | None]:
    def value(tables: Tables) -> float | None:
        counted = table in tables and tables[table].facts.get("backups", MANY) >= MANY
        return _more(table, more, less)(tables) if counted else None

    return value


def _highest_memory(tables: Tables) -> float | None:
    """The highest peak of our Python in any backup run of any size."""
    peaks = [
        run["python_memory"] / 1e6
        for key, table in tables.items()
        if key in ("backup", "demo") or key.startswith(("growth_", "empty", "crowded", "expiring", "steady"))
        for row in table.rows
        if row.kind == OURS
        for run in row.runs
        if run["python_memory"]
    ]
    return max(peaks, default=None)


def _fact(table: str, name: str) -> Callable[[Tables], float | None]:
    return lambda tables: tables[table].facts.get(name) if table in tables else None


def _guard_share(tables: Tables) -> float | None:
    if "restore" not in tables or not (total := tables["restore"].median("ours_restore")):
        return None
    facts: Mapping[str, float] = tables["restore"].facts
    return (facts["guard_seconds"] + facts["verify_seconds"] - 2 * facts["inflate_seconds"]) / total


def _restore_memory(tables: Tables) -> float | None:
    names = [name for name in ("restore", "restore_one") if name in tables]
    found = [memory for name in names if (memory := tables[name].median("ours_restore", "host_memory"))]
    return max(found) / 1e6 if found else None


def _cluster_memory(tables: Tables) -> float | None:
    found = [tables[key].median(row, "host_memory") for key, row in _OF_CLUSTERS.items() if key in tables]
    return max((memory / 1e6 for memory in found if memory), default=None)


def _copy_memory(tables: Tables) -> float | None:
    found = [tables[key].median("ours", "host_memory") for key in ("copy_s3", "copy_sftp") if key in tables]
    return max((bytes_of_it / 1e6 for bytes_of_it in found if bytes_of_it), default=None)


def _listing(tables: Tables) -> float | None:
    counted = "listing" in tables and tables["listing"].facts.get("objects", MANY) >= MANY
    return tables["listing"].median("ours") if counted else None


def _start(tables: Tables) -> float | None:
    """CPU seconds of the dearest of the starts."""
    keys = ("help", "status", "watchdog") if "start" in tables else ()
    found = [tables["start"].median(key, "cpu_seconds") for key in keys]
    return max((seconds / STARTS for seconds in found if seconds), default=None)


def _latency_above(tables: Tables) -> float | None:
    """How much latency our receiver adds at half load, against what a bare one adds."""
    if "cost_paced" not in tables:
        return None
    none, bare, ours = (tables["cost_paced"].median(key, "latency") for key in ("without", "bare", "with"))
    return (ours - none) / (bare - none) if none and bare and ours and bare > none else None


def _against_the_guide(table: str, data: str, proven: float) -> tuple[Target, ...]:
    """proven: what a backup may take with its read-back, by the floor."""
    return (
        Target(
            f"{table}_floor",
            f"{data}: sidecar to published file without read-back, against pg_dump > /dev/null",
            _ratio(table, "ours_sidecar_published", "floor"),
            1.4,
            "×",
        ),
        Target(
            f"{table}_floor_proven",
            f"{data}: the same with read-back",
            _ratio(table, "ours_sidecar", "floor"),
            proven,
            "×",
        ),
        Target(
            f"{table}_guide",
            f"{data}: the same, faster than the guide's pipeline",
            _ratio(table, "guide", "ours_sidecar_published"),
            4.0,
            "×",
            at_least=True,
        ),
        Target(
            f"{table}_guide_checked",
            f"{data}: with read-back, faster than the guide's pipeline followed by gunzip -t",
            _ratio(table, "guide_checked", "ours_sidecar"),
            4.0,
            "×",
            at_least=True,
        ),
        Target(
            f"{table}_size",
            f"{data}: file size against gzip's",
            _ratio(table, "ours_sidecar", "guide", "file_bytes"),
            1.03,
            "×",
        ),
    )


TARGETS = (
    *_against_the_guide("backup", "payments", 1.6),
    *_against_the_guide("demo", "the demo's data", 1.35),
    Target(
        "steady_night",
        "a night like the hundredth, 14 old backups there: against the same backup into an empty directory",
        _ratio("steady_night", "night", "alone"),
        1.15,
        "×",
    ),
    Target("memory", "peak memory of our process in any backup, at any size", _highest_memory, 100.0, "MB"),
    Target(
        "verify",
        "verify-backups.sh: faster than gunzip -t over the same files",
        _ratio("verify", "gunzip", "ours"),
        4.0,
        "×",
        at_least=True,
    ),
    Target(
        "drill", "drill against the plain load into such a server", _ratio("drill", "ours_drill", "plain"), 1.2, "×"
    ),
    Target(
        "night", "what the drill adds to a night of a small database", _more("night", "ours_night", "without"), 5.0, "s"
    ),
    Target(
        "restore",
        "restore-postgres.sh, all checks, against the guide's manual restore, which has none",
        _ratio("restore", "ours_restore", "manual"),
        0.8,
        "×",
    ),
    Target(
        "restore_directory",
        "the same against pg_restore -j2 of a directory dump",
        _ratio("restore", "ours_restore", "pg_restore"),
        1.1,
        "×",
    ),
    Target(
        "restore_one",
        "restore of nine tenths in one table, against the guide's",
        _ratio("restore_one", "ours_restore", "manual"),
        0.85,
        "×",
    ),
    Target(
        "restore_online",
        "restore --online: longest time without an answer for 50 clients that reconnect",
        _fact("restore", "online_gap_seconds"),
        5.0,
        "s",
    ),
    Target(
        "restore_guard",
        "CPU of guard, counts and hash (verification and load), against the restore's seconds",
        _guard_share,
        0.1,
        "×",
    ),
    Target(
        "copy_s3",
        "copy to S3, encrypted and confirmed, against rclone copyto",
        _ratio("copy_s3", "ours", "alone"),
        1.25,
        "×",
    ),
    Target(
        "copy_sftp",
        "copy to SFTP, encrypted and confirmed, against rclone copyto",
        _ratio("copy_sftp", "ours", "alone"),
        1.25,
        "×",
    ),
    Target("copy_memory", "peak memory of all processes of a copy", _copy_memory, 100.0, "MB"),
    Target("listing", f"a place with {MANY:,} copies: verify-backups.sh --at", _listing, 5.0, "s"),
    Target(
        "lost_host",
        "a lost host: both databases answer again, from S3",
        lambda tables: tables["lost_host"].median("ours") if "lost_host" in tables else None,
        300.0,
        "s",
    ),
    Target("restore_memory", "peak memory of all processes of a restore", _restore_memory, 150.0, "MB"),
    Target("start", "CPU of --help, a status, or a watchdog that is not needed", _start, 0.12, "s"),
    Target(
        "empty",
        "empty database: more than docker exec pg_dump | gzip",
        _difference("empty", "ours_auto", "guide"),
        1.0,
        "s",
    ),
    Target(
        "crowded",
        f"{MANY:,} backups in the directory: more than an empty one",
        _difference("crowded", "crowded", "alone"),
        1.0,
        "s",
    ),
    Target(
        "host_loss",
        "host and disk lost under load, recovered from S3 alone: seconds of commits lost, the worst round",
        _fact("host_loss", "longest_span"),
        60.0,
        "s",
    ),
    Target(
        "loss",
        "container killed and volume deleted under load: seconds of commits lost, the worst round",
        _fact("loss", "plain_longest_span"),
        1.0,
        "s",
    ),
    Target(
        "loss_synchronous",
        "the same with WAL_SYNC and synchronous_standby_names: commits lost, the worst round",
        _fact("loss", "synchronous_most_lost"),
        0.0,
        "commits",
    ),
    Target(
        "landing",
        "recovery to the time of a commit: rows too many or too few, all rounds",
        _fact("landing", "wrong"),
        0.0,
        "rows",
    ),
    Target(
        "cost",
        "archiving: pgbench's throughput lost, median of the pairs",
        _fact("cost", "percent_lost"),
        3.0,
        "%",
    ),
    Target(
        "cost_paced",
        "the same at half of what the server can do",
        _fact("cost_paced", "percent_lost"),
        3.0,
        "%",
    ),
    Target(
        "cost_latency",
        "the same: latency that our receiver adds, against what a bare pg_receivewal adds",
        _latency_above,
        1.3,
        "×",
    ),
    Target(
        "recovery",
        "recovery of the large database to its latest point, all checks",
        lambda tables: tables["recovery"].median("ours_recovery") if "recovery" in tables else None,
        30.0,
        "s",
    ),
    Target(
        "base_proof",
        "base backup with its proof, against bare pg_basebackup",
        _ratio("base", "ours_base", "bare"),
        1.7,
        "×",
    ),
    Target(
        "cluster_memory", "peak memory of all processes of a base backup, of a recovery", _cluster_memory, 150.0, "MB"
    ),
    Target(
        "base_stream",
        "base backup: start to published without proof, against bare pg_basebackup",
        _ratio("base", "ours_base_unproven", "bare"),
        1.2,
        "×",
    ),
    Target(
        "base_size",
        "base backup: size against bare pg_basebackup's",
        _ratio("base", "ours_base", "bare", "file_bytes"),
        0.5,
        "×",
    ),
)


def outcomes(tables: Tables) -> list[dict[str, object]]:
    """Return every target with its outcome."""
    return [target.outcome(tables) for target in TARGETS]
