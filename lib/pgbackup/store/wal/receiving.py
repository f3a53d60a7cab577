"""What pg_receivewal has written: finished segments go from `receiving` to `wal`, and what would stop it goes."""

from __future__ import annotations

import os
from contextlib import suppress

from pgbackup import wal
from pgbackup.errors import BackupBad
from pgbackup.formats.cluster import timelines
from pgbackup.store.folder import Folder
from pgbackup.store.wal import segments as walfile
from pgbackup.store.wal.archive import Places, State
from pgbackup.store.wal.segments import COMPRESSED


def drop_blank(places: Places, segment_bytes: int) -> None:
    """Remove an unfinished segment that pg_receivewal was still filling with zeros when it was killed, and a damaged
    history file.

    It refuses to go on with the former (pg_receivewal.c, FindStreamingStart and open_walfile: 0 bytes or a whole
    segment), and fetches the latter anew where it is not there (receivelog.c, existsTimeLineHistoryFile).
    """
    for name in places.receiving.list():
        if (timeline := timelines.parse_history_name(name)) and not _is_history(places.receiving, name, timeline):
            places.receiving.remove(name)
        if wal.parse_segment(name.removesuffix(wal.PARTIAL), segment_bytes) and walfile.is_blank(
            places.receiving, name
        ):
            places.receiving.remove(name)


def put_away(places: Places, state: State, *, all_of_them: bool = False) -> None:
    """Move finished segments but the newest from `receiving` to `wal`.

    all_of_them: the newest and the unfinished one, too, for pg_receivewal is to begin anew. Raise BackupBad for one
    that is not what its name says; it stays.
    """
    if all_of_them:
        drop_blank(places, state.segment_bytes)
    names = sorted(places.receiving.list())
    finished = [name for name in names if wal.parse_segment(name, state.segment_bytes)]
    chosen = finished if all_of_them else finished[:-1]
    chosen += [name for name in names if timelines.parse_history_name(name)]
    if all_of_them:
        chosen += [name for name in names if wal.parse_segment(name.removesuffix(wal.PARTIAL), state.segment_bytes)]
    for name in dict.fromkeys(chosen):
        with suppress(FileNotFoundError):
            _put_away(places, state, name, moved=all_of_them)


def _put_away(places: Places, state: State, name: str, *, moved: bool) -> None:
    """Archive one file; a segment is then gone from `receiving`, and a history file where all is to be `moved`."""
    segment = wal.parse_segment(name.removesuffix(wal.PARTIAL), state.segment_bytes)
    begin, length = walfile.head(places.receiving, name)
    if segment:
        walfile.check_header(begin, segment, state.system, length)
    elif timeline := timelines.parse_history_name(name):
        if not _is_history(places.receiving, name, timeline):
            return  # the next receiver fetches it anew
        if not _is_history(places.wal, name + COMPRESSED, timeline):
            with suppress(FileNotFoundError):
                places.wal.remove(name + COMPRESSED)
    written = places.receiving.status(name)
    final = walfile.store(places.wal, name, lambda: walfile.pieces(places.receiving, name))
    os.utime(final, ns=(written.st_atime_ns, written.st_mtime_ns), dir_fd=places.wal.fd, follow_symlinks=False)
    if segment or moved:
        places.receiving.remove(name)


def _is_history(place: Folder, name: str, timeline: int) -> bool:
    """Whether that file is the history of that timeline; false where there is none."""
    try:
        timelines.history_of(timeline, walfile.read(place, name) or b"")
    except (BackupBad, ValueError):
        return False
    return True
