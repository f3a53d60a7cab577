"""What is measured against each other, and the tables of what came out. One round runs every contender once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import measure

FLOOR, PEER, OURS = "floor", "peer", "ours"
Run = dict[str, Any]
"""One measurement: seconds, cpu_seconds, host_memory, python_memory, perhaps file_bytes, and what `inspect` adds."""


@dataclass(frozen=True)
class Contender:
    """One way to do the job.

    key: in results.json. kind: FLOOR, PEER or OURS. line: for bash. output: the file or directory that the line
    makes, removed before each run. inspect: given what the line printed, returns more fields for the run.
    after: a line that is measured by itself afterwards, as `after_seconds`.
    """

    key: str
    label: str
    kind: str
    line: str
    environment: Mapping[str, str] = field(repr=False)
    output: Path | None = None
    inspect: Callable[[str], Run] | None = None
    prepare: Callable[[], None] | None = None
    after: str = ""


@dataclass
class Row:
    """A contender and its runs, one of each round."""

    key: str
    label: str
    kind: str
    line: str
    runs: list[Run] = field(default_factory=list)

    def median(self, name: str) -> float | None:
        """The median of a field over the runs; None when no run has it."""
        values = [run[name] for run in self.runs if run.get(name) is not None]
        return median(values) if values else None

    def document(self) -> dict[str, Any]:
        return {"key": self.key, "label": self.label, "kind": self.kind, "line": self.line, "runs": self.runs}


class Column(NamedTuple):
    """A column of a table of its own kind: a field of the runs, divided by `unit`, with so many digits."""

    head: str
    field: str
    unit: float
    digits: int


@dataclass
class Table:
    """Contenders that did the same job, interleaved. left_out: contender -> why it could not run here.

    columns: what is shown of the runs; without any, seconds, CPU, memory and size.
    """

    key: str
    title: str
    rows: list[Row]
    facts: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    columns: list[Column] = field(default_factory=list)

    def row(self, key: str) -> Row | None:
        return next((row for row in self.rows if row.key == key and row.runs), None)

    def median(self, key: str, name: str = "seconds") -> float | None:
        row = self.row(key)
        return row.median(name) if row else None

    def document(self) -> dict[str, Any]:
        rows = [row.document() for row in self.rows]
        known = {"key": self.key, "title": self.title, "facts": self.facts, "left_out": self.left_out, "rows": rows}
        return {**known, "columns": [list(column) for column in self.columns]}


def compare(key: str, title: str, contenders: Sequence[Contender], rounds: int, left_out: dict[str, str]) -> Table:
    """Run all contenders `rounds` times, each round beginning with another one, and return the table.

    A contender that fails is left out from then on, and the table says why.
    """
    print(f"\n{title}", flush=True)
    idle = measure.idle_load()
    rows = {one.key: Row(one.key, one.label, one.kind, one.line) for one in contenders}
    table = Table(key, title, list(rows.values()), {"rounds": rounds, "idle_cpu": round(idle, 3)}, left_out)
    for number in range(rounds):
        first = number % max(1, len(contenders))
        for one in [*contenders[first:], *contenders[:first]]:
            if one.label in left_out:
                continue
            try:
                run = _once(one, idle)
            except (measure.MeasuredFailed, ValueError, LookupError, OSError) as failed:
                left_out[one.label] = str(failed)[:600]
                rows[one.key].runs.clear()
                print(f"  left out: {one.label}: {left_out[one.label]}", flush=True)
                continue
            rows[one.key].runs.append(run)
            print(f"  {number + 1}/{rounds}  {one.label:60} {run['seconds']:8.2f} s", flush=True)
    return table


def _once(one: Contender, idle: float) -> Run:
    remove(one.output)
    if one.prepare:
        one.prepare()
    done = measure.run(one.line, one.environment, idle)
    run: Run = {
        "seconds": round(done.seconds, 4),
        "cpu_seconds": round(done.cpu_seconds, 2),
        "host_memory": done.host_memory,
        "python_memory": done.python_memory,
    }
    if one.inspect:
        run |= one.inspect(done.stdout)
    if one.output:
        run["file_bytes"] = size(one.output)
    if one.after:
        run["after_seconds"] = round(measure.run(one.after, one.environment, idle).seconds, 4)
    remove(one.output)
    return run


def derived(table: Table, of: str, key: str, label: str, seconds: Callable[[Run], float]) -> None:
    """Add behind row `of` a row whose seconds follow from that row's runs; its CPU seconds are not known."""
    row = table.row(of)
    if row:
        kept = ("host_memory", "python_memory", "file_bytes")
        runs = [
            {"seconds": round(seconds(run), 4), **{name: run[name] for name in kept if name in run}} for run in row.runs
        ]
        table.rows.insert(table.rows.index(row) + 1, Row(key, label, row.kind, row.line, runs))


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a directory."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def remove(path: Path | None) -> None:
    """Remove what a contender made."""
    if path is not None and path.is_dir():
        shutil.rmtree(path)
    elif path is not None:
        path.unlink(missing_ok=True)


def table_from(document: Mapping[str, Any]) -> Table:
    """The table that document() described."""
    rows = [Row(**row) for row in document["rows"]]
    columns = [Column(*column) for column in document.get("columns", [])]
    return Table(**{**document, "rows": rows, "columns": columns})


def only_document(stdout: str) -> dict[str, Any]:
    """The JSON document that one of our commands printed."""
    found = json.loads(stdout)
    if not isinstance(found, dict):
        raise ValueError("the document is not an object")
    return found
