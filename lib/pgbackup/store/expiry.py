"""Proves the backups that are to protect older ones from expiry, and in turn all others: only proven ones count.

What was proven lately and has not changed since is not read again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timezone
from enum import Enum

from pgbackup.errors import BackupBad
from pgbackup.formats import dumpfile
from pgbackup.store import catalog, reproving, workfiles
from pgbackup.store.catalog import Backup
from pgbackup.store.folder import Folder
from pgbackup.store.state import verified
from pgbackup.store.state.verified import Proven


class _Read(Enum):
    """How a file is read: its bytes alone, all that they hold, or that by more than one thread."""

    BYTES, WHOLE, ALONE = range(3)


class Proofs:
    """What is proven of one database's backups. known: all of them.

    read: the proofs of those that this run has read. problems: file to why it was found to be bad.
    """

    def __init__(
        self,
        folder: Folder,
        known: Sequence[Backup],
        noted: Mapping[str, Proven],
        since: datetime,
        on_bad: Callable[[str, str], None] = lambda _name, _reason: None,
    ) -> None:
        """noted: proofs from earlier runs, which count when they are not older than `since`. on_bad: takes name and
        reason of one that is found to be bad.
        """
        self.known = known
        self.read: dict[str, Proven] = {}
        self.problems: dict[str, str] = {}
        self._folder, self._noted, self._since, self._on_bad = folder, noted, since, on_bad
        self._looks = {backup.name: backup for backup in known}

    def is_good(self, name: str) -> bool:
        """Whether that backup is good: what retention.decide() asks. Without a proof that counts, it is read."""
        if self._proof(name) is None and name not in self.problems:
            self._prove(name, _Read.BYTES if self._is_known(name) else _Read.ALONE)
        return self._proof(name) is not None

    def published(self, name: str, inode: int, now: datetime) -> None:
        """Take that a backup was read back before it got its name, if the name still leads to that very file."""
        with suppress(OSError):
            status = self._folder.status(name)
            if status.st_ino == inode and name in self._looks:
                self.read[name] = verified.proven(now, self._looks[name].sha256, status)

    def read_anew(self, names: Iterable[str], now: datetime, days: int, retention_days: int) -> None:
        """Read tonight's portion of these files again, several at once where there are cores. See reproving.tonight().

        Of one that was read whole before, its SHA-256 is compared with its manifest's: no note is trusted for it.
        Raise Interrupted on a signal.
        """
        looks = [self._looks[name] for name in names if name not in self.problems]
        files = [
            reproving.File(look.name, look.bytes, look.taken, proof.at if (proof := self._latest(look.name)) else None)
            for look in looks
            if not look.denied
        ]
        chosen = reproving.tonight(files, now, days, retention_days)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            how = [_Read.BYTES if self._is_known(name) else _Read.WHOLE for name in chosen]
            for _ in pool.map(self._prove, chosen, how):
                pass

    def _proof(self, name: str) -> Proven | None:
        """The proof of a file that is as it was when it was read, if there is one that counts."""
        found, look = self.read.get(name) or self._noted.get(name), self._looks[name]
        if name in self.problems or found is None or look.problem or found.at <= self._since:
            return None
        try:
            return found if found.fits(self._folder.status(name), look.sha256) else None
        except OSError:
            return None

    def _is_known(self, name: str) -> bool:
        """Whether it was read whole once, so that to compare its bytes with its manifest is enough."""
        return self._looks[name].manifest is not None and self._latest(name) is not None

    def _latest(self, name: str) -> Proven | None:
        """The proof of a file that is most likely the same: some file systems have another inode for it at each mount.

        Its age says when the file is due, and no more: it does not count.
        """
        found, look = self._noted.get(name), self._looks[name]
        with suppress(OSError):
            if found and found.resembles(self._folder.status(name), look.sha256):
                return self._proof(name) or found
        return self._proof(name)

    def _prove(self, name: str, how: _Read) -> None:
        """Read a backup to its last byte, from the disk."""
        look = self._looks[name]
        try:
            if look.problem:
                raise BackupBad(look.problem)
            self.read[name] = _read(self._folder, look, how)
        except (BackupBad, OSError) as error:
            self._on_bad(name, str(error))
            if not (look.denied or isinstance(error, FileNotFoundError)):
                self.problems[name] = str(error)


def _read(folder: Folder, backup: Backup, how: _Read) -> Proven:
    """Read a backup through and return its proof. Raise BackupBad or OSError."""
    at = datetime.now(timezone.utc)
    descriptor = catalog.open_file(folder, backup.name)
    try:
        status = os.fstat(descriptor)
        workfiles.forget(descriptor)
        if how is _Read.BYTES:
            dumpfile.check_unchanged(descriptor)
        else:
            dumpfile.check(descriptor, alone=how is _Read.ALONE)
        return verified.proven(at, backup.sha256, status)
    finally:
        os.close(descriptor)
