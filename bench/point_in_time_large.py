"""The large database with WAL archiving: what its base backup costs, and how long its recovery takes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import contenders
from contenders import OURS, PEER, Contender, Row, Run, Table
from point_in_time_loss import begin
from scene import ROOT, USER, Scene, archives, wal_agreement, walarchive

MOST_ROUNDS = 3
INTO = "payment_db_recovered"
RESTORE = f"scripts/restore-postgres.sh payment --latest --into {INTO} --yes --json --quiet"
WAL_DATABASE, WAL_SCALE = "wal_maker", 20  # pgbench's scale: 16 MB of WAL each
_SECONDS = 900
# Phase in the document of restore-postgres.sh -> what it is, in order.
PHASES = {
    "replay": "until the point is reached, to the second: all up to here, base backup unpacked, WAL replayed",
    "recovery": "base backup unpacked, WAL replayed, database dumped, the dump judged",
    "verify": "server examined",
    "load": "loaded into a new database",
    "indexes": "its keys and indexes",
    "compare": "rows counted and compared",
    "finish": "settings, ANALYZE",
    "swap": "named",
}


def measure(scene: Scene, rows: int, rounds: int) -> Iterator[Table]:
    """Yield two tables: base backups, side by side; recovery to the latest point, all checks."""
    database = scene.payments(rows)
    with _archived(scene, database) as lab:
        rounds = min(rounds, MOST_ROUNDS)
        size = scene.database_bytes(database)
        for part in (_base_backups, _recovery):
            table = part(scene, lab, rounds)
            table.facts |= {"payments": rows, "database_bytes": size}
            yield table


@contextmanager
def _archived(scene: Scene, database: str) -> Iterator[archives.Lab]:
    """Archive the bench's server for the length of the block; nothing is left on it."""
    place = scene.folder("point-in-time")
    folder = place / "backups"
    lab = archives.Lab(scene.server, folder, scene.settings(database, folder, "auto"))
    try:
        print(f"\nfirst base backup of '{database}' …", flush=True)
        begin(lab, _SECONDS)
        yield lab
    finally:
        if lab.receivers:
            lab.stop()
        with lab.job() as job, walarchive.opened(lab.place, archives.NAME, create=False) as places:
            wal_agreement.take_back(job, walarchive.read_state(places))
        shutil.rmtree(place)


def _base_backups(scene: Scene, lab: archives.Lab, rounds: int) -> Table:
    bases = lab.archive_path / "base"

    def inspect(stdout: str) -> Run:
        told = json.loads(stdout)
        shutil.rmtree(bases / told["name"])
        phases = {f"{phase}_seconds": seconds for phase, seconds in told["seconds"].items()}
        return {**phases, "file_bytes": told["bytes"], "proven": told["proven"]}

    output = scene.place / "base.tar"
    bare = f'docker exec "$CONTAINER" pg_basebackup -U {USER} -F tar -X none -c fast -D - > "$PLACE"/{output.name}'
    line = shlex.join([os.path.relpath(sys.executable, ROOT), "bench/timed_base.py"])
    ways_here = [
        Contender("bare", "docker exec pg_basebackup -F tar -X none -c fast > file", PEER, bare, scene.environment,
                  output=output),
        Contender("bare_sha256", "the same with --manifest-checksums=SHA256, as ours", PEER,
                  bare.replace("-D -", "-D - --manifest-checksums=SHA256"), scene.environment, output=output),
        Contender("ours_base", "ours, read back and checked by pg_verifybackup", OURS, line, lab.environment,
                  inspect=inspect),
    ]  # fmt: skip
    size = scene.server.sql("SELECT sum(pg_database_size(oid))::bigint FROM pg_database")[0][0]
    title = f"Base backup of a cluster of {size / 1e9:.2f} GB, its receiver at work"
    table = contenders.compare("base", title, ways_here, rounds, {})
    table.facts["cluster_bytes"] = size
    contenders.derived(
        table, "ours_base", "ours_base_streamed", "ours, only the stream: compressed, hashed, synced",
        lambda run: run["stream_seconds"],
    )  # fmt: skip
    _without_memory(table, "ours_base_streamed")
    contenders.derived(
        table, "ours_base", "ours_base_unproven", "ours, less its proof: with start-up and publishing",
        lambda run: run["seconds"] - run["proof_seconds"],
    )  # fmt: skip
    _without_memory(table, "ours_base_unproven")
    proof = "ours, only the proof: read back, compared with its manifest, unpacked, pg_verifybackup"
    _phase(table, "ours_base", "ours_base_proof", proof, "proof")
    return table


def _recovery(scene: Scene, lab: archives.Lab, rounds: int) -> Table:
    begun = _position(scene)
    _make_wal(scene)
    behind = 0

    def prepare() -> None:
        """A restore is archived, too: the next round has to replay what the last one has loaded."""
        nonlocal behind
        drop()
        lab.await_confirmed(_SECONDS)
        behind = _position(scene) - begun

    def drop() -> None:
        scene.server.sql(f'DROP DATABASE IF EXISTS "{INTO}" WITH (FORCE)', "postgres")
        scene.server.sql("CHECKPOINT", "postgres")

    def phases(stdout: str) -> Run:
        told = contenders.only_document(stdout)
        reached = next(line for line in lab.log().splitlines()[::-1] if "event=recovery.reached" in line)
        when = datetime.strptime(" ".join(reached.split()[:2]), "%Y-%m-%d %H:%M:%S%z")
        until = (when - datetime.fromisoformat(told["started"].replace("Z", "+00:00"))).total_seconds()
        return {
            "wal_bytes": behind,
            "replay_seconds": until,
            **{f"{name}_seconds": value for name, value in told["seconds"].items()},
        }

    label = "restore-postgres.sh --latest --into, all checks"
    once = Contender("ours_recovery", label, OURS, RESTORE, lab.environment, inspect=phases, prepare=prepare)
    title = f"Recovery of a payment_db of {scene.database_bytes(lab.settings['PAYMENT_DATABASE']) / 1e9:.2f} GB"
    title += " to its latest point"
    table = contenders.compare("recovery", title, [once], rounds, {})
    told = ", ".join(f"{run['wal_bytes'] / 1e6:,.0f} MB in {run['seconds']:.1f} s" for run in table.rows[0].runs)
    table.facts["notes"] = [f"WAL behind the base backup, which grows by each round's own restore: {told}."]
    for phase, meaning in PHASES.items():
        _phase(table, "ours_recovery", f"recovery_{phase}", f"… {phase}: {meaning}", phase)
    drop()
    return table


def _position(scene: Scene) -> int:
    return int(scene.server.sql("SELECT pg_current_wal_lsn() - '0/0'", "postgres")[0][0])


def _make_wal(scene: Scene) -> None:
    """Let something be replayed that the base backup has not. The databases are as they were."""
    scene.server.sql(f"CREATE DATABASE {WAL_DATABASE}", "postgres")
    scene.server.exec(["pgbench", "-q", "-i", "-s", str(WAL_SCALE), "-U", USER, WAL_DATABASE])
    scene.server.sql(f"DROP DATABASE {WAL_DATABASE} WITH (FORCE)", "postgres")


def _phase(table: Table, of: str, key: str, label: str, phase: str) -> None:
    """Add a row at the end for a phase of another row's runs."""
    row = table.row(of)
    runs = [{"seconds": run[f"{phase}_seconds"]} for run in row.runs if f"{phase}_seconds" in run] if row else []
    if row and runs:
        table.rows.append(Row(key, label, row.kind, row.line, runs))


def _without_memory(table: Table, key: str) -> None:
    """The memory of a part of a run is not known."""
    if row := table.row(key):
        row.runs = [{name: run[name] for name in ("seconds", "file_bytes")} for run in row.runs]
