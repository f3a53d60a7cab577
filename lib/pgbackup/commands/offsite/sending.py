"""Sends backups to a place: encrypted into the spool, uploaded, confirmed by the place, and only then in the index."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from io import BytesIO
from typing import BinaryIO

from pgbackup.commands.offsite.confirming import confirmed
from pgbackup.commands.offsite.deciding import Decision, Source
from pgbackup.commands.offsite.one_place import Copies, Elsewhere, is_there
from pgbackup.errors import BackupBad, IoFailed, NoBackup
from pgbackup.formats import copies as named
from pgbackup.formats import sealed
from pgbackup.remotes.place import AlreadyThere
from pgbackup.report.result import instant
from pgbackup.store import catalog, folder
from pgbackup.store.folder import Folder
from pgbackup.store.offsite import index, spool
from pgbackup.store.offsite.index import Entry, Index
from pgbackup.store.offsite.spool import Spooled

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Sender:
    """Sends to one place. own: the directory of what is known of it; spooling: its spool; known: its index.

    stream: of the index. tell: is called with each new copy.
    """

    where: Elsewhere
    own: Folder
    spooling: Folder
    known: Index
    copies: Copies
    tell: Callable[[Entry], None]
    stream: str = index.DUMPS

    def send_left(self) -> None:
        """Send what an earlier run has left in the spool, with the same bytes, which may be there already."""
        if found := spool.left(self.spooling):
            left, whole = found
            is_backup = left.name.startswith(f"{named.all_dumps(self.where.host)}/")
            if is_backup and left.name not in self.known.entries:  # all else is made anew
                try:
                    if whole or self.where.place.stat(left.name):
                        self._send(left, upload=whole)
                except BackupBad as bad:
                    self.copies.problems[left.name] = bad.message
        spool.clear(self.spooling)

    def send_all(self, decision: Decision) -> None:
        """Copy one after the other. A bad backup stops only itself; all else is raised, and stops the place's turn."""
        for source in decision.to_copy:
            try:
                self._send(self._spooled(source))
            except BackupBad as bad:
                self.copies.problems[source.name] = bad.message
                spool.clear(self.spooling)
                continue
            except NoBackup:
                pass  # it has expired here in the meantime
            else:
                is_there(source, self.copies)
            self.copies.waiting -= 1

    def send_bytes(self, name: str, data: bytes, *, encrypted: bool) -> None:
        """Copy something small that is in memory. Raise BackupBad, IoFailed, what the place raises."""
        recipients = self.where.recipients if encrypted else ()
        self._send(self._filled(name, len(data), partial(_seal, BytesIO(data), recipients)))

    def _spooled(self, source: Source) -> Spooled:
        """Encrypt a backup into the spool. Raise NoBackup where it is gone, BackupBad, IoFailed."""
        path = self.where.top.path / source.target.directory
        with folder.opened(path, create=False) as place:
            try:
                descriptor = catalog.open_file(place, source.backup.name)
            except FileNotFoundError:
                raise NoBackup(f"'{path / source.backup.name}' is gone") from None
            except OSError as error:
                raise IoFailed(f"cannot read '{path / source.backup.name}': {error.strerror}") from None
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  a descriptor, not a path
            if os.fstat(descriptor).st_size != source.backup.bytes:
                raise BackupBad(f"'{path / source.backup.name}' has changed while it was looked at")
            fill = partial(_seal, file, self.where.recipients)
            return self._filled(source.name, source.backup.bytes, fill)

    def _filled(self, name: str, plain_bytes: int, write: Callable[[BinaryIO], None]) -> Spooled:
        return spool.fill(self.spooling, name, plain_bytes, write, self.where.place.hash_kind())

    def _send(self, made: Spooled, *, upload: bool = True) -> None:
        """Upload what is in the spool, let the place confirm it, and only then write it into the index.

        upload: false for what is there already, and no longer in the spool.
        """
        hashes = self._upload(made) if upload else self._confirmed(made)
        entry = Entry(made.name, made.bytes, hashes, made.plain_bytes, instant(datetime.now(timezone.utc)))
        try:
            index.append(self.own, self.stream, self.known, entry)
        except OSError as error:
            raise IoFailed(f"cannot write the index of copies in '{self.own.path}': {error.strerror}") from None
        spool.clear(self.spooling)
        (self.copies.copied if self.stream == index.DUMPS else self.copies.along).append(entry)
        self.tell(entry)

    def _upload(self, made: Spooled) -> dict[str, str]:
        """Upload what is in the spool; return the hashes that the place confirms. Raise BackupBad, IoFailed."""
        # An earlier try of ours may have put it there, or somebody else something: what it holds decides.
        with suppress(AlreadyThere):
            lock_days = self.where.offsite.lock_days
            self.where.place.put(
                made.name, spool.path(self.spooling), lock_days=lock_days, md5=made.told.get("md5", "")
            )
        return self._confirmed(made)

    def _confirmed(self, made: Spooled) -> dict[str, str]:
        """The hashes of what is there now, as the place says or as it was read back. Raise BackupBad, IoFailed."""
        place, name = self.where.place, self.where.offsite.name
        found = place.stat(made.name)
        if found is None:
            raise IoFailed(f"'{made.name}' is not at '{name}' after its upload", "it is tried again")
        ours = made.hashes
        hashes = confirmed(found, made.bytes, ours, ours.__getitem__, lambda: place.get(made.name))
        if hashes is None:
            raise BackupBad(f"what lies at '{name}' as '{made.name}' is not what was sent: it does not count as a copy")
        return hashes


def _seal(file: BinaryIO, recipients: Sequence[str], into: BinaryIO) -> None:
    if recipients:
        sealed.seal(file, into, recipients)
        return
    while piece := file.read(_PIECE_BYTES):
        into.write(piece)
