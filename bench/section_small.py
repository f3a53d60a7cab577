"""What a run costs when there is next to nothing to do or to dump, and when ten thousand backups lie there."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import contenders
import ways
from contenders import OURS, Column, Contender, Table
from dated import copy_dated
from figures import STARTS
from measure import run as run_once
from scene import Scene

EMPTY_DATABASE = "payment_db"


def measure(scene: Scene, many: int, rounds: int) -> list[Table]:
    """Return tables: start-up, an empty database, and a directory with `many` backups."""
    tables = [_start(scene, rounds), _empty_database(scene, rounds)]
    return [*tables, *_crowded_directory(scene, many, max(3, rounds // 2))]


def _start(scene: Scene, rounds: int) -> Table:
    """What is started by hand only to look, or by cron in vain: often in a row, for one start is soon over."""
    folder = scene.folder("started")
    lock = folder / "pitr/payment/.receiver.lock"
    lock.parent.mkdir(mode=0o700, parents=True)
    environment = scene.settings(EMPTY_DATABASE, folder, "auto")
    kinds = [
        ("help", "scripts/backup-postgres.sh --help", ""),
        ("status", "scripts/backup-status.sh", ""),  # 66: nothing was backed up yet
        ("watchdog", "scripts/receive-wal.sh -q --watchdog payment", f"exec 9>'{lock}'; flock 9; "),
    ]
    runs = [
        Contender(key, line, OURS, f"{before}for _ in {{1..{STARTS}}}; do {line} || [ $? = 66 ]; done", environment)
        for key, line, before in kinds
    ]
    table = contenders.compare("start", f"Start-up: {STARTS} in a row", runs, rounds, {})
    table.columns = [
        Column("ms each", "seconds", STARTS / 1000, 0),
        Column("CPU ms each", "cpu_seconds", STARTS / 1000, 0),
    ]
    table.facts["notes"] = ["The watchdog finds that another one is at work, as it does nearly always."]
    return table


def _empty_database(scene: Scene, rounds: int) -> Table:
    clients = ("auto", "sidecar", "exec")
    ways_here = [
        ways.guide(scene, EMPTY_DATABASE),
        *(ways.ours(scene, EMPTY_DATABASE, client, scene.folder(f"empty-{client}")) for client in clients),
    ]
    return contenders.compare("empty", "Backup of an empty database", ways_here, rounds, {})


def _crowded_directory(scene: Scene, many: int, rounds: int) -> list[Table]:
    alone, crowded = scene.folder("alone"), scene.folder("crowded")
    fill(scene, crowded, many)
    before = {file.name for file in (crowded / "payment").iterdir()}

    def forget_new() -> None:
        """Take away what the last run has added."""
        for file in (crowded / "payment").iterdir():
            if file.name not in before:
                file.unlink()

    def without_log(folder: Path) -> None:
        contenders.remove(folder / "payment")

    kinds = [
        ("alone", "backup, empty directory", alone, "", lambda: without_log(alone)),
        ("crowded", f"backup, {many:,} backups there, none expires", crowded, "", forget_new),
        ("dry_alone", "--dry-run, empty directory", alone, "--dry-run", lambda: without_log(alone)),
        ("dry_crowded", f"--dry-run, {many:,} backups there, none expires", crowded, "--dry-run", forget_new),
        (
            "dry_expiring",
            f"--dry-run, {many:,} backups there, most would expire",
            crowded,
            "--dry-run --retention-days 7",
            forget_new,
        ),
    ]
    runs = [
        Contender(
            key,
            label,
            OURS,
            f"{ways.BACKUP} {words}".rstrip(),
            scene.settings(EMPTY_DATABASE, folder, "auto"),
            prepare=prepare,
        )
        for key, label, folder, words, prepare in kinds
    ]
    table = contenders.compare("crowded", f"A directory with {many:,} backups (empty database)", runs, rounds, {})
    table.facts["backups"] = many
    return [table, _expiring(scene, crowded, many)]


def _expiring(scene: Scene, crowded: Path, many: int) -> Table:
    """One run that deletes nearly all; there is nothing left to repeat it with."""

    def inspect(_stdout: str) -> contenders.Run:
        return {"left": sum(1 for _ in (crowded / "payment").glob("*.sql.gz"))}

    line = f"{ways.BACKUP} --retention-days 7"
    environment = scene.settings(EMPTY_DATABASE, crowded, "auto")
    once = Contender(
        "expiring", f"backup, {many:,} backups there, most expire", OURS, line, environment, inspect=inspect
    )
    table = contenders.compare("expiring", "The same directory with RETENTION_DAYS=7, where most expire", [once], 1, {})
    contenders.remove(crowded)
    return table


def fill(scene: Scene, folder: Path, many: int) -> None:
    """Put `many` good backups into the directory, one for every twelve hours before now.

    They are one real backup over and over, each with a manifest that names its own time, as its file name does.
    """
    run_once(ways.BACKUP, scene.settings(EMPTY_DATABASE, folder, "auto"), 0.0)
    now = datetime.now(timezone.utc)
    moments = (now - number * timedelta(hours=12) for number in range(1, many))
    copy_dated(folder / "payment", EMPTY_DATABASE, moments, folder / "payment")
