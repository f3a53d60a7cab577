"""How long something takes, as a multiple of something else: a slow or busy machine is slow at both."""

from __future__ import annotations

import time
from collections.abc import Callable


def times(work: Callable[[], object], yardstick: Callable[[], object], rounds: int = 5) -> float:
    """How many times the processor time of `yardstick` the `work` takes.

    Both are done in turns, and the fastest of each counts: other processes only make them slower.
    """
    worked, measured = [], []
    for _ in range(rounds):
        measured.append(_seconds(yardstick))
        worked.append(_seconds(work))
    return min(worked) / min(measured)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun
