"""Writes results to stdout, and notices when that fails."""

from __future__ import annotations

import os
import sys

from pgbackup.errors import IoFailed


class StdoutFailed(IoFailed):
    """There is no use in writing to stdout that it failed, as --json would."""


def show(text: str) -> None:
    """Write to stdout. A reader that went away (`… | head`) has seen enough; it does not change the exit status."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        # Python would try to write the rest when it exits, and end with a status of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not isinstance(error, BrokenPipeError):
            raise StdoutFailed(f"cannot write the result to stdout: {error.strerror}") from None
