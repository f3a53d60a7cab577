"""What archiving costs production: pgbench on one durable server without a receiver, with a bare one, with ours."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from contenders import OURS, PEER, Column, Row, Run, Table
from measure import MeasuredFailed
from point_in_time_loss import DATABASE, IS_RECEIVER, archived, begin
from scene import USER, Scene, archives

SCALE, CLIENTS, SECONDS = 20, 4, 10
LOAD = f"pgbench -c {CLIENTS} -j 2 -T {SECONDS}, scale {SCALE}"
_WARM_SECONDS = 5
# As the bench's own server: no checkpoint falls into a run but the one before it.
_SETTINGS = {"max_wal_size": "8GB", "checkpoint_timeout": "1h"}
_TICKS = os.sysconf("SC_CLK_TCK")
COLUMNS = [
    Column("transactions/s", "tps", 1, 0),
    Column("latency ms", "latency", 1, 2),
    Column("% lost against none", "percent", 1, 1),
    Column("MB of WAL", "wal_bytes", 1e6, 0),
    Column("CPU s of our process", "python_cpu", 1, 1),
]


def measure(scene: Scene, rounds: int, idle: float) -> Iterator[Table]:
    """Yield two tables: with a load that takes all that is left, and with half of that."""
    with archived(scene, server=_SETTINGS) as lab:
        lab.server.exec(["pgbench", "-q", "-i", "-s", str(SCALE), "-U", USER, DATABASE])
        begin(lab)
        _pgbench(lab, _WARM_SECONDS)
        facts = {"rounds": rounds, "idle_cpu": round(idle, 3)}
        full = Table("cost", f"What archiving costs production: {LOAD}", [], {**facts}, columns=COLUMNS)
        _fill(lab, full, rounds)
        full.facts["notes"] = [
            "pgbench, server and receiver share the cores of this machine, and pgbench takes all that is left. Each run"
            " begins with a checkpoint, and with all WAL taken by the receiver, which is then stopped or not. Lost is"
            " counted within each round."
        ]
        yield full
        rate = round((full.median("without", "tps") or 0) / 2)
        title = f"What archiving costs production that has cores to spare: {LOAD}, -R {rate}"
        paced = Table("cost_paced", title, [], {**facts}, columns=COLUMNS)
        _fill(lab, paced, rounds, rate)
        paced.facts["notes"] = [
            "Half of what the server can do without a receiver. Latency counts from when a transaction was due."
        ]
        yield paced


def _fill(lab: archives.Lab, table: Table, rounds: int, rate: int = 0) -> None:
    """The three take turns, each round beginning with another one."""
    print(f"\n{table.title}", flush=True)
    rows = table.rows = [
        Row("without", "no receiver", PEER, LOAD),
        Row("bare", "bare pg_receivewal, which keeps all it gets", PEER, LOAD),
        Row("with", "receive-wal.sh", OURS, LOAD),
    ]
    for number in range(rounds):
        first = number % len(rows)
        for row in [*rows[first:], *rows[:first]]:
            row.runs.append(_run(lab, row.key, rate))
        for row in rows[1:]:
            row.runs[-1]["percent"] = round(100 * (1 - row.runs[-1]["tps"] / rows[0].runs[-1]["tps"]), 2)
        told = ", ".join(f"{row.key} {row.runs[-1]['tps']:,.0f}" for row in rows)
        lost = f"{rows[1].runs[-1]['percent']:.1f} % and {rows[2].runs[-1]['percent']:.1f} % lost"
        print(f"  {number + 1}/{rounds}  transactions/s: {told}: {lost}", flush=True)
    percent = [run["percent"] for run in rows[2].runs]
    table.facts |= {"percent_lost": round(median(percent), 2), "lowest": min(percent), "highest": max(percent)}


def _run(lab: archives.Lab, key: str, rate: int) -> Run:
    _make_ready(lab, receiving=key == "with")
    ours = lab.receivers[-1].pid if lab.receivers else None
    with _bare_receiver(lab, wanted=key == "bare"):
        before, began = _cpu_of(ours), _position(lab)
        run = _pgbench(lab, SECONDS, rate)
        run["wal_bytes"] = _position(lab) - began
        if ours is not None:
            run["python_cpu"] = round(_cpu_of(ours) - before, 2)
    return run


def _make_ready(lab: archives.Lab, *, receiving: bool) -> None:
    """The same beginning for all: WAL all taken, what is dirty written out; then our receiver is stopped or stays."""
    if not lab.receivers:
        lab.start()
    taken = f"SELECT pg_current_wal_lsn() - write_lsn < 1 << 20 FROM pg_stat_replication WHERE {IS_RECEIVER}"
    lab.until(lambda: lab.server.sql(taken) == [(True,)])
    lab.server.sql("CHECKPOINT")
    if not receiving:
        lab.stop()
    os.sync()
    time.sleep(1)  # what the receiver is still compressing


@contextmanager
def _bare_receiver(lab: archives.Lab, *, wanted: bool) -> Iterator[None]:
    """PostgreSQL's own program alone, in the container."""
    if not wanted:
        yield
        return
    line = f"rm -rf /tmp/bare && mkdir /tmp/bare && exec pg_receivewal -U {USER} -D /tmp/bare --no-loop"
    receiver = subprocess.Popen(
        ["docker", "exec", lab.server.id, "sh", "-c", line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    its = "FROM pg_stat_replication WHERE application_name = 'pg_receivewal'"
    try:
        lab.until(lambda: lab.server.sql(f"SELECT state {its}") == [("streaming",)], 20)
        yield
    finally:
        lab.server.sql(f"SELECT pg_terminate_backend(pid) {its}")
        receiver.wait(30)


def _position(lab: archives.Lab) -> int:
    return int(lab.server.sql("SELECT pg_current_wal_lsn() - '0/0'")[0][0])


def _cpu_of(pid: int | None) -> float:
    """CPU seconds of a process and of its children that have ended."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def _pgbench(lab: archives.Lab, seconds: int, rate: int = 0) -> Run:
    """rate: transactions per second, as many as there can be without it."""
    paced = ["-R", str(rate)] if rate else []
    words = ["pgbench", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds), *paced, "-U", USER, DATABASE]
    said = lab.server.exec(words).stdout
    found = [re.search(pattern, said) for pattern in (r"tps = ([\d.]+)", r"latency average = ([\d.]+) ms")]
    if not all(found):
        raise MeasuredFailed(f"pgbench said: {said[-500:]}")
    return {name: float(match[1]) for name, match in zip(("tps", "latency"), found, strict=True) if match}
