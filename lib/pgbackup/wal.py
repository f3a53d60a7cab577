"""Positions in WAL, and the names of its segments. Pure.

A position (LSN) is a byte number in the stream of WAL. The stream is cut into segments of one size, 16 MiB unless
initdb was told otherwise, and each lies in a file named after its timeline and number (PostgreSQL manual, 30.6 WAL
Internals).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SEGMENT_BYTES = 16 << 20
PARTIAL = ".partial"
_NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_BYTES_PER_LOG = 1 << 32


@dataclass(frozen=True, order=True)
class Segment:
    """timeline: from 1. number: of the segment in the stream, its first byte divided by the size of a segment."""

    timeline: int
    number: int


def parse_lsn(text: str) -> int:
    """Given a position as PostgreSQL writes it, 0/3018BE8, return its byte number. Raise ValueError."""
    found = _LSN.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not an LSN")
    return (int(found[1], 16) << 32) | int(found[2], 16)


def format_lsn(lsn: int) -> str:
    """The position as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def segment_at(lsn: int, timeline: int, segment_bytes: int = SEGMENT_BYTES) -> Segment:
    """The segment that holds the byte at `lsn`."""
    return Segment(timeline, lsn // segment_bytes)


def segment_name(segment: Segment, segment_bytes: int = SEGMENT_BYTES) -> str:
    """The name of the segment's file."""
    high, low = divmod(segment.number, _BYTES_PER_LOG // segment_bytes)
    return f"{segment.timeline:08X}{high:08X}{low:08X}"


def parse_segment(name: str, segment_bytes: int = SEGMENT_BYTES) -> Segment | None:
    """Return the segment that a complete file of that name holds; None for any other name."""
    found = _NAME.fullmatch(name)
    if not found:
        return None
    timeline, high, low = (int(group, 16) for group in found.groups())
    per_log = _BYTES_PER_LOG // segment_bytes
    if timeline == 0 or low >= per_log:
        return None
    return Segment(timeline, high * per_log + low)
