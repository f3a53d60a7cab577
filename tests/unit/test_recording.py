"""The pictures in the README: every line that was said, in its time, and nothing that could run."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from demo import recording

ROOT = Path(__file__).resolve().parents[2]


def texts(svg: str) -> list[str]:
    found = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314  our own picture
    return ["".join(each.itertext()) for each in found]


def test_a_recording_holds_every_line_in_order_and_at_a_pace_that_can_be_read() -> None:
    said = recording.recorded(
        [
            sys.executable,
            "-u",
            "-c",
            "import time\nprint('$ a <b> & c')\ntime.sleep(3)\nprint('x' * 150)\nprint('1. d')",
        ]
    )
    lines = recording.paced(recording.wrapped(said, 100))
    assert [line for _, line in lines] == ["$ a <b> & c", "x" * 100, "x" * 50, "1. d"]
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(lines)]
    assert gaps[0] == pytest.approx(recording.LONGEST_SECONDS)
    assert all(gap + 1e-9 >= recording.SHORTEST_SECONDS and gap <= recording.LONGEST_SECONDS + 1e-9 for gap in gaps)
    assert texts(recording.drawn(lines, "a <title>")) == [line for _, line in lines]


def test_a_demo_that_fails_is_no_recording() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        recording.recorded([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_picture_shows_the_demo_of_today_and_runs_nothing() -> None:
    svg = (ROOT / "docs/demo.svg").read_text(encoding="utf-8")
    shown = [line for line in texts(svg) if line.startswith("$ ")]
    told = (ROOT / "demo/demo.py").read_text(encoding="utf-8") + (ROOT / "demo/story.py").read_text(encoding="utf-8")
    for script in ("backup-postgres.sh", "verify-backups.sh", "drill-backups.sh", "restore-postgres.sh"):
        assert script in told and any(f"scripts/{script}" in line for line in shown), "run: make recording"
    assert not re.search(r"<script|javascript:|https?://(?!www\.w3\.org/2000/svg)|/tmp/", svg)
    assert "docs/demo.svg" in (ROOT / "README.md").read_text(encoding="utf-8")


_SCREEN = "import sys; sys.path.insert(0, 'demo'); import pictures; sys.stdout.write(pictures.screen(pictures.host()))"


def test_the_pictures_of_a_status_show_that_of_today() -> None:
    environment = {**os.environ, "TZ": "UTC", "PYTHONPATH": "lib"}
    made = subprocess.run([sys.executable, "-c", _SCREEN], env=environment, cwd=ROOT, capture_output=True, check=True)
    assert made.stdout == (ROOT / "docs/status.svg").read_bytes(), "run: make pictures"
    assert texts(made.stdout.decode())[0] == "$ scripts/backup-status.sh"
    page = (ROOT / "docs/status.png").read_bytes()
    assert page.startswith(b"\x89PNG") and len(page) < 100_000
    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(docs/status.png)" in shown and "(docs/status.svg)" in shown
