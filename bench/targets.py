"""What is to be reached, and what was measured. Says so, and never fails a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from figures import (
    MANY,
    Tables,
    cluster_memory,
    copy_memory,
    difference,
    fact,
    guard_share,
    highest_memory,
    latency_above,
    listing,
    more,
    ratio,
    restore_memory,
    start,
)


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


def _against_the_guide(table: str, data: str, proven: float) -> tuple[Target, ...]:
    """proven: what a backup may take with its read-back, by the floor."""
    return (
        Target(
            f"{table}_floor",
            f"{data}: sidecar to published file without read-back, against pg_dump > /dev/null",
            ratio(table, "ours_sidecar_published", "floor"),
            1.4,
            "×",
        ),
        Target(
            f"{table}_floor_proven",
            f"{data}: the same with read-back",
            ratio(table, "ours_sidecar", "floor"),
            proven,
            "×",
        ),
        Target(
            f"{table}_guide",
            f"{data}: the same, faster than the guide's pipeline",
            ratio(table, "guide", "ours_sidecar_published"),
            4.0,
            "×",
            at_least=True,
        ),
        Target(
            f"{table}_guide_checked",
            f"{data}: with read-back, faster than the guide's pipeline followed by gunzip -t",
            ratio(table, "guide_checked", "ours_sidecar"),
            4.0,
            "×",
            at_least=True,
        ),
        Target(
            f"{table}_size",
            f"{data}: file size against gzip's",
            ratio(table, "ours_sidecar", "guide", "file_bytes"),
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
        ratio("steady_night", "night", "alone"),
        1.15,
        "×",
    ),
    Target("memory", "peak memory of our process in any backup, at any size", highest_memory, 100.0, "MB"),
    Target(
        "verify",
        "verify-backups.sh: faster than gunzip -t over the same files",
        ratio("verify", "gunzip", "ours"),
        4.0,
        "×",
        at_least=True,
    ),
    Target("drill", "drill against the plain load into such a server", ratio("drill", "ours_drill", "plain"), 1.2, "×"),
    Target(
        "night", "what the drill adds to a night of a small database", more("night", "ours_night", "without"), 5.0, "s"
    ),
    Target(
        "restore",
        "restore-postgres.sh, all checks, against the guide's manual restore, which has none",
        ratio("restore", "ours_restore", "manual"),
        0.8,
        "×",
    ),
    Target(
        "restore_directory",
        "the same against pg_restore -j2 of a directory dump",
        ratio("restore", "ours_restore", "pg_restore"),
        1.1,
        "×",
    ),
    Target(
        "restore_one",
        "restore of nine tenths in one table, against the guide's",
        ratio("restore_one", "ours_restore", "manual"),
        0.85,
        "×",
    ),
    Target(
        "restore_online",
        "restore --online: longest time without an answer for 50 clients that reconnect",
        fact("restore", "online_gap_seconds"),
        5.0,
        "s",
    ),
    Target(
        "restore_guard",
        "CPU of guard, counts and hash (verification and load), against the restore's seconds",
        guard_share,
        0.1,
        "×",
    ),
    Target(
        "copy_s3",
        "copy to S3, encrypted and confirmed, against rclone copyto",
        ratio("copy_s3", "ours", "alone"),
        1.25,
        "×",
    ),
    Target(
        "copy_sftp",
        "copy to SFTP, encrypted and confirmed, against rclone copyto",
        ratio("copy_sftp", "ours", "alone"),
        1.25,
        "×",
    ),
    Target("copy_memory", "peak memory of all processes of a copy", copy_memory, 100.0, "MB"),
    Target("listing", f"a place with {MANY:,} copies: verify-backups.sh --at", listing, 5.0, "s"),
    Target(
        "lost_host",
        "a lost host: both databases answer again, from S3",
        lambda tables: tables["lost_host"].median("ours") if "lost_host" in tables else None,
        300.0,
        "s",
    ),
    Target("restore_memory", "peak memory of all processes of a restore", restore_memory, 150.0, "MB"),
    Target("start", "CPU of --help, a status, or a watchdog that is not needed", start, 0.12, "s"),
    Target(
        "empty",
        "empty database: more than docker exec pg_dump | gzip",
        difference("empty", "ours_auto", "guide"),
        1.0,
        "s",
    ),
    Target(
        "crowded",
        f"{MANY:,} backups in the directory: more than an empty one",
        difference("crowded", "crowded", "alone"),
        1.0,
        "s",
    ),
    Target(
        "host_loss",
        "host and disk lost under load, recovered from S3 alone: seconds of commits lost, the worst round",
        fact("host_loss", "longest_span"),
        60.0,
        "s",
    ),
    Target(
        "loss",
        "container killed and volume deleted under load: seconds of commits lost, the worst round",
        fact("loss", "plain_longest_span"),
        1.0,
        "s",
    ),
    Target(
        "loss_synchronous",
        "the same with WAL_SYNC and synchronous_standby_names: commits lost, the worst round",
        fact("loss", "synchronous_most_lost"),
        0.0,
        "commits",
    ),
    Target(
        "landing",
        "recovery to the time of a commit: rows too many or too few, all rounds",
        fact("landing", "wrong"),
        0.0,
        "rows",
    ),
    Target(
        "cost",
        "archiving: pgbench's throughput lost, median of the pairs",
        fact("cost", "percent_lost"),
        3.0,
        "%",
    ),
    Target(
        "cost_paced",
        "the same at half of what the server can do",
        fact("cost_paced", "percent_lost"),
        3.0,
        "%",
    ),
    Target(
        "cost_latency",
        "the same: latency that our receiver adds, against what a bare pg_receivewal adds",
        latency_above,
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
        ratio("base", "ours_base", "bare"),
        1.7,
        "×",
    ),
    Target(
        "cluster_memory", "peak memory of all processes of a base backup, of a recovery", cluster_memory, 150.0, "MB"
    ),
    Target(
        "base_stream",
        "base backup: start to published without proof, against bare pg_basebackup",
        ratio("base", "ours_base_unproven", "bare"),
        1.2,
        "×",
    ),
    Target(
        "base_size",
        "base backup: size against bare pg_basebackup's",
        ratio("base", "ours_base", "bare", "file_bytes"),
        0.5,
        "×",
    ),
)


def outcomes(tables: Tables) -> list[dict[str, object]]:
    """Return every target with its outcome."""
    return [target.outcome(tables) for target in TARGETS]
