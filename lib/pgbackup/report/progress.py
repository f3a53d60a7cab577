"""Progress of long work: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, TextIO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

from pgbackup.report.log import say

# Below this width a bar would have its numbers cut off.
_NARROW_COLUMNS = 70


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


class _Screen:
    """stderr as rich writes to it: a terminal that hung up must not change what the run does, or how it ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _whatever_comes():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with _whatever_comes():
            self._stream.flush()


@contextmanager
def _whatever_comes() -> Iterator[None]:
    try:
        yield
    except OSError:
        # Python would try to write the rest when it exits, and end with a status of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 2)


@contextmanager
def reporting(quiet: bool) -> Iterator[Reporter]:
    """Give the Reporter of this run: bars if stderr is a terminal that can move its cursor, else lines."""
    if quiet:
        yield Reporter(lambda _text: None, say, None)
        return
    console = Console(file=cast(IO[str], _Screen(sys.stderr)))
    # Not console.is_terminal: FORCE_COLOR alone makes that true.
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        yield Reporter(say, say, None)
        return

    def tell(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    yield Reporter(tell, tell, Progress(*_columns(console.width), console=console, transient=True))


def _columns(width: int) -> list[ProgressColumn]:
    def whole() -> Column:
        return Column(no_wrap=True)

    label = TextColumn("{task.description}", table_column=whole())
    numbers = [DownloadColumn(table_column=whole()), TransferSpeedColumn(table_column=whole())]
    if width < _NARROW_COLUMNS:
        return [label, *numbers]
    return [label, BarColumn(bar_width=min(40, width - 60)), *numbers, TimeRemainingColumn(table_column=whole())]
