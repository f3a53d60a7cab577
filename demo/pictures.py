"""Draws the pictures of a status for the README: pictures.py PAGE.png SCREEN.svg

The data is made up: a host with two databases whose promises are kept but one. What is drawn of it is real: the page as
Chromium shows it, and what backup-status.sh says.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from recording import still

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / name) for name in ("lib", ".")]

from pgbackup.report.page import page  # noqa: E402  found by the line above
from pgbackup.report.promises.evaluate import status as evaluated  # noqa: E402  as above
from pgbackup.report.promises.facts import Database, Finding  # noqa: E402  as above
from pgbackup.report.promises.limits import Limits  # noqa: E402  as above
from pgbackup.report.promises.lines import lines  # noqa: E402  as above
from pgbackup.report.promises.status import Status  # noqa: E402  as above
from pgbackup.report.typeable import with_paths  # noqa: E402  as above
from pgbackup.store.state.ledger import Exercise  # noqa: E402  as above

from tests.support import examples  # noqa: E402  as above

COLUMNS = 112
_SCRIPTS = Path("/opt/payment-system/deployment/scripts")
_WIDTH, _BELOW = 1180, 24
_COLOURS = 96
_NIGHTS = 30


def _grown(database: Database, mb: float, growth: float, seconds: float) -> Database:
    """A database that grows from night to night, is drilled each week, and was restored once."""
    nights = range(_NIGHTS)
    made = tuple(
        replace(
            each,
            bytes=int(mb * 1e6 * (1 - growth * night) * (1 + 0.012 * (night * 7 % 5))),
            rows=int(mb * 3400 * (1 - growth * night)),
            seconds=seconds * (1 - growth * night) * (1 + 0.06 * (night * 3 % 4)),
            drilled=each.taken + timedelta(minutes=3) if night % 7 == 1 or night == 0 else None,
        )
        for night, each in zip(nights, database.backups, strict=True)
    )
    weeks = tuple(
        replace(database.exercises[0], started=made[night].taken, restore_seconds=seconds * 4.2 * (1 - growth * night))
        for night in (0, 1, 8, 15, 22)
    )
    restored: Exercise = replace(database.exercises[2], started=made[12].taken, restore_seconds=seconds * 3.9)
    exercises = tuple(sorted((*weeks, restored), key=lambda one: one.started, reverse=True))
    return replace(database, backups=made, bytes=sum(each.bytes for each in made), exercises=exercises)


def host() -> Status:
    """A host on which nearly everything is well."""
    facts = examples.facts()
    auth = _grown(examples.database("auth", "postgres-a", nights=_NIGHTS), 86.0, 0.004, 2.1)
    payment = _grown(examples.database("payment", "postgres-b", nights=_NIGHTS), 354.0, 0.011, 6.3)
    orders = Finding("database", "postgres-b", "orders", "no job has it")
    coverage = facts.coverage and replace(facts.coverage, findings=(orders, *facts.coverage.findings))
    facts = replace(facts, databases=(auth, payment), coverage=coverage)
    status = evaluated(facts, examples.NOW, Limits())
    return status.with_remedies(partial(with_paths, scripts=_SCRIPTS, current=str(_SCRIPTS.parent)))


def screen(status: Status) -> str:
    """The SVG of what the terminal shows."""
    return still(["$ scripts/backup-status.sh", *lines(status, COLUMNS)], "backup-status.sh")


def photograph(status: Status, to: Path) -> None:
    """Write what Chromium shows of the page."""
    from PIL import Image

    from tests.support import browser, engine

    engine.install(browser.PACKAGES)
    with tempfile.TemporaryDirectory(prefix="pgbackup-picture-") as place, browser.running() as chromium:
        file = Path(place) / "status.html"
        file.write_text(page.text(status), encoding="utf-8")
        chromium.open(file, width=_WIDTH, scheme="light")
        end = chromium.ask("document.querySelector('article').getBoundingClientRect().bottom")
        chromium.picture(to, width=_WIDTH, height=int(end) + _BELOW)
    with Image.open(to) as picture:
        few = picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    few.save(to, optimize=True)


def main(words: Sequence[str]) -> int:
    if len(words) != 2:
        sys.stderr.write("usage: demo/pictures.py PAGE.png SCREEN.svg\n")
        return 64
    os.environ["TZ"] = "UTC"
    time.tzset()
    Path(words[1]).write_text(screen(host()), encoding="utf-8")
    photograph(host(), Path(words[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
