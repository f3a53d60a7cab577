"""Progress of long work: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pgbackup.report.events import INFO, Event
from pgbackup.report.log import say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@dataclass(frozen=True)
class Reporter:
    """What a command tells people while it works.

    tell(text): news, not if quiet; warn(text): what must be seen; bar(label, total) gives advance(bytes).
    A text of several lines stays in one piece, whatever else is told at the same time.
    """

    tell: Callable[[str], None]
    warn: Callable[[str], None]
    _bars: Progress | None
    _showing: threading.Lock = field(default_factory=threading.Lock)

    def show(self, event: Event) -> None:
        """Tell people what an event says to them, if anything."""
        if event.said:
            (self.tell if event.level == INFO else self.warn)(event.said)

    @contextmanager
    def bar(self, label: str, total_bytes: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar for the block. total_bytes: an estimate (the last backup's size), or None for a pulse."""
        if self._bars is None:
            yield lambda _bytes: None
            return
        # Drawn only while there is a bar: drawing clears the line again and again, also one that asks something.
        with self._showing:
            task = self._bars.add_task(label, total=total_bytes)
            self._bars.start()
        try:
            yield _advancer(self._bars, task, total_bytes)
        finally:
            with self._showing:
                self._bars.remove_task(task)
                if not self._bars.tasks:
                    self._bars.stop()


def _advancer(bars: Progress, task: TaskID, total_bytes: int | None) -> Callable[[int], None]:
    """An estimate that turns out too small grows with the work instead of standing at 100 %."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if total_bytes is not None and done > total_bytes:
            bars.update(task, completed=done, total=done)
        else:
            bars.update(task, completed=done)

    return advance


@contextmanager
def reporting(quiet: bool) -> Iterator[Reporter]:
    """Give the Reporter of this run: bars if stderr is a terminal that can move its cursor, else lines."""
    if quiet:
        yield Reporter(lambda _text: None, say, None)
        return
    bars = _bars()
    if bars is None:
        yield Reporter(say, say, None)
        return
    tell = partial(bars.console.print, markup=False, highlight=False, soft_wrap=True)
    yield Reporter(tell, tell, bars)


def _bars() -> Progress | None:
    # Not rich's own is_terminal: FORCE_COLOR alone makes that true.
    if not sys.stderr.isatty():
        return None
    from pgbackup.report import terminal

    return terminal.bars()
