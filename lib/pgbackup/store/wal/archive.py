"""The directory of one cluster's WAL archive, BACKUP_DIR/pitr/<dir>: its parts, its state, and what it can hand out.

`receiving` is pg_receivewal's own; finished segments but the newest go from there to `wal`, compressed. The newest one
stays, for by it pg_receivewal knows where to go on. `base` has a directory for each base backup.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pgbackup import wal
from pgbackup.errors import BackupBad, NoBackup
from pgbackup.formats.cluster import timelines
from pgbackup.formats.cluster.timelines import Switch
from pgbackup.store import folder
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile
from pgbackup.store.state.statefile import Unreadable
from pgbackup.store.wal import segments as walfile
from pgbackup.store.wal.segments import COMPRESSED
from pgbackup.store.wal.window import Confirmed
from pgbackup.wal import Segment

TOP = "pitr"
SET_UP = "begin one: sudo setup-wal-archiving.sh TARGET"
RECEIVER = "receiver"  # the lock of who receives its WAL
_STATE, _RECEIVER, _MARK = "archive.json", "receiver.json", "mark.json"


@dataclass(frozen=True)
class Places:
    """The open directories of one archive."""

    top: Folder
    wal: Folder
    receiving: Folder
    base: Folder


@dataclass(frozen=True)
class State:
    """What the set-up has agreed with the server. owner: the database (by its name in DATABASES) that slot and receiver
    are named after; others of the same cluster may share the archive. system: the cluster's identifier. image: the full
    id of its image. keep_was_set: so was max_slot_wal_keep_size, by us. active: WAL is to be received.
    """

    owner: str
    system: int
    image: str
    major: int
    segment_bytes: int
    keep_was_set: bool
    active: bool

    def __post_init__(self) -> None:
        """Raise ValueError for what no set-up agrees."""
        if self.segment_bytes not in (1 << power for power in range(20, 31)):
            raise ValueError("its segment_bytes is not a segment size")
        if self.image.startswith("-") or not self.owner:
            raise ValueError("its image or owner is not valid")


@dataclass(frozen=True)
class Receiver:
    """What the receiver has told last. checked: when, by the clock of this host. trouble: why it does not receive now,
    or "". base_trouble: why no base backup could be made after WAL had been lost, or "".
    """

    checked: datetime | None
    confirmed_time: datetime | None
    confirmed_lsn: str
    trouble: str = ""
    base_trouble: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for what no receiver says."""
        if (self.confirmed_lsn == "") != (self.confirmed_time is None):
            raise ValueError("it confirms a time without a position, or a position without a time")
        _ = self.confirmed

    @property
    def confirmed(self) -> Confirmed | None:
        if self.confirmed_time is None:
            return None
        return Confirmed(self.confirmed_time, wal.parse_lsn(self.confirmed_lsn))


def path_of(backup_dir: Path, directory: str) -> Path:
    """Where the archive of a database's cluster lies. directory: that of its backups in BACKUP_DIR."""
    return backup_dir / TOP / directory


def _instead(top: Path) -> str:
    """What to do where an archive is not there: others may be, of a database whose settings are lost."""
    try:
        names = sorted(each.name for each in top.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError:
        names = []
    there = f"there are archives: {', '.join(names[:5])}; use one with --archive NAME; otherwise " if names else ""
    return there + SET_UP


@contextmanager
def opened(backup_dir: Path, directory: str, *, create: bool) -> Iterator[Places]:
    """Open the archive; its directories are made if `create`. Raise NoBackup where there is none."""
    path = path_of(backup_dir, directory)
    if not create and not path.is_dir():
        raise NoBackup(f"there is no WAL archive in '{path}'", _instead(path.parent))
    with ExitStack() as stack:
        if create:
            stack.enter_context(folder.opened(path.parent, create=True))
        top = stack.enter_context(folder.opened(path, create=create))
        inner = (
            stack.enter_context(folder.opened(path / name, create=create)) for name in ("wal", "receiving", "base")
        )
        yield Places(top, *inner)


def write_state(places: Places, state: State) -> None:
    statefile.write(places.top, _STATE, state)


def read_state(places: Places) -> State | None:
    """What the set-up has agreed. Raise Unreadable: without it nothing of the archive can be understood."""
    return statefile.read(
        places.top, _STATE, State, "write it again; what is archived stays: sudo setup-wal-archiving.sh TARGET"
    )


@dataclass(frozen=True)
class _Mark:
    mark: str


def mark(places: Places) -> str:
    """What tells this archive from any other, also from one of the same cluster; made where it is missing.

    One whose file cannot be read becomes another one: its copies elsewhere begin anew then. Raise OSError.
    """
    if known := known_mark(places):
        return known
    made = _Mark(os.urandom(8).hex())
    statefile.write(places.top, _MARK, made)
    return made.mark


def known_mark(places: Places) -> str:
    """The same for who only looks: "" where it is missing or cannot be read."""
    with suppress(Unreadable):
        if known := statefile.read(places.top, _MARK, _Mark):
            return known.mark
    return ""


def origin(places: Places) -> tuple[int, int] | None:
    """The cluster that the newest segment that can be read is of, and the size of its segments; None without one."""
    for place in (places.receiving, places.wal):
        for name in sorted(place.list(), reverse=True):
            with suppress(BackupBad, OSError):
                return walfile.origin(place, name)
    return None


def write_receiver(places: Places, receiver: Receiver) -> None:
    statefile.write(places.top, _RECEIVER, receiver)


def read_receiver(places: Places) -> Receiver | None:
    """What the receiver has told last. It tells again every few seconds: a file that cannot be read tells just that."""
    try:
        return statefile.read(places.top, _RECEIVER, Receiver)
    except Unreadable as error:
        return Receiver(None, None, "", trouble=error.message)


def read_confirmed(places: Places) -> Confirmed | None:
    """Up to when and where everything is archived, as the receiver has told last."""
    receiver = read_receiver(places)
    return receiver.confirmed if receiver else None


def segments(places: Places, segment_bytes: int) -> tuple[dict[Segment, datetime], set[Segment]]:
    """Return every segment that is there, with the time when it was written last, and which of them are unfinished."""
    times: dict[Segment, datetime] = {}
    finished: set[Segment] = set()
    # In this order, for meanwhile files go from `receiving` to `wal`, and get another name in the former.
    for place in (places.receiving, places.wal, places.receiving):
        for name in place.list():
            plain = name.removesuffix(COMPRESSED)
            segment = wal.parse_segment(plain.removesuffix(wal.PARTIAL), segment_bytes)
            if segment is None or walfile.is_blank(place, name):
                continue
            with suppress(FileNotFoundError):
                written = place.status(name).st_mtime
                times[segment] = datetime.fromtimestamp(written, timezone.utc)
            if not plain.endswith(wal.PARTIAL):
                finished.add(segment)
    return times, times.keys() - finished


def wanted(places: Places, segment_bytes: int) -> Segment | None:
    """The segment with which pg_receivewal goes on: the one behind the newest finished one in `receiving`, or the
    unfinished one (pg_receivewal.c, FindStreamingStart); None where the slot or the server says it.
    """
    found = [
        Segment(segment.timeline, segment.number + (not name.endswith(wal.PARTIAL)))
        for name in places.receiving.list()
        if (segment := wal.parse_segment(name.removesuffix(wal.PARTIAL), segment_bytes))
    ]
    return max(found, key=lambda segment: (segment.number, segment.timeline), default=None)


def histories(places: Places) -> dict[int, tuple[Switch, ...]]:
    """Where each timeline comes from. Raise BackupBad, naming the file, for one of which no whole copy is there, and
    PermissionError.
    """
    found: dict[int, tuple[Switch, ...]] = {}
    damaged: dict[int, str] = {}
    for place in (places.wal, places.receiving):
        for name in place.list():
            timeline = timelines.parse_history_name(name.removesuffix(COMPRESSED))
            if timeline is None:
                continue
            try:
                data = walfile.read(place, name)
                if data is not None:
                    found[timeline] = timelines.history_of(timeline, data)
            except PermissionError:
                raise
            except (BackupBad, ValueError, OSError) as error:
                damaged[timeline] = f"'{place.path / name}' is damaged: {error}"
    for timeline, reason in damaged.items():
        if timeline not in found:
            raise BackupBad(reason, "copy an intact one there, from the server's pg_wal or from an older archive")
    return found


def hand_out(places: Places, state: State, name: str) -> bytes | None:
    """Return a segment or history file as restore_command wants it; None where there is none.

    A finished segment is preferred to an unfinished one, and is never replaced by it; a damaged file by another whole
    copy. Raise BackupBad, naming the file, where there is none, or where it is of another cluster.
    """
    segment = wal.parse_segment(name, state.segment_bytes)
    if segment is None and timelines.parse_history_name(name) is None:
        return None
    unfinished = [(places.receiving, name + wal.PARTIAL), (places.wal, name + wal.PARTIAL + COMPRESSED)]
    whole = [(places.wal, name + COMPRESSED), (places.receiving, name)]
    choices = [*whole, *(unfinished if segment else [])]
    bad = ""
    for place, file in choices * 2:  # twice, for meanwhile the receiver moves files from one place to the other
        if bad and (place, file) not in whole:
            continue
        try:
            content = None if walfile.is_blank(place, file) else walfile.read(place, file)
            if content is not None:
                _check(content, name, segment, state)
                return content
        except (BackupBad, ValueError) as error:
            bad = bad or f"'{place.path / file}' is bad: {error}"
    if bad:
        raise BackupBad(bad, "verify-backups.sh shows what else is")
    return None


def _check(content: bytes, name: str, segment: Segment | None, state: State) -> None:
    """Raise BackupBad or ValueError for what is not what its name says."""
    if segment:
        walfile.check_header(content, segment, state.system)
    elif timeline := timelines.parse_history_name(name):
        timelines.history_of(timeline, content)
