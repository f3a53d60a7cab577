"""The WAL archives on this disk, as far as copies of them go to a place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pgbackup.errors import SuiteError, path_error
from pgbackup.formats import wal_copies
from pgbackup.formats.wal_copies import Series
from pgbackup.settings.config import Settings, Target
from pgbackup.store import lock
from pgbackup.store.folder import Folder
from pgbackup.store.offsite import lag
from pgbackup.store.state import statefile
from pgbackup.store.wal import archive
from pgbackup.store.wal.archive import Places, State


@dataclass(frozen=True)
class Source:
    """One archive. directory: in BACKUP_DIR/pitr. series: what its copies at the place lie below."""

    directory: str
    places: Places
    state: State
    series: Series


def directories(settings: Settings, targets: Sequence[Target]) -> list[str]:
    """The directories of the archives that there are, each once."""
    named = dict.fromkeys(target.directory for target in targets)
    return [one for one in named if archive.path_of(settings.backup_dir, one).is_dir()]


@contextmanager
def opened(
    settings: Settings, targets: Sequence[Target], own: Folder, problems: dict[str, str]
) -> Iterator[list[Source]]:
    """Open the archives of these databases; one that cannot be used is a problem, by its directory.

    own: the directory of what is known of the place. Also one that is no longer received into has what is to be copied.
    """
    with ExitStack() as stack:
        found = []
        for directory in directories(settings, targets):
            path = archive.path_of(settings.backup_dir, directory)
            try:
                places = stack.enter_context(archive.opened(settings.backup_dir, directory, create=False))
                state = archive.read_state(places)
                if state is not None:
                    found.append(Source(directory, places, state, _series(own, directory, places, state)))
            except SuiteError as error:
                problems[f"pitr/{directory}"] = error.message
            except OSError as error:
                problems[f"pitr/{directory}"] = path_error(error, path).message
        yield found


def _series(own: Folder, directory: str, places: Places, state: State) -> Series:
    with lock.awaited(own, "series", math.inf):  # both lanes come here at once, and must not begin a series each
        return _known_or_begun(own, directory, places, state)


def _known_or_begun(own: Folder, directory: str, places: Places, state: State) -> Series:
    mark = archive.mark(places)
    known = wal_copies.parse_series(lag.series_of(own, directory, mark))
    if known and (known.system, known.segment_bytes) == (state.system, state.segment_bytes):
        return known
    begun = Series(state.system, state.segment_bytes, statefile.now())
    lag.begin_series(own, directory, mark, str(begun))
    return begun
