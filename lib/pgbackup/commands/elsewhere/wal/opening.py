"""An object that was fetched is opened with a key: encrypted, compressed, and never larger than it may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pgbackup.errors import BackupBad
from pgbackup.formats import sealed
from pgbackup.formats.copies import ENCRYPTED
from pgbackup.formats.gzipped import inflated


def opened(name: str, pieces: Iterable[bytes], identities: Sequence[str]) -> Iterator[bytes]:
    """What an object of that name holds, decrypted if it is encrypted.

    Raise BackupBad, also where none of the keys opens it: that they are right was seen before.
    """
    if not name.endswith(ENCRYPTED):
        yield from pieces
        return
    try:
        yield from sealed.opened(pieces, identities)
    except sealed.WrongKey:
        raise BackupBad("the key does not open it: it was encrypted for others") from None


def unpacked(name: str, data: bytes, identities: Sequence[str], most: int) -> bytes:
    """What is in an object that is compressed, at most so many bytes. Raise BackupBad for more, and for damage."""
    content = bytearray()
    for piece in inflated(opened(name, [data], identities)):
        content += piece
        if len(content) > most:
            raise BackupBad(f"it holds more than {most:,} bytes")
    return bytes(content)
