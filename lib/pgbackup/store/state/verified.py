"""What is known of a database's backups from reading them, beside them: which are bad, and which are proven.

A proof is good for a file that has not changed since, and not for ever: disks forget, and notes can be forged.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from pgbackup import interrupt
from pgbackup.formats import names
from pgbackup.store import lock
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile

_MOST, _LONGEST_TEXT = 200, 300
_MOST_PROVEN = 12_000
_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Proven:
    """A file that was good when it was read to its last byte.

    at: when that began. sha256: of the dump, as its manifest has it, "-" without one. bytes, inode, changed: its size,
    its number, and when the file system says that anything of it was changed last (st_ctime_ns), which no program sets.
    """

    at: datetime
    sha256: str
    bytes: int
    inode: int
    changed: int

    def __str__(self) -> str:
        return f"{self.at.isoformat()} {self.sha256} {self.bytes} {self.inode} {self.changed}"

    def fits(self, status: os.stat_result, sha256: str) -> bool:
        """Whether that is the same file, and nothing was changed of it since."""
        return status.st_ino == self.inode and self.resembles(status, sha256)

    def resembles(self, status: os.stat_result, sha256: str) -> bool:
        """Whether it is the same but for its number, which not all file systems keep."""
        return replace(self, inode=0) == replace(proven(self.at, sha256, status), inode=0)


def proven(at: datetime, sha256: str, status: os.stat_result) -> Proven:
    """The proof of a file. status: from before it was read. Pure."""
    return Proven(at, sha256 or "-", status.st_size, status.st_ino, status.st_ctime_ns)


def _parsed(text: str) -> Proven:
    """Given a proof as it is noted, return it. Raise ValueError."""
    at, sha256, *numbers = text.split(" ")
    size, inode, changed = map(int, numbers)
    return Proven(statefile.instant(at), sha256, size, inode, changed)


@dataclass(frozen=True)
class Verified:
    """at: when all that lay there had been read by verify-backups.sh, None for never. good: how many were.

    bad: file to since when it is known to be bad, a blank and why. proven: file to a Proven as text.
    """

    at: datetime | None = None
    good: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    proven: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for since in self.bad.values():
            statefile.instant(since.partition(" ")[0])
        for text in self.proven.values():
            _parsed(text)

    def proof(self, name: str) -> Proven | None:
        """The noted proof of a file, whatever its age."""
        return _parsed(self.proven[name]) if name in self.proven else None

    def believable(self, now: datetime) -> dict[str, Proven]:
        """The proofs, of any age. None where one is of the future: the clock was set back, or somebody has made them
        up, and their ages say nothing.
        """
        found = {name: _parsed(text) for name, text in self.proven.items()}
        if any(proof.at > now for proof in found.values()):
            return {}
        return found


def after(
    before: Verified | None, at: datetime, good: int, problems: Mapping[str, str], proven: Mapping[str, Proven]
) -> Verified:
    """What is known after one more verification. problems: file to why it is bad. proven: the good ones. Pure."""
    known = before or Verified()
    kept = {name: text for name, text in known.proven.items() if name not in problems}  # of a backup made meanwhile
    return Verified(at, good, _bad(known, at, problems), _newest({**kept, **_texts(proven)}))


def after_night(
    before: Verified,
    there: Collection[str],
    read: Mapping[str, Proven],
    problems: Mapping[str, str],
    believed: Collection[str],
    at: datetime,
) -> Verified:
    """What is known after a night in which some files were read. Pure.

    there: the files that are left. read: those that were found to be good tonight; problems: file to why it is bad.
    believed: the names whose earlier proofs are kept.
    """
    still = {name: why.partition(" ")[2] for name, why in before.bad.items() if name not in read}
    bad = {name: why for name, why in {**still, **problems}.items() if name in there}
    kept = {name: text for name, text in before.proven.items() if name in believed and name in there}
    proven = {name: text for name, text in {**kept, **_texts(read)}.items() if name not in bad}
    return replace(before, bad=_bad(before, at, bad), proven=_newest(proven))


def _bad(before: Verified, at: datetime, problems: Mapping[str, str]) -> dict[str, str]:
    since = {name: before.bad[name].partition(" ")[0] if name in before.bad else at.isoformat() for name in problems}
    return {name: f"{since[name]} {why[:_LONGEST_TEXT]}" for name, why in list(problems.items())[:_MOST]}


def _texts(proven: Mapping[str, Proven]) -> dict[str, str]:
    return {name: str(proof) for name, proof in proven.items()}


def _newest(proven: dict[str, str]) -> dict[str, str]:
    return {name: proven[name] for name in sorted(proven)[-_MOST_PROVEN:]}


def _name(database: str) -> str:
    return f".{names.stem(database)}.verified.json"


def read(place: Folder, database: str) -> Verified | None:
    """Return what is known, None for nothing. Raise Unreadable, Newer or PermissionDenied."""
    remedy = f"remove it, and verify anew: rm '{place.path / _name(database)}'"
    return statefile.read(place, _name(database), Verified, remedy)


def write(place: Folder, database: str, verified: Verified) -> None:
    """Replace what is known; held() is held. Raise OSError."""
    # Where it is lost in a power cut, more is read: the directory need not be synced once more.
    statefile.write(place, _name(database), verified, lasting=False)


@contextmanager
def held(place: Folder, database: str) -> Iterator[None]:
    """Keep other runs from writing it for the length of a short block. Raise LockHeld after some seconds."""
    with ExitStack() as stack:
        with interrupt.shielded():
            stack.enter_context(lock.awaited(place, f"{names.stem(database)}%verified", _WAIT_SECONDS))
        yield
