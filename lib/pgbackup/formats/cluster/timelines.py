"""Timelines of WAL: what their history files say, and how far segments reach along them without a gap. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pgbackup import wal
from pgbackup.wal import SEGMENT_BYTES, Segment

_HISTORY = re.compile(r"([0-9A-F]{8})\.history")


@dataclass(frozen=True)
class Switch:
    """Where a timeline left another one: it has all of `timeline` before `lsn`, and its own from there."""

    timeline: int
    lsn: int


def parse_history_name(name: str) -> int | None:
    """Return the timeline that a file of that name is the history of; None for any other name."""
    found = _HISTORY.fullmatch(name)
    return int(found[1], 16) if found else None


def parse_history(text: str) -> tuple[Switch, ...]:
    """Given a history file, return where its timeline left each of its ancestors, oldest first. Raise ValueError.

    A line is the ancestor's timeline, the position of the switch and a reason, separated by tabs (manual, 26.3.6
    Timelines); others are empty or begin with `#`.
    """
    switches = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2 or not words[0].isdecimal():
            raise ValueError(f"not a line of a history file: {line[:80]!r}")
        switches.append(Switch(int(words[0]), wal.parse_lsn(words[1])))
    if any(
        later.timeline <= earlier.timeline or later.lsn < earlier.lsn for earlier, later in itertools.pairwise(switches)
    ):
        raise ValueError("the timelines of a history file are not in order")
    return tuple(switches)


def history_of(timeline: int, data: bytes) -> tuple[Switch, ...]:
    """Given the history file of a timeline, return what parse_history() does. Raise ValueError where it is not its."""
    switches = parse_history(data.decode("ascii", "replace"))
    if not switches or not 0 < switches[-1].timeline < timeline:
        raise ValueError(f"it does not say where timeline {timeline} comes from")
    return switches


def newest_timeline(
    begun: Segment, histories: Mapping[int, Sequence[Switch]], segment_bytes: int = SEGMENT_BYTES
) -> int:
    """Return the timeline that recovery from a base backup begun in `begun` would follow to its end.

    The newest one that comes from the base's timeline, at or after it (recovery_target_timeline = latest).
    """
    heirs = [
        timeline
        for timeline, switches in histories.items()
        for switch in switches
        if switch.timeline == begun.timeline and switch.lsn // segment_bytes >= begun.number
    ]
    return max([begun.timeline, *heirs])


def reach(
    begun: Segment,
    present: Collection[Segment],
    switches: Sequence[Switch] = (),
    timeline: int | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    unfinished: Collection[Segment] = (),
    known: Mapping[Segment, Segment] = MappingProxyType({}),
) -> Segment | None:
    """Return the last segment that can be had from `begun` on without a gap; None if not even that one is there.

    unfinished: those that are there in part, with which it ends. known: what is returned for other beginnings on the
    same way. The rest as for path().
    """
    last = None
    for found in path(begun, present, switches, timeline, segment_bytes):
        if found in known:
            return known[found]
        last = found
        if found in unfinished:
            break
    return last


def path(
    begun: Segment,
    present: Collection[Segment],
    switches: Sequence[Switch] = (),
    timeline: int | None = None,
    segment_bytes: int = SEGMENT_BYTES,
) -> Iterator[Segment]:
    """Yield the segments that are read from `begun` on, until one is not there.

    switches: the history of `timeline`, which is followed; without one it is begun's own. The segment in which
    timelines change is taken from the new one, else from the old one, as the server itself does it.
    """
    following = begun.timeline if timeline is None else timeline
    for number in itertools.count(begun.number):
        owners = _owners(number, switches, following, segment_bytes)
        found = next((Segment(owner, number) for owner in owners if Segment(owner, number) in present), None)
        if found is None:
            return
        yield found


def _owners(number: int, switches: Sequence[Switch], following: int, segment_bytes: int) -> list[int]:
    """The timelines whose file holds segment `number` on the way to `following`, the newest first."""
    owners = []
    for switch in switches:
        if switch.lsn // segment_bytes >= number:
            owners.append(switch.timeline)
            if switch.lsn // segment_bytes > number:
                break
    else:
        owners.append(following)
    return owners[::-1]
