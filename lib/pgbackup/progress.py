"""Progress of long work: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from pgbackup.log import say


@dataclass(frozen=True)
class Reporter:
    """What a command tells people while it works. tell(text): one line; bar(label, total) gives advance(bytes)."""

    tell: Callable[[str], None]
    _bars: Progress | None

    @contextmanager
    def bar(self, label: str, total_bytes: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar for the block. total_bytes: an estimate (the last backup's size), or None for a pulse."""
        if self._bars is None:
            yield lambda _bytes: None
            return
        task = self._bars.add_task(label, total=total_bytes)
        try:
            yield _advancer(self._bars, task, total_bytes)
        finally:
            self._bars.remove_task(task)


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
    """Give the Reporter of this run: bars if stderr is a terminal, lines if not, silence if quiet."""
    if quiet:
        yield Reporter(lambda _text: None, None)
        return
    if not sys.stderr or not sys.stderr.isatty():
        lock = threading.Lock()

        def tell(text: str) -> None:
            with lock:
                say(text)

        yield Reporter(tell, None)
        return
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield Reporter(lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True), bars)
