"""Started by path (`python -I lib/pgbackup VERB …`), so that the caller's directory is never on sys.path."""

import os
import sys
from pathlib import Path


def _open_the_standard_descriptors() -> None:
    """Give a run started with `<&- >&- 2>&-` something harmless there, or a backup might become its stdout."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


_open_the_standard_descriptors()
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from pgbackup.cli import main  # noqa: E402  the line above decides where this comes from

sys.exit(main(sys.argv[1:]))
