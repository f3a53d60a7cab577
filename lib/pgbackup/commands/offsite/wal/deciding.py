"""What of an archive goes first, and where the next part of an unfinished segment begins. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pgbackup.wal import Segment

_WHOLE_EVERY = 120  # parts of one segment, before one begins at its first byte again


@dataclass(frozen=True)
class Growing:
    """An unfinished segment at a place. copied: up to which of its bytes; parts: how many, since a whole one."""

    segment: Segment
    copied: int = 0
    parts: int = 0


def ordered(missing: Mapping[str, Segment | None], begins: int | None) -> list[str]:
    """Given the names of histories and segments, return them in the order in which they are worth most.

    begins: the segment that recovery from the newest base backup begins with. Histories, then what leads from there to
    now; then older ones, the newest first.
    """
    first = [name for name, segment in missing.items() if segment is None]
    numbered = {name: segment.number for name, segment in missing.items() if segment}
    onward = [name for name, number in numbered.items() if begins is None or number >= begins]
    older = [name for name in numbered if name not in set(onward)]
    onward.sort(key=lambda name: (numbered[name], name))
    older.sort(key=lambda name: (numbered[name], name), reverse=True)
    return [*sorted(first), *onward, *older]


def next_begin(growing: Growing | None, segment: Segment) -> int:
    """With which byte the next part of that segment begins.

    Now and then with the first one: so nothing depends on a long chain of parts.
    """
    if growing is None or growing.segment != segment or growing.parts >= _WHOLE_EVERY:
        return 0
    return growing.copied


def grown(growing: Growing | None, segment: Segment, begin: int, end: int) -> Growing:
    """What is there after a part from `begin` to `end`."""
    parts = growing.parts + 1 if growing and growing.segment == segment and begin else 1
    return Growing(segment, end, parts)
