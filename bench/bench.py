"""Speed and memory, side by side with the guide's pipeline and others, on real PostgreSQL in Docker.

    make bench
    bench/bench.py --rows 20000 --rounds 2 --only backup,verify

Prints tables and whether the targets were reached; writes results.json, results.md and a picture. A run that is
smaller than the whole writes them into .cache/bench, so that it cannot pass for the whole. Each option has
an environment variable for `make bench`: BENCH_ROWS, BENCH_ROUNDS, BENCH_ONLY, BENCH_GROWTH, BENCH_MANY,
BENCH_PLACE, BENCH_RESULTS.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import picture
import report
import scene
import section_backup
import section_drill
import section_growth
import section_host_loss
import section_night
import section_offsite
import section_point_in_time
import section_restore
import section_small
import section_verify
from contenders import Table
from measure import MeasuredFailed

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# Option -> what the whole bench uses, and its meaning.
OPTIONS = {
    "rows": ("540000", "payments of the main database, 1.9 kB each"),
    "rounds": ("5", "how often each contender runs; twice that in the section 'small'"),
    "only": (
        "backup,night,verify,restore,drill,small,growth,point_in_time,offsite,host_loss",
        "the sections to run, by comma",
    ),
    "growth": ("10,100,1000,4000", "sizes of the section 'growth' in MB, by comma"),
    "many": ("10000", "backups in the crowded directory"),
    "place": ("/var/tmp", "where the backups are made"),  # noqa: S108  a directory of our own is made in it
    "results": ("", "where the results go"),
}


@dataclass(frozen=True)
class Chosen:
    """The options, parsed. growth: sizes in MB."""

    rows: int
    rounds: int
    only: list[str]
    growth: list[int]
    many: int
    place: Path
    results: Path


def sections(stage: scene.Scene, chosen: Chosen) -> dict[str, Callable[[], Iterable[Table]]]:
    """Section name -> its measurement. A new one is a line here and a module beside this one."""
    return {
        "backup": lambda: section_backup.measure(stage, chosen.rows, chosen.rounds),
        "night": lambda: section_night.measure(stage, chosen.rows, chosen.rounds),
        "verify": lambda: section_verify.measure(stage, chosen.rows, chosen.rounds),
        "restore": lambda: section_restore.measure(stage, chosen.rows, chosen.rounds),
        "drill": lambda: section_drill.measure(stage, chosen.rows, chosen.rounds),
        "small": lambda: section_small.measure(stage, chosen.many, 2 * chosen.rounds),
        "growth": lambda: section_growth.measure(stage, chosen.growth, chosen.rows, chosen.rounds),
        "point_in_time": lambda: section_point_in_time.measure(stage, chosen.rows, chosen.rounds),
        "host_loss": lambda: section_host_loss.measure(stage, min(chosen.rounds, 3)),
        "offsite": lambda: section_offsite.measure(stage, chosen.rows, chosen.many, chosen.rounds),
    }


def options(arguments: list[str]) -> Chosen:
    """Read the command line; the environment has the defaults."""
    parser = argparse.ArgumentParser(
        prog="bench.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, (value, meaning) in OPTIONS.items():
        default = os.environ.get(f"BENCH_{name.upper()}", value)
        parser.add_argument(f"--{name}", default=default, help=f"{meaning}; default {default or 'as above'}")
    given = vars(parser.parse_args(arguments))
    is_whole = all(given[name] == value for name, (value, _) in OPTIONS.items() if name not in ("place", "results"))
    folder = given["results"] or (HERE / "results" if is_whole else ROOT / ".cache/bench")
    only, known = given["only"].split(","), OPTIONS["only"][0].split(",")
    if not set(only) <= set(known):
        parser.error(f"--only {given['only']}: choose from {','.join(known)}")
    try:
        growth = [int(size) for size in given["growth"].split(",")]
        rows, rounds, many = (int(given[name]) for name in ("rows", "rounds", "many"))
    except ValueError as wrong:
        parser.error(str(wrong))
    return Chosen(rows, rounds, only, growth, many, Path(given["place"]), Path(folder))


def measure(chosen: Chosen) -> list[str]:
    """Run the chosen sections, saving after each one; return what failed, a sentence for each section."""
    about, failures = report.machine(), []
    tables: dict[str, Table] = {}
    with scene.built(chosen.place) as stage:
        for name, section in sections(stage, chosen).items():
            if name not in chosen.only:
                continue
            try:
                for table in section():  # what was measured before a failure is kept
                    tables[table.key] = table
            except MeasuredFailed as failed:
                failures.append(f"section '{name}' could not be measured: {failed}")
                print(f"bench: {failures[-1]}", file=sys.stderr)
            report.save(chosen.results, about, tables)
    print("\n" + report.markdown(about, tables))
    picture.draw(tables, about, chosen.results / "speed.png")
    print(f"written to {chosen.results}: results.json, results.md, speed.png")
    return failures


def main() -> int:
    """Measure, or say in one sentence why that is impossible. A target that was not reached is no failure."""
    chosen = options(sys.argv[1:])
    if not scene.engine_is_there():
        return 69
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        return 1 if measure(chosen) else 0
    except scene.NO_SERVER as failed:
        print(f"bench: {failed}", file=sys.stderr)
        return 69
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
