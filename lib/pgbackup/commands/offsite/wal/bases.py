"""What of an archive's base backups is to be copied: every file of each, and last its record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pgbackup.commands.offsite.wal.archives import Source
from pgbackup.commands.offsite.wal.lane import Item
from pgbackup.errors import BackupBad
from pgbackup.formats import wal_copies
from pgbackup.store import folder
from pgbackup.store.wal import base_backups, window
from pgbackup.store.wal.base_backups import MANIFEST, RECORD, TAR, BaseBackupRecord
from pgbackup.store.wal.window import BaseBackup

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Bases:
    """The base backups that are here. known: by name, the oldest first."""

    source: Source
    host: str
    known: dict[str, tuple[BaseBackup, BaseBackupRecord]]

    def order(self) -> list[str]:
        """The names in the order in which they go: the newest first, behind all that it builds upon."""
        names = {name: base for name, (base, _) in self.known.items()}
        return list(dict.fromkeys(one for name in [*names][::-1] for one in window.lineage(names[name], names)[::-1]))

    def files(self, name: str) -> list[Item]:
        """All files of a base backup but its record."""
        digests = {f"{held}{TAR}": digest for held, digest in self.known[name][1].archives.items()} | {MANIFEST: ""}
        return [self._item(name, file, file, digest) for file, digest in digests.items()]

    def record(self, name: str) -> Item:
        """Its record, by which the others become a base backup."""
        base, size = self.known[name][0], self.source.state.segment_bytes
        return self._item(name, RECORD, wal_copies.facts(base.began, size, base.stop, base.ended, base.parent), "")

    def newest(self, has: Callable[[str], bool]) -> str:
        """The newest one that is at the place with all that it builds upon, "" for none. has: whether an object is."""
        names = {name: base for name, (base, _) in self.known.items()}
        there = {name for name in names if has(self.record(name).name)}
        return max((name for name in there if there.issuperset(window.lineage(names[name], names))), default="")

    def _item(self, name: str, file: str, called: str, digest: str) -> Item:
        path = self.source.places.base.path / name
        below = f"{wal_copies.bases(self.host, self.source.directory, self.source.series)}/{name}"
        try:
            size = (path / file).lstat().st_size
        except OSError:
            size = 0  # it has expired in the meantime; whoever reads it says so
        return Item(f"{below}/{called}", size, partial(_content, path.parent / name, file, digest))


def look(source: Source, host: str) -> Bases:
    """What lies here; what is no base backup is left out."""
    known, _ = base_backups.listing(source.places.base, source.state.segment_bytes)
    return Bases(source, host, known)


def _content(path: Path, file: str, digest: str) -> Iterator[bytes]:
    """A file as it lies there. digest: its SHA-256, "" where none was noted. Raise FileNotFoundError, BackupBad."""
    path.lstat()  # one that has expired is gone, and not refused
    made = hashlib.sha256()
    with (
        folder.opened(path, create=False) as place,
        open(place.open(file), "rb", buffering=0) as opened,  # noqa: PTH123  a descriptor, not a path
    ):
        while block := opened.read(_BLOCK_BYTES):
            made.update(block)
            yield block
    if digest and made.hexdigest() != digest:
        raise BackupBad(f"'{path / file}' is not what was written (SHA-256 differs)")
