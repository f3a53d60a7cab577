"""A terminal as rich draws on it. Loaded only where stderr is one: it takes longer than all that a script checks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, TextIO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

# Below this width a bar would have its numbers cut off.
_NARROW_COLUMNS = 70


def bars() -> Progress | None:
    """Bars on stderr; None on a terminal that cannot move its cursor."""
    console = Console(file=cast(IO[str], _Screen(sys.stderr)))
    if console.is_dumb_terminal:
        return None
    return Progress(*_columns(console.width), console=console, transient=True)


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


def _columns(width: int) -> list[ProgressColumn]:
    def whole() -> Column:
        return Column(no_wrap=True)

    label = TextColumn("{task.description}", table_column=whole())
    numbers = [DownloadColumn(table_column=whole()), TransferSpeedColumn(table_column=whole())]
    if width < _NARROW_COLUMNS:
        return [label, *numbers]
    return [label, BarColumn(bar_width=min(40, width - 60)), *numbers, TimeRemainingColumn(table_column=whole())]
