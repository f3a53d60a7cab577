"""The records in WAL, as pg_waldump reads them in the container: segments that follow each other, batch by batch."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from pgbackup import wal
from pgbackup.database.cluster.throwaway import Throwaway
from pgbackup.errors import IoFailed, Unavailable
from pgbackup.wal import Segment

BATCH_SEGMENTS = 8
_DIRECTORY = "/tmp/wal"  # noqa: S108  in the container, on its own disk
_READ = """
pg_waldump --quiet --path="$0" "$1" "$2"
status=$?
shift 2
cd "$0" && rm -f "$@"
exit $status
"""


class Batch:
    """Segments that follow each other, on their way into the container as they are read: one tar for all of them.

    The last one of a full batch stays there, so that the record that begins in it is read with the next batch. Use as a
    context manager: leaving the block stops what is under way.
    """

    def __init__(self, container: Throwaway, segment_bytes: int) -> None:
        """Raise Unavailable where the container is gone."""
        self._container, self._segment_bytes = container, segment_bytes
        self._segments: list[Segment] = []
        self._stack = ExitStack()
        self._put: Callable[[bytes], None] | None = None
        container.say("mkdir", _DIRECTORY)

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def add(self, segment: Segment, content: bytes) -> list[str]:
        """Take one more; return what is wrong with those before it, if it does not follow them, or they are enough.

        Raise IoFailed where the container could not take them.
        """
        last = self._segments[-1] if self._segments else None
        follows = last is None or (last.timeline, last.number + 1) == (segment.timeline, segment.number)
        said = [] if follows else self.read()
        if self._put is None:
            words = ("tar", "-x", "-f", "-", "-C", _DIRECTORY)
            self._put = self._stack.enter_context(self._container.fed("WAL could not be checked", *words))
        header = tarfile.TarInfo(wal.segment_name(segment, self._segment_bytes))
        header.size = len(content)
        for data in (header.tobuf(tarfile.USTAR_FORMAT), content):
            self._put(data)
        self._segments.append(segment)
        return said + (self.read(keep=True) if len(self._segments) > BATCH_SEGMENTS else [])

    def read(self, *, keep: bool = False) -> list[str]:
        """Let pg_waldump read what is there; return what is wrong with it. keep: the last one stays.

        Raise IoFailed where the container could not take them.
        """
        batch, self._segments = self._segments, []
        if self._put is not None:
            self._put(bytes(2 * tarfile.BLOCKSIZE))
            self._put = None
            try:
                self._stack.close()
            except IoFailed:
                with suppress(Unavailable):
                    self._container.say("sh", "-c", 'rm -f "$0"/*', _DIRECTORY)
                raise
        if not batch:
            return []
        self._segments = batch[-1:] if keep else []
        names = [wal.segment_name(segment, self._segment_bytes) for segment in batch]
        try:
            self._container.say("sh", "-c", _READ, _DIRECTORY, names[0], names[-1], *names[: len(names) - keep])
        except Unavailable as error:
            return [self._where(batch, error.message)]
        return []

    def _where(self, batch: Sequence[Segment], said: str) -> str:
        """Name the segment of whose record pg_waldump speaks, or all of the batch where it names no position. Pure."""
        size = self._segment_bytes
        if positions := re.findall(r"\bat ([0-9A-F]+/[0-9A-F]+)", said):
            name = wal.segment_name(wal.segment_at(wal.parse_lsn(positions[-1]), batch[0].timeline, size), size)
            return f"'{name}' holds a record that cannot be read: {said}"
        first, last = (wal.segment_name(segment, size) for segment in (batch[0], batch[-1]))
        return f"the records from '{first}' to '{last}' cannot be read: {said}"
