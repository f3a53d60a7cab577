"""The unfinished segment at a place, put together from its parts: each must go on where the one before has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pgbackup import wal
from pgbackup.commands.elsewhere.wal import opening
from pgbackup.commands.elsewhere.wal.listing import Part, chain
from pgbackup.errors import BackupBad
from pgbackup.formats.cluster import wal_check
from pgbackup.formats.wal_copies import Series
from pgbackup.remotes.place import Object
from pgbackup.store.wal import segments as walfile
from pgbackup.store.wal.window import Confirmed
from pgbackup.wal import Segment

_MOST_REFUSED = 100
Fetch = Callable[[Sequence[Object]], Mapping[str, bytes]]


@dataclass(frozen=True)
class Grown:
    """What there is of a segment. content: padded with zeros, None where it was not looked into; arrived: its last
    part, by the place's clock. confirmed: that all commits up to then are in it.
    """

    content: bytes | None
    confirmed: Confirmed | None
    arrived: datetime


def by_names(parts: Sequence[Part]) -> Grown | None:
    """What the names of the parts promise; None where they lead nowhere. Pure."""
    found = chain(parts)
    if not found:
        return None
    last = max(found, key=lambda part: part.piece.lsn)
    confirmed = Confirmed(last.piece.time, last.piece.lsn) if last.piece.lsn else None
    return Grown(None, confirmed, found[-1].found.modified)


def by_content(
    parts: Sequence[Part],
    segment: Segment,
    series: Series,
    fetch: Fetch,
    identities: Sequence[str],
    refused: dict[str, str],
) -> Grown | None:
    """What the parts really hold; None where they lead nowhere.

    One that is damaged, or does not go on from the others, is refused, with the reason; the rest is tried without it,
    until too many were refused.
    """
    left, read = list(parts), dict[str, bytes]()
    while found := chain(left):
        missing = [part.found for part in found if part.found.name not in read]
        read |= fetch(missing)
        try:
            content, filled = _joined(found, read, identities, series)
            checked = _checked(found, segment, series, content, filled)
        except _Refused as bad:
            refused[bad.part.found.name] = bad.reason
            left.remove(bad.part)
            if len(parts) - len(left) >= _MOST_REFUSED:
                return None
            continue
        reached = checked.lsn
        sure = [part.piece for part in found if part.piece.lsn]
        last = max(sure, key=lambda piece: piece.lsn, default=None)
        confirmed = Confirmed(last.time, min(last.lsn, reached)) if last else None
        return Grown(content, confirmed, found[-1].found.modified)
    return None


class _Refused(Exception):
    def __init__(self, part: Part, reason: str) -> None:
        super().__init__(reason)
        self.part, self.reason = part, reason


def _joined(
    found: Sequence[Part], read: Mapping[str, bytes], identities: Sequence[str], series: Series
) -> tuple[bytes, int]:
    """The content of the segment, and up to which byte it is there. Raise _Refused for a part that does not fit."""
    content, filled = bytearray(series.segment_bytes), 0
    for number, part in enumerate(found):
        piece, name = part.piece, part.found.name
        try:
            data = opening.unpacked(name, read[name], identities, piece.end - piece.begin)
        except BackupBad as bad:
            raise _Refused(part, bad.message) from None
        if len(data) != piece.end - piece.begin:
            raise _Refused(part, "it does not hold what its name says")
        if content[piece.begin : filled] != data[: filled - piece.begin]:
            later = max((found[number - 1], part), key=lambda one: one.found.modified)
            raise _Refused(later, "it contradicts what was there before")
        content[piece.begin : piece.end] = data
        filled = piece.end
    return bytes(content), filled


def _checked(found: Sequence[Part], segment: Segment, series: Series, content: bytes, filled: int) -> wal_check.Checked:
    """Its records, up to where they are right. Raise _Refused for the part that came last to where they are not."""
    position = segment.number * series.segment_bytes
    try:
        walfile.check_header(content, segment, series.system)
    except BackupBad as bad:
        raise _Refused(found[0], bad.message) from None
    checked = wal_check.check(position, content, filled)
    if checked.wrong < 0:
        return checked
    behind = [part for part in found if part.piece.end > checked.wrong - position]
    last = max(behind, key=lambda part: (part.found.modified, part.piece.begin))
    raise _Refused(last, f"it holds no WAL that goes on at {wal.format_lsn(checked.wrong)}")
