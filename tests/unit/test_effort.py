"""What `make test` leaves to `make faults` is told, and is not passed over in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import conftest
from tests.support.effort import only_in_full, wide

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest
from tests.support.effort import only_in_full, wide

def test_always(): pass

@only_in_full
@pytest.mark.parametrize("number", range(3))
def test_long(number): pass

@wide("number", [1], [1, 2])
def test_of_many(number): pass
"""


def ran(directory: Path, effort: str) -> str:
    """What pytest says of a file with tests of each kind."""
    (directory / "test_it.py").write_text(TESTS)
    words = ["-q", "-n", "1", "-c", os.devnull, "--rootdir", str(directory), "-p", "tests.conftest"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "-p", "no:cacheprovider", str(directory)],
        env={**os.environ, "PGBACKUP_FAULTS": effort, "PYTHONPATH": f"{ROOT}:{ROOT / 'lib'}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("effort", "told"), [("", ["2 passed", "3 tests are left to `make faults`"]), ("full", ["5 passed"])]
)
def test_what_is_left_to_the_full_numbers_is_counted(tmp_path: Path, effort: str, told: list[str]) -> None:
    said = ran(tmp_path, effort)
    assert all(text in said for text in told), said
    assert "skipped" not in said
    assert ("are left" in said) == (effort == "")


def test_a_short_list_is_not_empty() -> None:
    with pytest.raises(AssertionError, match="only_in_full"):
        wide("number", [], [1])(only_in_full)


@pytest.mark.parametrize(("folder", "full"), [("integration/faults", True), ("integration", False)])
def test_the_folder_in_which_a_checkout_lies_does_not_make_its_tests_full(folder: str, full: bool) -> None:
    root = Path("/srv/faults/pgbackup")
    item: Any = SimpleNamespace(
        path=root / "tests" / folder / "test_it.py",
        config=SimpleNamespace(rootpath=root),
        get_closest_marker=lambda _name: None,
    )
    assert conftest._has_full_numbers(item) is full
