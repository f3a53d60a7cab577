"""Where the files of an archive come from when it is recovered from: this disk, or a place elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from pgbackup.formats.cluster.timelines import Switch
from pgbackup.store import folder
from pgbackup.store.folder import Folder
from pgbackup.store.wal import archive
from pgbackup.store.wal.archive import Places, State


class Files(Protocol):
    """The files of one archive. title: what it is called; verify: the command that tells which of them are bad."""

    @property
    def title(self) -> str: ...

    @property
    def verify(self) -> str: ...

    def called(self, base: str) -> str:
        """What a base backup is called in messages."""

    def expect(self, name: str) -> None:
        """The segment of that name, and what follows it, will be asked for soon."""

    def hand_out(self, name: str) -> bytes | None:
        """A segment or history file as restore_command wants it; None where there is none.

        Raise BackupBad, naming it, for one that is damaged or of another cluster.
        """

    def histories(self) -> Mapping[int, Sequence[Switch]]:
        """Where each timeline comes from. Raise BackupBad, naming the file, for one that is damaged."""

    def tar(self, base: str, held: str, sha256: str, advance: Callable[[int], None]) -> Iterator[bytes]:
        """A tar archive of a base backup, in pieces. sha256: of its compressed file.

        Raise BackupBad, at the latest at its end, if it is damaged or not the one that was written.
        """

    def manifest_text(self, base: str) -> bytes:
        """PostgreSQL's manifest of a base backup. Raise BackupBad where it is not there."""


@dataclass(frozen=True)
class OnDisk:
    """The files of an archive on this disk."""

    places: Places
    state: State
    title: str = "WAL archive"
    verify: str = "verify-backups.sh"

    def called(self, base: str) -> str:
        return str(self.places.base.path / base)

    def expect(self, name: str) -> None:
        """It is here already."""

    def hand_out(self, name: str) -> bytes | None:
        return archive.hand_out(self.places, self.state, name)

    def histories(self) -> Mapping[int, Sequence[Switch]]:
        return archive.histories(self.places)

    def tar(self, base: str, held: str, sha256: str, advance: Callable[[int], None]) -> Iterator[bytes]:
        from pgbackup.store.wal import base_archives  # here: with tar and threads, for whoever really reads one

        with self._base(base) as place:
            yield from base_archives.pieces(place, held, sha256, advance)

    def manifest_text(self, base: str) -> bytes:
        from pgbackup.store.wal import base_archives  # here, as above

        with self._base(base) as place:
            return base_archives.manifest_text(place)

    @contextmanager
    def _base(self, base: str) -> Iterator[Folder]:
        with folder.opened(self.places.base.path / base, create=False) as place:
            yield place
