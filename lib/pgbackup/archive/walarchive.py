"""The directory of one cluster's WAL archive, BACKUP_DIR/pitr/<dir>: its parts, its state, and what it can hand out.

`receiving` is pg_receivewal's own; finished segments but the newest go from there to `wal`, compressed. The newest one
stays, for by it pg_receivewal knows where to go on. `base` has a directory for each base backup.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from pgbackup.archive import folder, wal, walfile, workfiles
from pgbackup.archive.folder import Folder
from pgbackup.archive.wal import Segment, Switch
from pgbackup.archive.walfile import COMPRESSED
from pgbackup.archive.window import Confirmed
from pgbackup.errors import BackupBad, CannotCreate, NoBackup

_Held = TypeVar("_Held")

TOP = "pitr"
SET_UP = "begin one: sudo setup-wal-archiving.sh TARGET"
_STATE, _RECEIVER = "archive.json", "receiver.json"


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


@dataclass(frozen=True)
class Receiver:
    """What the receiver has told last. checked: when. trouble: why it does not receive now, or "". base_trouble: why no
    base backup could be made after WAL had been lost, or "".
    """

    checked: str
    confirmed_time: str
    confirmed_lsn: str
    trouble: str = ""
    base_trouble: str = ""

    @property
    def confirmed(self) -> Confirmed | None:
        if not self.confirmed_lsn:
            return None
        return Confirmed(datetime.fromisoformat(self.confirmed_time), wal.parse_lsn(self.confirmed_lsn))


def path_of(backup_dir: Path, directory: str) -> Path:
    """Where the archive of a database's cluster lies. directory: that of its backups in BACKUP_DIR."""
    return backup_dir / TOP / directory


@contextmanager
def opened(backup_dir: Path, directory: str, *, create: bool) -> Iterator[Places]:
    """Open the archive; its directories are made if `create`. Raise NoBackup where there is none."""
    path = path_of(backup_dir, directory)
    if not create and not path.is_dir():
        raise NoBackup(f"there is no WAL archive in '{path}'", SET_UP)
    with ExitStack() as stack:
        if create:
            stack.enter_context(folder.opened(path.parent, create=True))
        top = stack.enter_context(folder.opened(path, create=create))
        inner = (
            stack.enter_context(folder.opened(path / name, create=create)) for name in ("wal", "receiving", "base")
        )
        yield Places(top, *inner)


def _read_json(place: Folder, name: str, kind: Callable[..., _Held]) -> _Held | None:
    path = place.path / name
    try:
        data = walfile.read(place, name)
        return None if data is None else kind(**json.loads(data))
    except PermissionError as error:
        raise folder.explained(error, path) from None
    except (ValueError, TypeError, BackupBad):
        raise CannotCreate(f"'{path}' cannot be understood", f"look at it: cat '{path}'") from None


def write_state(places: Places, state: State) -> None:
    workfiles.write_json(places.top, _STATE, asdict(state))


def read_state(places: Places) -> State | None:
    return _read_json(places.top, _STATE, State)


def write_receiver(places: Places, receiver: Receiver) -> None:
    workfiles.write_json(places.top, _RECEIVER, asdict(receiver))


def read_receiver(places: Places) -> Receiver | None:
    return _read_json(places.top, _RECEIVER, Receiver)


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
        for name in os.listdir(place.fd):
            plain = name.removesuffix(COMPRESSED)
            segment = wal.parse_segment(plain.removesuffix(wal.PARTIAL), segment_bytes)
            if segment is None or walfile.is_blank(place, name):
                continue
            with suppress(FileNotFoundError):
                written = os.stat(name, dir_fd=place.fd, follow_symlinks=False).st_mtime
                times[segment] = datetime.fromtimestamp(written, timezone.utc)
            if not plain.endswith(wal.PARTIAL):
                finished.add(segment)
    return times, times.keys() - finished


def histories(places: Places) -> dict[int, tuple[Switch, ...]]:
    """Where each timeline comes from. Raise BackupBad for a damaged file."""
    found = {}
    for place in (places.wal, places.receiving):
        for name in os.listdir(place.fd):
            timeline = wal.parse_history_name(name.removesuffix(COMPRESSED))
            if timeline is not None and (data := walfile.read(place, name)) is not None:
                try:
                    found[timeline] = wal.parse_history(data.decode("ascii", "replace"))
                except ValueError as error:
                    raise BackupBad(f"'{place.path / name}' is damaged: {error}") from None
    return found


def hand_out(places: Places, state: State, name: str) -> bytes | None:
    """Return a segment or history file as restore_command wants it; None where there is none.

    A finished segment is preferred to an unfinished one. Raise BackupBad, naming the file, where it is damaged or of
    another cluster.
    """
    segment = wal.parse_segment(name, state.segment_bytes)
    if segment is None and wal.parse_history_name(name) is None:
        return None
    unfinished = [(places.receiving, name + wal.PARTIAL), (places.wal, name + wal.PARTIAL + COMPRESSED)]
    choices = [(places.wal, name + COMPRESSED), (places.receiving, name), *(unfinished if segment else [])]
    for place, file in choices * 2:  # twice, for meanwhile the receiver moves files from one place to the other
        try:
            content = None if walfile.is_blank(place, file) else walfile.read(place, file)
            if content is not None:
                if segment:
                    walfile.check_header(content, segment, state.system)
                return content
        except BackupBad as bad:
            raise BackupBad(
                f"'{place.path / file}' is bad: {bad.message}", "verify-backups.sh tells what else is"
            ) from None
    return None


def drop_blank(places: Places, segment_bytes: int) -> None:
    """Remove an unfinished segment that pg_receivewal was still filling with zeros when it was killed.

    It refuses to go on with one (pg_receivewal.c, FindStreamingStart and open_walfile: 0 bytes or a whole segment).
    """
    for name in os.listdir(places.receiving.fd):
        if wal.parse_segment(name.removesuffix(wal.PARTIAL), segment_bytes) and walfile.is_blank(
            places.receiving, name
        ):
            os.unlink(name, dir_fd=places.receiving.fd)


def put_away(places: Places, state: State, *, all_of_them: bool = False) -> None:
    """Move finished segments but the newest from `receiving` to `wal`.

    all_of_them: the newest and the unfinished one, too, for pg_receivewal is to begin anew. Raise BackupBad for one
    that is not what its name says; it stays.
    """
    if all_of_them:
        drop_blank(places, state.segment_bytes)
    names = sorted(os.listdir(places.receiving.fd))
    finished = [name for name in names if wal.parse_segment(name, state.segment_bytes)]
    chosen = finished if all_of_them else finished[:-1]
    chosen += [name for name in names if wal.parse_history_name(name)]
    if all_of_them:
        chosen += [name for name in names if wal.parse_segment(name.removesuffix(wal.PARTIAL), state.segment_bytes)]
    for name in dict.fromkeys(chosen):
        content = walfile.read(places.receiving, name)
        if content is None:
            continue
        segment = wal.parse_segment(name.removesuffix(wal.PARTIAL), state.segment_bytes)
        if segment:
            walfile.check_header(content, segment, state.system)
        written = os.stat(name, dir_fd=places.receiving.fd, follow_symlinks=False)
        final = walfile.store(places.wal, name, content)
        os.utime(final, ns=(written.st_atime_ns, written.st_mtime_ns), dir_fd=places.wal.fd, follow_symlinks=False)
        if segment or all_of_them:
            os.unlink(name, dir_fd=places.receiving.fd)
