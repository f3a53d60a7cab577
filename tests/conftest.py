"""How often a fault is tried, and the table of what was survived."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

FULL = os.environ.get("PGBACKUP_FAULTS") == "full"

_TALLY: dict[tuple[int, str], list[int]] = {}


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """A command that a test runs in this process sets the umask for all of it."""
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture
def tries() -> Callable[[int, int], int]:
    """A function: (number in `make test`, number in `make faults`) -> how often to try a fault now."""
    return lambda short, full: full if FULL else short


@pytest.fixture
def survived() -> Callable[..., None]:
    """A function to call after each try that was survived: survived(row, fault, count=1).

    row: the fault's number in the table that `make faults` prints. A try that is not survived fails its test, and
    `expected(row, fault, count)` has said before how many there should have been.
    """

    def note(row: int, fault: str, count: int = 1) -> None:
        _TALLY.setdefault((row, fault), [0, 0])[1] += count

    return note


@pytest.fixture
def expected() -> Callable[[int, str, int], None]:
    """A function to call before the tries: expected(row, fault, count)."""

    def note(row: int, fault: str, count: int) -> None:
        _TALLY.setdefault((row, fault), [0, 0])[0] += count

    return note


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(row, what): the test is one try of that fault in the table")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With the full numbers only the tests that try faults are run, wherever they stand."""
    if FULL:
        others = [item for item in items if "faults" not in item.path.parts and not item.get_closest_marker("fault")]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Count the tests that are marked as tries of a fault."""
    if call.when == "call":
        for mark in item.iter_markers("fault"):
            row, what = mark.args
            tally = _TALLY.setdefault((row, what), [0, 0])
            tally[0] += 1
            tally[1] += call.excinfo is None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of faults, if any was tried."""
    if not _TALLY:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'row':>3}  {'fault':70} {'tries':>7} {'survived':>9}")
    for (row, fault), (tried, lived) in sorted(_TALLY.items()):
        mark = "" if tried == lived else "  <- NOT ALL"
        terminalreporter.write_line(f"{row:3}  {fault[:70]:70} {tried:7,} {lived:9,}{mark}")
