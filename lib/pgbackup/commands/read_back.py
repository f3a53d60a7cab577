"""A backup is synced and read back behind its writer, so that little is left to do when the dump has ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType

from pgbackup.formats import dumpfile
from pgbackup.formats.dumpfile import Written
from pgbackup.store import workfiles

# Small enough that a slow disk has little left to sync at the end, large enough that a sync is worth its wait.
_PORTION_BYTES = 32 << 20
# pg_dump, its backend and the compressor have theirs: with fewer cores, reading at once would slow down the dump.
_CORES_TO_READ_AT_ONCE = 4


class Behind:
    """Syncs what lies in a file that grows, portion by portion, and reads it at once where cores are free.

    To be told by wrote() how long it is. Then prove(), once it has been synced whole.
    """

    def __init__(self, descriptor: int, *, at_once: bool | None = None) -> None:
        """at_once: whether to read while it grows; None to let the number of cores decide."""
        cores = len(os.sched_getaffinity(0))
        self._descriptor, self._at_once = descriptor, cores >= _CORES_TO_READ_AT_ONCE if at_once is None else at_once
        self._asked = 0
        self._ends: SimpleQueue[int | None] = SimpleQueue()
        self._aside = ThreadPoolExecutor(1, "behind")
        self._work = self._aside.submit(self._follow)

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._ends.put(None)
        self._aside.shutdown()

    def wrote(self, position: int) -> None:
        """Take how long the file is by now. Raise what syncing or reading an earlier part of it has failed of."""
        if position - self._asked >= _PORTION_BYTES:
            # The rest of it shares its page with what is written next.
            self._asked = position - position % _PORTION_BYTES
            self._ends.put(self._asked)
            if self._work.done():
                self._work.result()

    def prove(self, written: Written, member: bytes, advance: Callable[[int], None]) -> None:
        """Read the rest of the file from the disk, which was synced whole, and compare it with what was written.

        member: its manifest, behind what was written. Raise BackupBad where it is not the same, to the last byte;
        OSError of this or of an earlier part; Interrupted on a signal.
        """
        for end in (written.gzip_bytes, None) if self._at_once else (None,):
            self._ends.put(end)
        found = self._work.result()
        if found is None:
            workfiles.forget(self._descriptor)
            found = dumpfile.unpacked(self._descriptor, [written.gzip_bytes], advance)
        dumpfile.compare_with_written(self._descriptor, written, member, found)

    def _follow(self) -> tuple[int, str] | None:
        if self._at_once:
            return dumpfile.unpacked(self._descriptor, self._synced())
        for _ in self._synced():
            pass
        return None

    def _synced(self) -> Iterator[int]:
        """Yield how far the file may be read from the disk, until it is over."""
        while (end := self._ends.get()) is not None:
            os.fdatasync(self._descriptor)
            workfiles.forget(self._descriptor)
            yield end
