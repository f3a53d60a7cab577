"""Up to where an unfinished segment really holds WAL: its records by their own checksums, one after the other. Pure.

A record is checked as the server does it: it names the position of the one before it, and has a CRC-32C over what
follows its header, then over the header up to the checksum (access/xlogreader.c, ValidXLogRecordHeader,
ValidXLogRecord). It is slow, and meant for one segment.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgbackup.formats.cluster import wal_records

_HEADER_BYTES, _CHECKSUM_AT, _PAGE_BYTES = 24, 20, 24
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reversed


def _table() -> list[int]:
    made = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        made.append(value)
    return made


_TABLE = _table()


def crc32c(data: bytes, before: int = 0) -> int:
    """The checksum of `data` behind what gave `before`."""
    value, table = before ^ 0xFFFFFFFF, _TABLE
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


@dataclass(frozen=True)
class Checked:
    """lsn: the end of the last record that is whole and right. torn: what follows is the beginning of another one.

    Where it is neither whole, nor torn, nor nothing, `wrong` is where something lies that is no WAL; else -1.
    """

    lsn: int
    torn: bool = False
    wrong: int = -1


def check(position: int, content: bytes, filled: int) -> Checked:
    """Given the first byte's position and the content of a segment, `filled` bytes of which are there, check it.

    The record that the segment before has begun is not checked.
    """
    pages, end = wal_records.pages_of(position, content), position + filled
    stream, at = pages.stream, wal_records.aligned(pages.rest)
    # A page that is not of this place: right where nothing has come yet, and nowhere else.
    stops = pages.lsn(len(stream))
    broken = pages.cut and stops + _PAGE_BYTES < end
    before = b""
    for limit in [*pages.restarts, len(stream)]:
        while at < limit:
            begins, total = pages.lsn(at), int.from_bytes(stream[at : at + 4], "little")
            if begins >= end or not any(stream[at : at + _HEADER_BYTES]):
                return Checked(begins)
            follows = before in (b"", stream[at + 8 : at + 16]) or begins + _HEADER_BYTES > end
            if total < _HEADER_BYTES or not follows:
                return Checked(begins, wrong=begins)
            if at + total > limit and limit < len(stream):
                break  # it was never finished, for the server crashed
            if at + total > limit or pages.lsn(at + total - 1) >= end:
                return Checked(begins, torn=not broken, wrong=begins if broken else -1)
            if not _is_right(stream[at : at + total]):
                return Checked(begins, wrong=begins)
            at, before = wal_records.aligned(at + total), begins.to_bytes(8, "little")
        before = b""
        at = max(at, limit) if limit < len(stream) else at
    return Checked(stops, wrong=stops if broken else -1)


def _is_right(record: bytes) -> bool:
    checksum = int.from_bytes(record[_CHECKSUM_AT:_HEADER_BYTES], "little")
    return crc32c(record[:_CHECKSUM_AT], crc32c(record[_HEADER_BYTES:])) == checksum
