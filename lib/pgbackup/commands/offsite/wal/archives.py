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
    settings: Settings,
    targets: Sequence[Target],
    own: Folder | None,
    problems: dict[str, str],
    *,
    only_looks: bool = False,
) -> Iterator[list[Source]]:
    """Open the archives of these databases; one that cannot be used is a problem, by its directory.

    own: the directory of what is known of the place, None where there is none yet for who only looks: nothing is made
    then, and an archive without a series has one that would begin now. Also one that is no longer received into has
    what is to be copied.
    """
    with ExitStack() as stack:
        found = []
        for directory in directories(settings, targets):
            path = archive.path_of(settings.backup_dir, directory)
            try:
                places = stack.enter_context(archive.opened(settings.backup_dir, directory, create=False))
                state = archive.read_state(places)
                if state is not None:
                    begun = _known(own, directory, archive.known_mark(places), state) if only_looks else None
                    series = begun or (_new(state) if only_looks or not own else _series(own, directory, places, state))
                    found.append(Source(directory, places, state, series))
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
    if known := _known(own, directory, mark, state):
        return known
    begun = _new(state)
    lag.begin_series(own, directory, mark, str(begun))
    return begun


def _known(own: Folder | None, directory: str, mark: str, state: State) -> Series | None:
    known = wal_copies.parse_series(lag.series_of(own, directory, mark)) if own and mark else None
    return known if known and (known.system, known.segment_bytes) == (state.system, state.segment_bytes) else None


def _new(state: State) -> Series:
    return Series(state.system, state.segment_bytes, statefile.now())
