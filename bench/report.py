"""The results as JSON, as Markdown and on stdout; all of it made from the same tables."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import targets
from contenders import Column, Row, Table, table_from

_QUIET = 0.1
_LEAST_BYTES = 1e9  # what the targets are meant for
_RESULTS = "results.json"


def machine() -> dict[str, Any]:
    """What the numbers depend on: processor, memory, kernel, Docker, and when."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "")
    docker = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    return {
        "measured": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "docker": docker.stdout.strip(),
        "postgresql": 15,
        "python": platform.python_version(),
    }


def save(folder: Path, about: Mapping[str, Any], tables: Mapping[str, Table]) -> None:
    """Write results.json and results.md."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": about,
        "tables": [table.document() for table in tables.values()],
        "targets": targets.outcomes(tables),
    }
    (folder / _RESULTS).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (folder / "results.md").write_text(markdown(about, tables))


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Table]]:
    """Return what save() has written: the machine, and the tables by key."""
    document = json.loads((folder / _RESULTS).read_text())
    return document["machine"], {table["key"]: table_from(table) for table in document["tables"]}


def markdown(about: Mapping[str, Any], tables: Mapping[str, Table]) -> str:
    """Return the whole report."""
    where = (
        f"Measured {about['measured']} on one machine: {about['processor']}, {about['cores']} cores, "
        f"{about['memory_gib']} GiB; kernel {about['kernel']}, Docker {about['docker']}, "
        f"PostgreSQL {about['postgresql']}, Python {about['python']}."
    )
    parts = ["# Speed and memory", "Written by `make bench`.", where, targets_table(tables), _HOW]
    parts += [_table(table) for table in tables.values()]
    return "\n\n".join(parts) + "\n"


_HOW = """Seconds are wall time, the median of the rounds (lowest–highest). The contenders of a table take turns,
each round beginning with another one. CPU seconds are those of the whole machine (containers and Docker
daemon too), less its idle load. Memory is the highest sum of what is resident at one moment in the processes that the
command starts on the host, Docker clients included; Python is the peak of our Python process alone. MB is a million
bytes. Before each run everything is synced to disk. Our runs sync their file themselves, within their time; the others
do not."""


def targets_table(tables: Mapping[str, Table]) -> str:
    """Return the targets with measured value and outcome, as Markdown."""
    lines = ["| target | wanted | measured | |", "|---|--:|--:|---|"]
    for one in targets.outcomes(tables):
        said = {True: "reached", False: "**not reached**", None: "not measured"}[one["reached"]]  # type: ignore[index]
        measured = "–" if one["measured"] is None else f"{one['measured']:.2f} {one['unit']}"
        meaning = str(one["meaning"]).replace("|", r"\|")
        lines.append(f"| {meaning} | {one['wanted']} | {measured} | {said} |")
    for table in (tables[key] for key in ("backup", "demo") if key in tables):
        floor, guide = table.median("floor"), table.median("guide")
        if floor and guide:
            lines += ["", f"{table.title}: pg_dump alone is {guide / floor:.1f} × faster than the guide's pipeline."]
    backup = tables.get("backup")
    if backup and backup.facts["database_bytes"] < _LEAST_BYTES:
        lines += ["", "The targets are meant for a database of 1 GB or more; this one was smaller."]
    return "\n".join(lines)


def _table(table: Table) -> str:
    rounds, idle = table.facts.get("rounds", 1), table.facts.get("idle_cpu", 0.0)
    warning = " (**something else was at work on this machine**)" if idle > _QUIET else ""
    lines = [
        f"## {table.title}",
        f"{rounds} round{'s' if rounds != 1 else ''}; idle load {idle:.2f} of {os.cpu_count()} cores{warning}.",
        _columns(table, [row for row in table.rows if row.runs]),
    ]
    lines += table.facts.get("notes", [])
    lines += [f"Left out: {who}: {why}" for who, why in table.left_out.items()]
    return "\n\n".join(lines)


def _columns(table: Table, rows: list[Row]) -> str:
    """The rows as a Markdown table, without the columns in which nothing stands."""
    head = ["what", "seconds", "× floor", "CPU s", "memory MB", "Python MB", "file MB"]
    cells = [_cells(table, row) for row in rows] if not table.columns else []
    if table.columns:
        head = ["what", *(column.head for column in table.columns)]
        cells = [[row.label, *(_spread(row, column) for column in table.columns)] for row in rows]
    used = [number for number in range(len(head)) if any(line[number] for line in cells)]
    lines = [head, ["--:" if number else "---" for number in range(len(head))], *cells]
    return "\n".join(f"| {' | '.join(line[number] for number in used)} |" for line in lines)


def _cells(table: Table, row: Row) -> list[str]:
    seconds, floor = [run["seconds"] for run in row.runs], table.median("floor")
    spread = f" ({min(seconds):.2f}–{max(seconds):.2f})" if len(seconds) > 1 else ""
    return [
        row.label.replace("|", r"\|"),
        f"{row.median('seconds'):.2f}{spread}",
        f"{(row.median('seconds') or 0) / floor:.2f}" if floor else "",
        _number(row.median("cpu_seconds"), 1, 2),
        _number(row.median("host_memory"), 1e6, 0),
        _number(row.median("python_memory") or None, 1e6, 0),
        _number(row.median("file_bytes"), 1e6, 1),
    ]


def _spread(row: Row, column: Column) -> str:
    """The median of a field and, where the runs differ, its lowest and highest."""
    values = [run[column.field] for run in row.runs if run.get(column.field) is not None]
    if not values:
        return ""
    middle, lowest, highest = (
        _number(value, column.unit, column.digits) for value in (median(values), min(values), max(values))
    )
    return middle if lowest == highest else f"{middle} ({lowest}–{highest})"


def _number(value: float | None, unit: float, digits: int) -> str:
    return "" if value is None else f"{value / unit:,.{digits}f}"
