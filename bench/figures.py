"""What the tables of a run come to, in one number for each target: ratios, differences, facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from contenders import OURS, Table

Tables = Mapping[str, Table]
MANY = 10_000
STARTS = 10
_OF_CLUSTERS = {"base": "ours_base", "recovery": "ours_recovery"}  # table -> row


def ratio(table: str, above: str, below: str, field: str = "seconds") -> Callable[[Tables], float | None]:
    def value(tables: Tables) -> float | None:
        if table not in tables:
            return None
        upper, lower = (tables[table].median(key, field) for key in (above, below))
        return upper / lower if upper is not None and lower else None

    return value


def more(table: str, above: str, below: str) -> Callable[[Tables], float | None]:
    def value(tables: Tables) -> float | None:
        if table not in tables:
            return None
        upper, lower = (tables[table].median(key) for key in (above, below))
        return upper - lower if upper is not None and lower is not None else None

    return value


def difference(table: str, upper: str, lower: str) -> Callable[[Tables], float | None]:
    def value(tables: Tables) -> float | None:
        counted = table in tables and tables[table].facts.get("backups", MANY) >= MANY
        return more(table, upper, lower)(tables) if counted else None

    return value


def highest_memory(tables: Tables) -> float | None:
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


def fact(table: str, name: str) -> Callable[[Tables], float | None]:
    return lambda tables: tables[table].facts.get(name) if table in tables else None


def guard_share(tables: Tables) -> float | None:
    if "restore" not in tables or not (total := tables["restore"].median("ours_restore")):
        return None
    facts: Mapping[str, float] = tables["restore"].facts
    return (facts["guard_seconds"] + facts["verify_seconds"] - 2 * facts["inflate_seconds"]) / total


def restore_memory(tables: Tables) -> float | None:
    names = [name for name in ("restore", "restore_one") if name in tables]
    found = [memory for name in names if (memory := tables[name].median("ours_restore", "host_memory"))]
    return max(found) / 1e6 if found else None


def cluster_memory(tables: Tables) -> float | None:
    found = [tables[key].median(row, "host_memory") for key, row in _OF_CLUSTERS.items() if key in tables]
    return max((memory / 1e6 for memory in found if memory), default=None)


def copy_memory(tables: Tables) -> float | None:
    found = [tables[key].median("ours", "host_memory") for key in ("copy_s3", "copy_sftp") if key in tables]
    return max((bytes_of_it / 1e6 for bytes_of_it in found if bytes_of_it), default=None)


def listing(tables: Tables) -> float | None:
    counted = "listing" in tables and tables["listing"].facts.get("objects", MANY) >= MANY
    return tables["listing"].median("ours") if counted else None


def start(tables: Tables) -> float | None:
    """CPU seconds of the dearest of the starts."""
    keys = ("help", "status", "watchdog") if "start" in tables else ()
    found = [tables["start"].median(key, "cpu_seconds") for key in keys]
    return max((seconds / STARTS for seconds in found if seconds), default=None)


def latency_above(tables: Tables) -> float | None:
    """How much latency our receiver adds at half load, against what a bare one adds."""
    if "cost_paced" not in tables:
        return None
    none, bare, ours = (tables["cost_paced"].median(key, "latency") for key in ("without", "bare", "with"))
    return (ours - none) / (bare - none) if none and bare and ours and bare > none else None
