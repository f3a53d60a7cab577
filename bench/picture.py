"""Draws the results: the contenders side by side, growth of time and memory, verification."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from contenders import FLOOR, OURS, PEER, Row, Table
from matplotlib import pyplot
from matplotlib.axes import Axes

COLOURS = {FLOOR: "#8a8a8a", PEER: "#c98a3d", OURS: "#1f6fb4"}
CHECKED = "#9cc3e4"  # the part of ours that is reading back
MEMORY_LIMIT_MB = 100
NAMES = {"guide": "docker exec pg_dump | gzip", "ours_sidecar": "ours, with read-back", "floor": "pg_dump > /dev/null"}
# Points above (or below) its marker at which a line's numbers and its name stand, so that they do not meet.
PLACES = {"guide": (7, -3), "ours_sidecar": (7, 1), "floor": (-14, -9)}


def draw(tables: Mapping[str, Table], about: Mapping[str, Any], path: Path) -> None:
    """Write one picture of everything in `tables`; a part that was not measured is not there."""
    growth = [table for key, table in tables.items() if key.startswith("growth_")]
    parts: list[tuple[float, Callable[[Axes], None], bool]] = [
        (2.2, lambda axes: _bars(axes, tables["backup"]), "backup" in tables),
        (1.0, lambda axes: _bars(axes, tables["demo"]), "demo" in tables),
        (1.0, lambda axes: _bars(axes, tables["verify"]), "verify" in tables),
        (1.4, lambda axes: _growth_of_time(axes, growth), bool(growth)),
        (1.4, lambda axes: _growth_of_memory(axes, growth), bool(growth)),
    ]
    wanted = [(height, part) for height, part, is_there in parts if is_there]
    if not wanted:
        return
    heights = [height for height, _ in wanted]
    figure, all_axes = pyplot.subplots(
        len(wanted),
        1,
        figsize=(11, 2.0 * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axes, (_, part) in zip(all_axes[:, 0], wanted, strict=True):
        part(axes)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"PostgreSQL {about['postgresql']} in Docker, {about['cores']} cores ({about['processor']}), "
        f"{about['measured'][:10]}: shorter and lower is better",
        fontsize=10,
    )
    figure.savefig(path, dpi=130, facecolor="white")
    pyplot.close(figure)


def _bars(axes: Axes, table: Table) -> None:
    """One bar for each contender; ours with the read-back as a lighter part."""
    rows = [row for row in table.rows if row.runs and not row.key.endswith("_published")]
    longest = max(_seconds(row) for row in rows)
    for place, row in enumerate(rows):
        total, read_back = _seconds(row), row.median("read_back_seconds") or 0.0
        axes.barh(place, total - read_back, color=COLOURS[row.kind], height=0.68)
        axes.barh(place, read_back, left=total - read_back, color=CHECKED, height=0.68)
        words = f"{total:.1f} s" if total >= 1 else f"{total:.2f} s"
        if read_back:
            words += f", {read_back:.{1 if total >= 1 else 2}f} s of it reading back"
        if row.median("file_bytes"):
            words += f"   file: {(row.median('file_bytes') or 0) / 1e6:,.0f} MB"
        axes.text(total + longest * 0.008, place, words, va="center", fontsize=8.5)
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xlim(0, longest * (1.42 if table.median("ours_sidecar") else 1.12))
    axes.set_xlabel(f"seconds (median of rounds: {table.facts['rounds']})")
    axes.set_title(table.title, loc="left", fontsize=11, fontweight="bold")


def _seconds(row: Row) -> float:
    return row.median("seconds") or 0.0


def _growth_of_time(axes: Axes, growth: list[Table]) -> None:
    _lines(axes, growth, ("floor", "guide", "ours_sidecar"), "seconds", 1.0, "{:.1f} s")
    axes.set_ylabel("seconds (log)")
    axes.set_yscale("log")
    lowest, highest = axes.get_ylim()
    axes.set_ylim(lowest / 1.8, highest * 1.6)
    ticks = [tick for tick in (0.01, 0.1, 1, 10, 100, 1000) if lowest / 1.8 <= tick <= highest * 1.6]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_title("Time against size of the database", loc="left", fontsize=11, fontweight="bold")


def _growth_of_memory(axes: Axes, growth: list[Table]) -> None:
    _lines(axes, growth, ("ours_sidecar",), "python_memory", 1e6, "{:.0f} MB")
    axes.axhline(MEMORY_LIMIT_MB, color="#b03030", linewidth=1, linestyle="--")
    axes.text(
        _megabytes(growth[0]), MEMORY_LIMIT_MB * 1.02, f"limit: {MEMORY_LIMIT_MB} MB", color="#b03030", fontsize=8.5
    )
    axes.set_ylim(0, MEMORY_LIMIT_MB * 1.25)
    axes.set_ylabel("MB")
    axes.set_title(
        "Peak memory of our process against size of the database", loc="left", fontsize=11, fontweight="bold"
    )


def _lines(axes: Axes, growth: list[Table], keys: tuple[str, ...], field: str, unit: float, words: str) -> None:
    for key in keys:
        rows = [(table, row) for table in growth if (row := table.row(key)) and row.median(field)]
        if not rows:
            continue
        colour, label = COLOURS[rows[0][1].kind], NAMES[key]
        across = [_megabytes(table) for table, _ in rows]
        up = [(row.median(field) or 0) / unit for _, row in rows]
        axes.plot(across, up, color=colour, marker="o", linewidth=2)
        number_at, name_at = PLACES[key]
        for point in zip(across, up, strict=True):
            axes.annotate(
                words.format(point[1]),
                point,
                (0, number_at),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=colour,
            )
        axes.annotate(
            label, (across[-1], up[-1]), (20, name_at), textcoords="offset points", fontsize=8.5, color=colour
        )
    axes.set_xscale("log")
    ticks = [_megabytes(table) for table in growth]
    axes.set_xticks(ticks, [f"{tick:,.0f} MB" if tick < 1000 else f"{tick / 1000:.1f} GB" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(min(ticks) * 0.7, max(ticks) * 7)
    axes.set_xlabel("size of the database (log)")


def _megabytes(table: Table) -> float:
    return float(table.facts["database_bytes"]) / 1e6
