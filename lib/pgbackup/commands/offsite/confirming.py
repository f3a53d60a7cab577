"""What counts as a copy: the one rule, for backups as for WAL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from pgbackup.remotes.place import Object


def confirmed(
    found: Object, size: int, kinds: Iterable[str], ours: Callable[[str], str], content: Callable[[], Iterator[bytes]]
) -> dict[str, str] | None:
    """The hashes of what is there, as the place says or as it was read back; None where it is not what was sent.

    size: what was sent, in bytes. kinds: of the hashes that may be compared, the preferred one first; ours: gives that
    of what was sent, "sha256" at least; content: what is there. Raise what these raise.
    """
    kind = next((kind for kind in kinds if kind in found.hashes), "")
    there = found.hashes[kind] if kind else _sha256(content())
    wanted = ours(kind or "sha256")
    if (found.bytes, there) != (size, wanted):
        return None
    return {"sha256": ours("sha256")} | ({kind: wanted} if kind else {})


def _sha256(pieces: Iterator[bytes]) -> str:
    made = hashlib.sha256()
    for piece in pieces:
        made.update(piece)
    return made.hexdigest()
