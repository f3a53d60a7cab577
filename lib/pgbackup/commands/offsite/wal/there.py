"""The part of verify-backups.sh --at that is about WAL and base backups: what was sent, and to where it leads."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pgbackup import wal
from pgbackup.commands.elsewhere.copies import Copies
from pgbackup.commands.elsewhere.wal import archive, opening, window
from pgbackup.commands.elsewhere.wal.archive import Seen
from pgbackup.commands.offsite import judging
from pgbackup.errors import BackupBad, NoBackup
from pgbackup.formats import gzipped, wal_copies
from pgbackup.remotes.place import Object
from pgbackup.settings.config import Settings, Target
from pgbackup.store import folder
from pgbackup.store.offsite import index
from pgbackup.store.offsite.index import Entry
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal import recoverable
from pgbackup.store.wal import segments as walfile
from pgbackup.store.wal.recoverable import counted, local
from pgbackup.store.wal.window import Window

_BEHIND = timedelta(minutes=10)  # by more than that, WAL at the place is told to be late


@dataclass
class Found:
    """What was found out about one archive there. damage: of objects; complaints: what cannot be recovered."""

    target: str
    series: str = ""
    bases: int = 0
    segments: int = 0
    windows: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        return BackupBad.status if self.damage else NoBackup.status if self.complaints else 0

    def lines(self) -> list[str]:
        good = ", NOT all good" if self.status else ""
        what = f"{counted(self.bases, 'base backup')}, {counted(self.segments, 'segment')}"
        return [f"WAL of '{self.target}', archive {self.series or '-'}: {what}{good}", *self.windows]

    def entry(self) -> dict[str, Any]:
        """As JSON values."""
        told = {"target": self.target, "series": self.series, "status": self.status, "bases": self.bases}
        return {**told, "segments": self.segments, "damage": self.damage, "complaints": self.complaints}


def sent(own: Path) -> dict[str, Entry]:
    """What the place has confirmed of WAL and base backups; nothing where this host knows nothing. Raise BackupBad."""
    if not own.exists():
        return {}
    with folder.opened(own, create=False) as place:
        return {name: one for lane in ("wal", "base") for name, one in index.read(place, lane).entries.items()}


def check(
    settings: Settings,
    there: Copies,
    known: dict[str, Entry],
    identities: Sequence[str],
    advance: Callable[[int], None] | None,
) -> Found | None:
    """Look at the archive of a database at a place; None where there is none, here or there.

    known: what was sent. advance: read all of it through, and tell how many bytes; None: do not. Raise what the place
    raises.
    """
    found = Found(there.target.name)
    archived = walarchive.path_of(settings.backup_dir, there.target.directory).is_dir()
    if not there.place.list(wal_copies.bases(there.host, there.target.directory)):
        found.complaints.append(f"there is no base backup of '{there.target.name}' at '{there.called}'")
        return found if archived else None
    with tempfile.TemporaryDirectory(prefix="pgbackup-") as directory:
        seen = archive.look(there, None, identities, Path(directory) / "fetched", hashes=True)
    found.series, found.bases, found.segments = str(seen.known.series), len(seen.bases), len(seen.known.segments)
    found.damage += [f"'{name}' is bad: {reason}" for name, reason in seen.refused.items()]
    objects = {one.name: one for one in _objects(seen)}
    found.damage += _differences(seen, objects, known)
    if advance:
        found.damage += [told for one in objects.values() if (told := _read(seen, one, known, identities, advance))]
    windows = seen.windows()
    found.complaints += window.gaps(seen, windows)
    if archived and windows:
        found.complaints += _late(settings, there.target, windows[-1])
    found.windows = recoverable.described(windows)
    return found


def _objects(seen: Seen) -> Iterator[Object]:
    yield from seen.known.segments.values()
    yield from seen.known.histories.values()
    for base in seen.known.bases.values():
        yield from (base.record, *base.files.values())


def _differences(seen: Seen, objects: dict[str, Object], known: dict[str, Entry]) -> list[str]:
    """What is not as it was sent, and what is gone of one series. Nothing where nobody knows what was sent."""
    host, own, series = seen.there.host, seen.there.target.directory, seen.known.series
    tops = (f"{wal_copies.bases(host, own, series)}/", f"{wal_copies.segments(host, own, series)}/")
    mine = {name: entry for name, entry in known.items() if name.startswith(tops)}
    if not mine:
        return []
    told = [f"'{name}' is bad: this host has not sent it" for name in objects if name not in mine]
    told += [f"'{name}' was copied and is gone" for name in mine if name not in objects and _matters(seen, name)]
    for name, one in objects.items():
        if name in mine and (difference := judging.difference(mine[name], one)):
            told.append(f"'{name}' is bad: {difference}")
    return told


def _matters(seen: Seen, name: str) -> bool:
    """Whether an object that is gone is missed: its place removes what has become old, by a rule of its own."""
    size, oldest = seen.known.series.segment_bytes, min((base.began.number for base in seen.bases.values()), default=0)
    segment = wal.parse_segment(wal_copies.unpacked(name.rpartition("/")[2]) or "", size)
    if segment:
        return segment.number >= oldest
    return name.split("/")[-2] >= min(seen.bases, default="")


def _read(
    seen: Seen, one: Object, known: dict[str, Entry], identities: Sequence[str], advance: Callable[[int], None]
) -> str:
    """Read one object to its end, and with keys what is in it; return what is wrong with it, or ""."""
    made = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for piece in seen.there.place.get(one.name):
            made.update(piece)
            advance(len(piece))
            yield piece

    name = one.name.rpartition("/")[2]
    segment = wal.parse_segment(wal_copies.unpacked(name) or "", seen.known.series.segment_bytes)
    try:
        plain = pieces() if seen.locked(identities) else opening.opened(one.name, pieces(), identities)
        if ".gz" in name and not seen.locked(identities):
            plain = gzipped.inflated(plain)
        head, length = bytearray(), 0
        for piece in plain:
            head += piece[: max(0, 64 - len(head))]
            length += len(piece)
        if segment and not seen.locked(identities):
            walfile.check_header(bytes(head), segment, seen.known.series.system, length)
    except (BackupBad, NoBackup) as bad:
        return f"'{one.name}' is bad: {bad.message}"
    if one.name in known and made.hexdigest() != known[one.name].hashes["sha256"]:
        return f"'{one.name}' is bad: it is not what was sent: its SHA-256 is another"
    return ""


def _late(settings: Settings, target: Target, last: Window) -> list[str]:
    """Whether WAL at the place is far behind what is archived here."""
    with walarchive.opened(settings.backup_dir, target.directory, create=False) as places:
        confirmed = walarchive.read_confirmed(places)
    if confirmed is None or confirmed.lsn <= last.lsn or confirmed.time - last.until < _BEHIND:
        return []
    return [f"WAL there ends at {local(last.until)}, and is archived here up to {local(confirmed.time)}"]
