"""What an open file is written through."""

from __future__ import annotations

import os


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte: a short write is followed by the rest, or by the error that shortened it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
