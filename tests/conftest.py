"""How often a fault is tried, the table of what was survived, and how the tests are shared out among processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import hypothesis
import pytest

from tests.support import embedded, faults
from tests.support.effort import FULL, chosen

WORKERS = min(8, 2 * len(os.sched_getaffinity(0)))  # most tests wait; the engine is one for all of them
ONE_HOST = (
    ("test_runbook.py", "test_total_loss.py"),
    ("test_schedules.py", "test_setup_wal.py", "test_total_loss_elsewhere.py"),
)

# A limit of 200 ms on each example fails on a machine that does something else.
hypothesis.settings.register_profile("patient", deadline=None, max_examples=chosen(30, 100))
hypothesis.settings.load_profile("patient")

_TRIED, _SURVIVED = "fault tried", "fault survived"
_TALLY: dict[tuple[int, str], dict[str, int]] = {}
_ONLY_IN_FULL = "only_in_full"
_LEFT: set[str] = set()  # the tests that are left to `make faults`


def _note(item: pytest.Item, kind: str, row: int, fault: str, count: int = 1) -> None:
    """Write it into the test's report, which comes to the process that prints the table, whoever ran the test."""
    assert row in faults.known(), f"the table of docs/promises.md has no row {row}"
    item.user_properties.append((kind, (row, fault, count)))


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
    return chosen


@pytest.fixture
def survived(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function to call after each try that was survived: survived(row, fault, count=1).

    row: the fault's number in the table of docs/promises.md. A try that is not survived fails its test, and
    `expected(row, fault, count)` has said before how many there should have been.
    """
    return partial(_note, request.node, _SURVIVED)


@pytest.fixture
def expected(request: pytest.FixtureRequest) -> Callable[[int, str, int], None]:
    """A function to call before the tries: expected(row, fault, count)."""
    return partial(_note, request.node, _TRIED)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(row, what): the test is one try of that fault in the table")
    config.addinivalue_line("markers", "wide: `make faults` runs the test too, with its whole list")
    config.addinivalue_line("markers", f"{_ONLY_IN_FULL}: `make test` leaves the test to `make faults`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the tests that are for now: no row of theirs may be unknown.

    With the full numbers only those are run that have any, wherever they stand; without, those that need not be full.
    """
    for item in items:
        if unknown := {mark.args[0] for mark in item.iter_markers("fault")} - faults.known():
            raise pytest.UsageError(f"{item.nodeid}: the table of docs/promises.md has no row {unknown.pop()}")
    others = [item for item in items if not (_has_full_numbers(item) if FULL else _has_short_numbers(item))]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]
    if not FULL:
        _LEFT.update(item.nodeid for item in others)


def _has_full_numbers(item: pytest.Item) -> bool:
    marked = any(item.get_closest_marker(name) for name in ("fault", "wide", _ONLY_IN_FULL))
    generated = hypothesis.is_hypothesis_test(getattr(item, "obj", None))
    return marked or generated or "faults" in item.path.relative_to(item.config.rootpath).parts


def _has_short_numbers(item: pytest.Item) -> bool:
    return item.get_closest_marker(_ONLY_IN_FULL) is None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that prints, if it is another one, what was left; remove what was kept for further tests."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_ONLY_IN_FULL] = sorted(_LEFT)
    embedded.release()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Learn what a process left: all of them collect the same."""
    _LEFT.update(getattr(node, "workeroutput", {}).get(_ONLY_IN_FULL, []))


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Count the tests that are marked as tries of a fault."""
    if call.when == "call":
        for mark in item.iter_markers("fault"):
            _note(item, _TRIED, *mark.args)
            if call.excinfo is None:
                _note(item, _SURVIVED, *mark.args)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up what the tests noted; the last report of each has all of it."""
    if report.when == "teardown":
        for kind, noted in report.user_properties:
            if kind in (_TRIED, _SURVIVED):
                row, fault, count = cast(tuple[int, str, int], noted)
                tally = _TALLY.setdefault((row, fault), {_TRIED: 0, _SURVIVED: 0})
                tally[kind] += count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests were left to `make faults`, and the table of faults, if any was tried."""
    if _LEFT:
        terminalreporter.write_line(f"{len(_LEFT)} tests are left to `make faults`")
    if not _TALLY:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'row':>3}  {'fault':70} {'tries':>7} {'survived':>9}")
    for (row, fault), tally in sorted(_TALLY.items()):
        tried, lived = tally[_TRIED], tally[_SURVIVED]
        mark = "" if tried == lived else "  <- NOT ALL"
        terminalreporter.write_line(f"{row:3}  {fault[:70]:70} {tried:7,} {lived:9,}{mark}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes `pytest -n auto` starts."""
    return WORKERS


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests together, which share servers, and the files that share a whole host, in their order."""
    from xdist.scheduler import LoadFileScheduling

    class ByServer(LoadFileScheduling):  # type: ignore[misc] # xdist has no annotations
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return next((names[0] for names in ONE_HOST if file.endswith(names)), file)

    return ByServer(config, log)
