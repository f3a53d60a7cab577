"""Recovery to a point in time: what a dead database loses, how exactly it lands, and what it costs."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator

import measure as machine
import point_in_time_cost
import point_in_time_large
import point_in_time_loss
from contenders import OURS, Column, Row, Run, Table
from measure import MeasuredFailed
from point_in_time_loss import archived, begin, restored
from scene import Scene, archives

LANDING_ROWS = 20_000


def measure(scene: Scene, rows: int, rounds: int) -> Iterator[Table]:
    """Yield six tables: loss, landing, cost twice; base backup and recovery of the large database."""
    idle = machine.idle_load()
    try:
        yield point_in_time_loss.measure(scene, rounds, idle)
        yield _landing(scene, rounds, idle)
        yield from point_in_time_cost.measure(scene, rounds + 1, idle)
        yield from point_in_time_large.measure(scene, rows, rounds)
    except (AssertionError, subprocess.TimeoutExpired) as failed:  # what Lab raises when it has waited too long
        raise MeasuredFailed(str(failed)) from None


def _landing(scene: Scene, rounds: int, idle: float) -> Table:
    """Recover to the commits of rows that are chosen by chance, and see which rows are there."""
    title = "Recovery to the time of a commit, among commits that follow each other within less than a millisecond"
    print(f"\n{title}", flush=True)
    with archived(scene, server={"track_commit_timestamp": "on"}) as lab:
        begin(lab)
        stamps = _committed(lab)
        lab.await_confirmed()
        row = Row("landing", "restore-postgres.sh --to-time --into, to a row's commit", OURS, "--to-time")
        for number in range(rounds):
            run = _landed(lab, stamps, random.randrange(1, len(stamps) - 1), f"landed_{number}")
            row.runs.append(run)
            told = f"{run['wanted']:7,} rows wanted, {run['found']:7,} found, {run['wrong']} wrong"
            print(f"  {number + 1}/{rounds}  {told}  {run['seconds']:8.2f} s", flush=True)
    columns = [
        Column("seconds", "seconds", 1, 2),
        Column("rows wanted", "wanted", 1, 0),
        Column("rows found", "found", 1, 0),
        Column("wrong", "wrong", 1, 0),
        Column("µs to the next commit", "gap", 1, 0),
    ]
    table = Table("landing", title, [row], {"rounds": rounds, "idle_cpu": round(idle, 3)}, columns=columns)
    seconds = (stamps[-1] - stamps[0]) / 1e6
    table.facts |= {"wrong": sum(run["wrong"] for run in row.runs), "rows": len(stamps)}
    table.facts["rows_per_ms"] = round(len(stamps) / seconds / 1000, 2)
    table.facts["notes"] = [f"{len(stamps):,} commits, {table.facts['rows_per_ms']} in a millisecond."]
    return table


def _committed(lab: archives.Lab) -> list[int]:
    """Commit one row after the other and return the microsecond of each commit, in order."""
    lab.server.sql("CREATE TABLE ledger (number int PRIMARY KEY)")
    loop = f"FOR i IN 0..{LANDING_ROWS - 1} LOOP INSERT INTO ledger VALUES (i); COMMIT; END LOOP"
    with lab.server.connect() as session:
        session.execute("SET synchronous_commit = off")  # one client, and yet more than one commit in a millisecond
        session.execute(f"DO $$ BEGIN {loop}; END $$")
    return [stamp for (stamp,) in lab.server.sql(f"SELECT {_STAMP} FROM ledger ORDER BY number")]


_STAMP = "(extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint"


def _landed(lab: archives.Lab, stamps: list[int], chosen: int, name: str) -> Run:
    target = lab.server.sql(f"SELECT pg_xact_commit_timestamp(xmin)::text FROM ledger WHERE number = {chosen}")[0][0]
    begun = time.perf_counter()
    restored(lab, "--to-time", target, "--into", name)
    seconds = time.perf_counter() - begun
    found = {number for (number,) in lab.server.sql("SELECT number FROM ledger", name)}
    wanted = {number for number, stamp in enumerate(stamps) if stamp <= stamps[chosen]}
    lab.server.sql(f"DROP DATABASE {name} WITH (FORCE)")
    return {
        "seconds": round(seconds, 3),
        "target": target,
        "wanted": len(wanted),
        "found": len(found),
        "wrong": len(wanted ^ found),
        "gap": min(stamp for stamp in stamps if stamp > stamps[chosen]) - stamps[chosen],
    }
