"""A lane to a place: objects go there in batches, and one counts when the place has confirmed it, and is in the index.

WAL has one lane and base backups another, each with a spool and an index of its own, so that a large base backup on a
narrow line does not hold up WAL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import BinaryIO, cast

from pgbackup.commands.offsite.confirming import confirmed
from pgbackup.commands.offsite.one_place import Elsewhere
from pgbackup.errors import BackupBad, IoFailed
from pgbackup.formats import sealed
from pgbackup.formats.copies import ENCRYPTED
from pgbackup.remotes.place import Object
from pgbackup.report.result import instant
from pgbackup.store.folder import Folder
from pgbackup.store.offsite import batch, index
from pgbackup.store.offsite.batch import Waiting
from pgbackup.store.offsite.index import Entry, Index

WAL, BASE = index.WAL, index.BASE
_KINDS = ("md5", "sha256", "sha1")  # what a place may say of an object, and we can compute
_MOST_BYTES, _MOST_OBJECTS = 64 << 20, 100


@dataclass(frozen=True)
class Item:
    """Something to be copied. name: of the object, but for its encryption. size: in bytes, about.

    content: gives its bytes; raises FileNotFoundError where it is gone, BackupBad where it is damaged. passing: it is
    of no worth once a later one is there, and comes into no index.
    """

    name: str
    size: int
    content: Callable[[], Iterator[bytes]]
    passing: bool = False


@dataclass
class Lane:
    """name: WAL or BASE. own: the directory of what is known of the place; spooling: the lane's spool.

    tell: is called with each copy that is confirmed. problems: of objects, by name, that stop only themselves; refused:
    names under which something else lies there.
    """

    name: str
    where: Elsewhere
    own: Folder
    spooling: Folder
    known: Index
    tell: Callable[[Entry], None]
    problems: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def called(self, name: str) -> str:
        """The object that something becomes."""
        return name + (ENCRYPTED if self.where.recipients else "")

    def has(self, name: str) -> bool:
        """Whether nothing more can be done about it: it is there, or something else is."""
        return (called := self.called(name)) in self.known.entries or called in self.refused

    def send_left(self, passing: Callable[[str], bool]) -> set[str]:
        """Send what an earlier run has left, with the same bytes, which may be there already; return what is there.

        passing: whether an object of that name comes into no index.
        """
        if not (left := batch.left(self.spooling)):
            return set()
        there = self._send([one for one in left if one.name not in self.known.entries], passing)
        batch.clear(self.spooling)
        return there

    def send(self, items: Iterable[Item]) -> Iterator[Item]:
        """Copy one batch after the other; yield what was confirmed. What fails but for one item is raised."""
        gathered: list[tuple[Item, Waiting]] = []
        for item in items:
            if made := self._sealed(item):
                gathered.append((item, made))
            if len(gathered) >= _MOST_OBJECTS or sum(one.bytes for _, one in gathered) >= _MOST_BYTES:
                yield from self._confirmed_of(gathered)
                gathered = []
        yield from self._confirmed_of(gathered)

    def _sealed(self, item: Item) -> Waiting | None:
        """Encrypt it into the spool; None where it is gone, or bad."""

        def write(into: BinaryIO) -> None:
            if self.where.recipients:
                pieces = cast("BinaryIO", sealed.Blocks(_readable(item)))  # it has all of a file that a reader needs
                sealed.seal(pieces, into, self.where.recipients)
                return
            for piece in _readable(item):
                into.write(piece)

        try:
            return batch.add(self.spooling, self.called(item.name), item.size, write)
        except _Gone:
            return None
        except BackupBad as bad:
            self.problems[item.name] = bad.message
            return None

    def _confirmed_of(self, gathered: Sequence[tuple[Item, Waiting]]) -> Iterator[Item]:
        if not gathered:
            return
        waiting = [made for _, made in gathered]
        batch.journal(self.spooling, waiting)
        passing = {made.name for item, made in gathered if item.passing}
        there = self._send(waiting, passing.__contains__)
        batch.clear(self.spooling)
        yield from (item for item, made in gathered if made.name in there)

    def _send(self, waiting: Sequence[Waiting], passing: Callable[[str], bool]) -> set[str]:
        """Upload, let the place confirm, and only then write into the index; return what is there."""
        names, offsite, there = [one.name for one in waiting], self.where.offsite, set[str]()
        if not names:
            return there
        with self.where.place.kept_open() as place:
            place.put_many(batch.directory(self.spooling), names, lock_days=offsite.lock_days)
            found = place.stat_many(names)
        if missing := [name for name in names if name not in found]:
            raise IoFailed(f"'{missing[0]}' is not at '{offsite.name}' after its upload", "it is tried again")
        for one in waiting:
            hashes = self._hashes(one, found[one.name])
            if hashes is None:
                if not passing(one.name):
                    self.refused.add(one.name)
                self.problems[one.name] = f"something else lies at '{offsite.name}' under its name"
                continue
            entry = Entry(one.name, one.bytes, hashes, one.plain_bytes, instant(datetime.now(timezone.utc)))
            if not passing(one.name):
                self._note(entry)
            there.add(one.name)
            self.tell(entry)
        return there

    def _note(self, entry: Entry) -> None:
        try:
            index.append(self.own, self.name, self.known, entry)
        except OSError as error:
            raise IoFailed(f"cannot write the index of copies in '{self.own.path}': {error.strerror}") from None

    def _hashes(self, one: Waiting, found: Object) -> dict[str, str] | None:
        """The hashes of what is there, as the place says or as it was read back; None where it is not what was sent."""
        known = {"sha256": one.sha256, "md5": one.md5}

        def ours(kind: str) -> str:
            return known.get(kind) or batch.digest(self.spooling, one.name, kind)

        return confirmed(found, one.bytes, _KINDS, ours, lambda: self.where.place.get(one.name))


class _Gone(Exception):
    """It has expired here in the meantime."""


def _readable(item: Item) -> Iterator[bytes]:
    try:
        yield from item.content()
    except FileNotFoundError:
        raise _Gone from None
    except OSError as error:  # of the disk that it lies on, not of the spool's
        raise BackupBad(f"it cannot be read here: {error.strerror}") from None
