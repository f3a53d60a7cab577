"""Checksums of tables: of the rows as COPY writes them, whatever the pieces that the dump comes in."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st
from pgbackup.formats.content import Checksums
from pgbackup.sql.scanner import DumpScanner

ROWS = st.lists(
    st.sampled_from([b"1\ta", b"", b"\\N", b"\\\\.", b"\\.x", b"x" * 300, b"COPY t FROM stdin;"]), max_size=6
)


def checksums(text: bytes, size: int) -> dict[str, str]:
    scanner, found = DumpScanner(), Checksums()
    scanner.on_rows = found.take
    for at in range(0, len(text), size):
        scanner.feed(text[at : at + size])
    scanner.finish()
    return found.found()


def expected(rows: list[bytes]) -> str:
    text = b"".join(row + b"\n" for row in rows)
    return f"{len(text)}-{zlib.crc32(text):08x}-{zlib.adler32(text):08x}"


def copied(table: str, rows: list[bytes]) -> bytes:
    return b"COPY %b FROM stdin;\n" % table.encode() + b"".join(row + b"\n" for row in rows) + b"\\.\n\n"


@given(st.lists(ROWS, max_size=4), st.integers(1, 700))
def test_each_table_has_the_checksum_of_its_rows(tables: list[list[bytes]], size: int) -> None:
    text = b"".join(copied(f"t{number}", rows) for number, rows in enumerate(tables))
    wanted = {f"t{number}": expected(rows) for number, rows in enumerate(tables)}
    assert checksums(text, size) == wanted
    assert checksums(text, len(text) + 1) == wanted


def test_order_matters_and_one_byte_does() -> None:
    texts = [[b"1", b"2"], [b"2", b"1"], [b"1", b"3"], [b"1", b"2", b""], [b"1\n2"], []]
    assert len({checksums(copied("t", rows), 100)["t"] for rows in texts}) == 5


def test_a_table_that_several_copies_bring_has_none() -> None:
    """Loaded through their root, partitions come in an order of their own."""
    text = copied("root", [b"1"]) + copied("t", [b"1"]) + copied("root", [b"2"]) + copied("root", [b"3"])
    assert checksums(text, 7) == {"t": expected([b"1"])}
