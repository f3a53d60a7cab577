"""A checksum of each table's rows, taken while a dump flows by: equal counts do not mean equal rows.

Against accidents, not against forgers, whom the dump's SHA-256 is for: of CRC-32 and Adler-32, 64 bits together, ISA-L
does some 10 GB a second, a tenth of what SHA-256 or BLAKE2 would cost beside the compression.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from pgbackup.formats.gzipped import deflate

_MASK = (1 << 128) - 1


class Checksums:
    """Takes what the scanner's on_rows is called with. found(): table, as COPY spells it -> checksum.

    Of what `COPY table (columns) TO STDOUT` writes, every row with its newline, in the order of the dump:
    `<bytes>-<CRC-32>-<Adler-32>`. A table that more than one COPY brings, as with --load-via-partition-root, is left
    out: there is no such order then.
    """

    def __init__(self) -> None:
        self._found: dict[str, str] = {}
        self._several: set[str] = set()
        self._start()

    def _start(self) -> None:
        self._bytes, self._crc, self._adler = 0, 0, 1

    def take(self, table: str, data: memoryview | None) -> None:
        """Take more of a table's rows, or None at their end. Each row comes with the newline before it."""
        if data is None:
            self._end(table)
        elif data:
            self._add(data if self._bytes else data[1:])
            self._bytes += len(data)

    def _add(self, data: memoryview | bytes) -> None:
        self._crc = deflate.crc32(data, self._crc)
        self._adler = deflate.adler32(data, self._adler)

    def _end(self, table: str) -> None:
        if self._bytes:
            self._add(b"\n")
        if table in self._found:
            self._several.add(table)
        self._found[table] = f"{self._bytes}-{self._crc:08x}-{self._adler:08x}"
        self._start()

    def found(self) -> dict[str, str]:
        """Return the checksums of all tables whose rows have come to their end."""
        return {table: found for table, found in self._found.items() if table not in self._several}


class RowSums:
    """Takes what the scanner's on_rows is called with. sums: table -> a checksum of its rows, whatever their order."""

    def __init__(self, tables: Collection[str]) -> None:
        """tables: those that matter."""
        self.sums = dict.fromkeys(tables, 0)
        self._rest: bytes | None = None  # of a row that goes on; None before the first one

    def take(self, table: str, data: memoryview | None) -> None:
        """Take more of a table's rows, or None at their end. Each row comes with the newline before it."""
        if table not in self.sums:
            return
        if data is None:
            if self._rest is not None:
                self._add(table, self._rest)
            self._rest = None
        elif data:
            first, *more = bytes(data).split(b"\n")
            if self._rest is not None and more:
                self._add(table, self._rest + first)
            for row in more[:-1]:
                self._add(table, row)
            self._rest = more[-1] if more else (self._rest or b"") + first

    def _add(self, table: str, row: bytes) -> None:
        digest = hashlib.blake2b(row, digest_size=16).digest()
        self.sums[table] = (self.sums[table] + int.from_bytes(digest, "big")) & _MASK
