"""gzip's compression by Intel's ISA-L, at eight times the speed of the standard library's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from pgbackup import interrupt
from pgbackup.errors import BackupBad

deflate: ModuleType
try:
    from isal import isal_zlib as deflate

    LEVEL = 1
except ImportError:  # no wheel for this machine: the standard library makes the same files, more slowly
    import zlib as deflate

    LEVEL = 6

Damaged: Any = deflate.error
RAW_DEFLATE, GZIP = -15, 31  # kinds of stream, as zlib's `wbits` names them

# Deflate can make a thousand bytes of one: what comes out at once is limited, too.
_INFLATED_BYTES = 1 << 20


def inflated(blocks: Iterable[bytes], *, several: bool = False) -> Iterator[bytes]:
    """Yield what gzip data holds, in pieces of at most 1 MiB.

    several: members, one behind the other, as gzip allows it. Raise BackupBad, at the latest at the end, for damage,
    for data that is cut off and for anything else behind its end; Interrupted on a signal.
    """
    inflater, position, begun = deflate.decompressobj(wbits=GZIP), 0, False
    for block in blocks:
        data, position = block, position + len(block)
        while data:
            interrupt.check()
            if inflater.eof:
                if not several:
                    raise BackupBad(f"something else follows its end, before byte {position:,}")
                inflater = deflate.decompressobj(wbits=GZIP)
            try:
                piece = inflater.decompress(data, _INFLATED_BYTES)
            except Damaged:
                what = "it is damaged" if begun else "it is not gzip data, or damaged"
                raise BackupBad(f"{what}, before byte {position:,}") from None
            begun = begun or bool(piece)
            yield piece
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if not inflater.eof:
        raise BackupBad("it is cut off in the middle of the compressed data" if position else "it is empty")
