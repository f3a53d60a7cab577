"""Restoring one database: the guide's manual commands, pg_restore with two jobs, and ours with all its checks.

Then the same with nine tenths of the data in one table, and ours with 1, 2, 4, … processors.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import contenders
import psycopg
import ways
from contenders import OURS, PEER, Contender, Run, Table
from measure import run as run_once
from scene import ROOT, USER, Scene, dumpfile, guard, gzipped

RESTORE = "scripts/restore-postgres.sh payment payment_LATEST --yes --json --quiet"
MANUAL = "manual_restore"
CLIENTS = 50


def measure(scene: Scene, rows: int, rounds: int) -> Iterator[Table]:
    """Give three tables; the first one's facts hold the gap that clients see with --online, and what checks cost."""
    database = scene.payments(rows)
    title = f"Restore of a payment_db of {scene.database_bytes(database) / 1e9:.2f} GB ({rows:,} payments)"
    table, file, environment = _compared(scene, "restore", title, database, rounds)
    table.facts |= {"payments": rows, "guard_seconds": _guard_seconds(file), "verify_seconds": _verify_seconds(file)}
    table.facts["inflate_seconds"] = _inflate_seconds(file)
    table.facts["online_gap_seconds"] = _online_gap(scene, database, _ours(file), environment)
    _empty(scene, database)
    yield table
    yield _scaling(scene, database, file, environment, rounds)
    contenders.remove(file.parent)
    one = scene.one_table(rows)
    title = f"Restore of {scene.database_bytes(one) / 1e9:.2f} GB with nine tenths of it in one table"
    table, file, _ = _compared(scene, "restore_one", title, one, rounds)
    contenders.remove(file.parent)
    yield table


def _compared(scene: Scene, key: str, title: str, database: str, rounds: int) -> tuple[Table, Path, dict[str, str]]:
    """Compare all ways to restore a database; return the table, our backup, and our environment."""
    folder = scene.folder("restore")
    environment = scene.settings(database, folder, "sidecar")
    run_once(ways.BACKUP, environment, 0.0)
    file = next(path for path in (folder / "payment").glob("*.sql.gz") if not path.is_symlink())
    directory = ways.directory_format(scene, database)
    run_once(directory.line, directory.environment, 0.0)
    ways_here = [
        Contender("manual", "gunzip -c | docker exec -i psql (the guide)", PEER, _manual(file), scene.environment,
                  prepare=lambda: _empty(scene, database)),
        Contender("pg_restore", "pg_restore -j2 from a directory dump", PEER, _pg_restore(scene), scene.environment,
                  prepare=lambda: _empty(scene, database)),
        Contender("ours_restore", "restore-postgres.sh, all checks", OURS, _ours(file), environment, inspect=_phases,
                  prepare=lambda: _empty(scene, database)),
    ]  # fmt: skip
    table = contenders.compare(key, title, ways_here, rounds, {})
    contenders.remove(directory.output)
    return table, file, environment


def _scaling(scene: Scene, database: str, file: Path, environment: dict[str, str], rounds: int) -> Table:
    """Compare ours with 1, 2, 4, … of the machine's processors, for the server and for the command."""
    cores = sorted(os.sched_getaffinity(0))

    def limited(count: int) -> Callable[[], None]:
        def prepare() -> None:
            _empty(scene, database)
            scene.limit(cores[:count])

        return prepare

    ways_here = [
        Contender(f"ours_{count}", f"restore-postgres.sh, {count} processor{'s' * (count > 1)}", OURS,
                  f"taskset -c {','.join(map(str, cores[:count]))} {_ours(file)}", environment, prepare=limited(count))
        for count in (1, 2, 4, 8) if count <= len(cores)
    ]  # fmt: skip
    table = contenders.compare("restore_scaling", "The same restore with fewer processors", ways_here, rounds, {})
    scene.limit(cores)
    _empty(scene, database)
    return table


def _ours(file: Path) -> str:
    return RESTORE.replace("payment_LATEST", file.name)


def _manual(file: Path) -> str:
    """The guide's step 4, into a new database."""
    feed = f'gunzip -c "$PLACE"/restore/payment/{file.name}'
    load = f'docker exec -i "$CONTAINER" psql -q -U {USER} -d {MANUAL} >/dev/null'
    return f'docker exec "$CONTAINER" psql -q -U {USER} -d postgres -c "CREATE DATABASE {MANUAL}" && {feed} | {load}'


def _pg_restore(scene: Scene) -> str:
    create = f'docker exec "$CONTAINER" psql -q -U {USER} -d postgres -c "CREATE DATABASE {MANUAL}"'
    return (
        f'{create} && docker run --rm --network container:"$CONTAINER" --user {os.geteuid()}:{os.getegid()}'
        f' -v "$PLACE":/in --entrypoint pg_restore {scene.server.image} -h 127.0.0.1 -U {USER} -j2 -d {MANUAL}'
        " /in/directory"
    )


def _empty(scene: Scene, database: str) -> None:
    """Drop what earlier restores have made, and let the server write out what it has to, outside the clock."""
    names = scene.server.sql(
        f"SELECT datname FROM pg_database WHERE datname = '{MANUAL}' OR datname LIKE '{database}_before_restore_%'",
        "postgres",
    )
    for (name,) in names:
        scene.server.sql(f'DROP DATABASE "{name}" WITH (FORCE)', "postgres")
    scene.server.sql("CHECKPOINT", "postgres")


def _phases(stdout: str) -> Run:
    return {f"{name}_seconds": value for name, value in contenders.only_document(stdout)["seconds"].items()}


def _guard_seconds(file: Path) -> float:
    """CPU seconds of reading, guard, row counts and hash together, with nobody at the other end."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        begun = time.process_time()
        reader = dumpfile.Reader(descriptor)
        for _ in guard.guarded(reader.pieces(), reader.scanner):
            pass
        reader.finished()
        return round(time.process_time() - begun, 3)
    finally:
        os.close(descriptor)


def _verify_seconds(file: Path) -> float:
    """CPU seconds of decompression, row counts and hash, as the verification before the restore needs them."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        begun = time.process_time()
        dumpfile.check(descriptor)
        return round(time.process_time() - begun, 3)
    finally:
        os.close(descriptor)


def _inflate_seconds(file: Path) -> float:
    """CPU seconds of reading and decompression alone, which every restore needs once."""
    inflater = gzipped.deflate.decompressobj(wbits=gzipped.GZIP)
    with file.open("rb") as data:
        begun = time.process_time()
        while piece := data.read(256 << 10):
            while piece and not inflater.eof:
                inflater.decompress(piece, 1 << 20)
                piece = inflater.unconsumed_tail
        return round(time.process_time() - begun, 3)


def _online_gap(scene: Scene, database: str, ours: str, environment: dict[str, str]) -> float:
    """The longest time for which any of 50 clients that reconnect had no answer during a restore --online."""
    over, longest = threading.Event(), [0.0] * CLIENTS

    def client(number: int) -> None:
        last = time.monotonic()
        while not over.is_set():
            try:
                with psycopg.connect(scene.server.dsn(database), autocommit=True) as session:
                    while not over.is_set():
                        session.execute("SELECT 1 FROM merchants LIMIT 1")
                        now = time.monotonic()
                        longest[number] = max(longest[number], now - last)
                        last = now
                        over.wait(0.02)
            except psycopg.Error:
                over.wait(0.02)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        subprocess.run(["bash", "-c", f"{ours} --online"], env=environment, cwd=ROOT, check=True, capture_output=True)
        time.sleep(1)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    return round(max(longest), 2)
