"""Objects are fetched in the order in which they will be asked for, some ahead of it, many in one start of rclone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pgbackup import interrupt
from pgbackup.errors import Unavailable
from pgbackup.remotes.place import Object, Place

_BATCH_OBJECTS, _BATCH_BYTES = 8, 64 << 20
_AHEAD_OBJECTS, _AHEAD_BYTES = 24, 256 << 20  # on disk and not asked for yet; one batch there may always be
_PAUSES_SECONDS = (1.0, 5.0, 15.0)
_TICK_SECONDS = 0.02


class Ahead:
    """objects: in the order in which they are needed. What has been read is removed, and fetched again if need be."""

    def __init__(self, place: Place, directory: Path, objects: Sequence[Object], pool: ThreadPoolExecutor) -> None:
        self._place, self._directory, self._objects, self._pool = place, directory, objects, pool
        self._at = {one.name: number for number, one in enumerate(objects)}
        self._coming: dict[str, Future[None]] = {}
        self._next = 0

    def read(self, name: str) -> bytes:
        """The content of one of the objects as it lies at the place. Raise NoBackup where it is gone, Unavailable."""
        self.begin(name)
        coming = self._coming[name]
        while not coming.done():
            interrupt.check()
            time.sleep(_TICK_SECONDS)
        coming.result()
        path = self._directory / name
        content = path.read_bytes()
        path.unlink()
        del self._coming[name]
        self._go_on()
        return content

    def begin(self, name: str) -> None:
        """Let it, and what follows it, be fetched."""
        if name not in self._coming:
            self._begin_at(self._at[name])
        self._go_on()

    def _begin_at(self, number: int) -> None:
        """Somebody goes back, or ahead: what was fetched for another order goes."""
        for coming in self._coming.values():
            coming.cancel()
        self._pool.submit(shutil.rmtree, self._directory, ignore_errors=True).result()
        self._coming.clear()
        self._next = number

    def _go_on(self) -> None:
        while self._next < len(self._objects):
            held = [self._objects[self._at[name]] for name in self._coming]
            if held and (len(held) >= _AHEAD_OBJECTS or sum(one.bytes for one in held) >= _AHEAD_BYTES):
                return
            batch: list[Object] = []
            for one in self._objects[self._next : self._next + _BATCH_OBJECTS]:
                if batch and sum(each.bytes for each in batch) + one.bytes > _BATCH_BYTES:
                    break
                batch.append(one)
            self._next += len(batch)
            names = [one.name for one in batch]
            self._coming |= dict.fromkeys(names, self._pool.submit(self._fetch, names))

    def _fetch(self, names: Sequence[str]) -> None:
        for pause in (*_PAUSES_SECONDS, None):
            try:
                self._place.fetch_many(names, self._directory)
            except Unavailable:
                if pause is None:
                    raise
                interrupt.check()
                time.sleep(pause)
            else:
                return


@contextmanager
def fetching(place: Place, directory: Path, objects: Sequence[Object]) -> Iterator[Ahead]:
    """Give what fetches them below `directory`, which need not be there, for the length of the block."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield Ahead(place, directory, objects, pool)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
