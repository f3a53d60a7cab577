"""How much is tried: a few of many in `make test`, all of them in `make faults`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
Test = TypeVar("Test", bound=Callable[..., object])

FULL = os.environ.get("PGBACKUP_FAULTS") == "full"


def chosen(short: T, full: T) -> T:
    """What to try now: `short` in `make test`, `full` in `make faults`."""
    return full if FULL else short


def only_in_full(test: Test) -> Test:
    """Leave a test to `make faults`; `make test` says at its end how many it left."""
    marked: Test = pytest.mark.only_in_full(test)
    return marked


def wide(names: str, short: Iterable[object], full: Iterable[object], **how: Any) -> Callable[[Test], Test]:
    """Parametrize a test with one of two lists; `make faults` runs it too, wherever it stands."""
    cases = list(chosen(short, full))
    assert cases, "a test that `make test` does not run at all says so with only_in_full"

    def decorated(test: Test) -> Test:
        marked: Test = pytest.mark.wide(pytest.mark.parametrize(names, cases, **how)(test))
        return marked

    return decorated


def each_value(indirect: Collection[str] = (), **values: Iterable[object]) -> Callable[[Test], Test]:
    """Parametrize a test with each value of each name at least once, in `make faults` with each combination."""
    lists = [list(some) for some in values.values()]
    longest = max(map(len, lists))
    once = list(zip(*(itertools.islice(itertools.cycle(some), longest) for some in lists), strict=True))
    return wide(",".join(values), once, itertools.product(*lists), indirect=list(indirect))
