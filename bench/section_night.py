"""A night like the hundredth: fourteen days of backups lie there, one expires, one is due to be read anew."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import contenders
import ways
from contenders import OURS, Contender, Table
from dated import copy_dated
from measure import run as run_once
from scene import Scene, folder, manifest, verified

DAYS, REPROVE_DAYS = 14, 7
ARGUMENTS = f"--retention-days {DAYS}"


def measure(scene: Scene, rows: int, rounds: int) -> list[Table]:
    """Return one table: the whole run into an empty directory, in such a night, and in the first one of all."""
    database = scene.payments(rows)
    alone, night, apart = (scene.folder(name) for name in ("alone", "night", "apart"))
    _fill(scene, database, night, apart)

    def inspect(stdout: str) -> contenders.Run:
        done = contenders.only_document(stdout)["databases"][0]
        return {"expired": len(done["expired"]), "reread_seconds": ways.phase(stdout, "reread")}

    kinds = [
        ("alone", "backup into an empty directory", alone, lambda: contenders.remove(alone / "payment")),
        (
            "night",
            f"the same with {DAYS} old backups, as each night",
            night,
            lambda: _reset(database, night, apart, known=True),
        ),
        ("first", "the same, nothing known of them", night, lambda: _reset(database, night, apart, known=False)),
    ]
    runs = [
        Contender(
            key,
            label,
            OURS,
            f"{ways.BACKUP} {ARGUMENTS}",
            scene.settings(database, place, "sidecar"),
            inspect=inspect,
            prepare=prepare,
        )
        for key, label, place, prepare in kinds
    ]
    title = f"A night like the hundredth: {DAYS} old backups, MIN_BACKUPS=7, RETENTION_DAYS={DAYS}"
    table = contenders.compare("steady_night", title, runs, rounds, {})
    table.facts |= {"payments": rows, "old": DAYS}
    for path in (alone, night, apart):
        contenders.remove(path)
    return [table]


def _fill(scene: Scene, database: str, night: Path, apart: Path) -> None:
    """Put one backup for each of the last days apart: one real backup over and over, dated by its manifest and name."""
    run_once(ways.BACKUP, scene.settings(database, night, "sidecar"), 0.0)
    now = datetime.now(timezone.utc)
    days = (now - timedelta(days=day, hours=1) for day in range(1, DAYS + 1))
    copy_dated(night / "payment", database, days, apart)


def _reset(database: str, night: Path, apart: Path, *, known: bool) -> None:
    """Make the directory as it is before such a night: each backup was proven when it was made, and a week later."""
    place = night / "payment"
    contenders.remove(place)
    place.mkdir(mode=0o700)
    now, proven = datetime.now(timezone.utc), {}
    for day, copy in enumerate(sorted(apart.iterdir(), reverse=True), 1):
        file = place / copy.name
        file.hardlink_to(copy)
        with file.open("rb") as opened:
            found = manifest.read(opened.fileno(), contenders.size(file))
        since = timedelta(days=day if day <= REPROVE_DAYS else day - REPROVE_DAYS, hours=1)
        if found:
            proven[file.name] = str(verified.proven(now - since, found[0].sha256, file.stat()))
    if known:
        with folder.opened(place, create=False, writing=True) as opened_place:
            verified.write(opened_place, database, verified.Verified(proven=proven))
