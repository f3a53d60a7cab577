"""The index of what was copied lies at the place as well, signed: published there, and taken back after a loss."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from pgbackup.commands.offsite.one_place import Copies, Elsewhere
from pgbackup.commands.offsite.sending import Sender
from pgbackup.errors import BackupBad, IoFailed, NoBackup, Unavailable
from pgbackup.formats import copies as named
from pgbackup.store.folder import Folder
from pgbackup.store.offsite import index, parts, signing

STREAMS = (index.DUMPS, index.ALONG)
_LARGEST_BYTES = 64 << 20
_MOST_TOLD = 5


def publish(sender: Sender, streams: Sequence[str] = STREAMS) -> None:
    """Put what is new in the index at the place, signed. Where it cannot be signed, that is a warning.

    Raise what the place raises.
    """
    for stream in streams:
        before = parts.read(sender.own, stream)
        part = parts.next_part(before, index.read(sender.own, stream).tip, datetime.now(timezone.utc))
        if part is None:
            continue
        try:
            is_new, key = signing.public(sender.own) is None, signing.made(sender.own)
            lines = parts.content(sender.own, stream, before, part)
            data = lines + signing.signature(sender.own, lines)
        except (Unavailable, OSError) as error:
            sender.copies.warnings.append(f"the index of copies stays unsigned, and here: {error}")
            return
        sender.copies.verification_key = key
        if is_new:
            sender.copies.warnings.append(
                f"the index of copies is signed from now on; print its verification key: {key}"
            )
        parts.write(sender.own, stream, _put(sender, key, stream, part, data))


def _put(sender: Sender, key: str, stream: str, part: parts.State, data: bytes) -> parts.State:
    """Upload a part, under another number where its own is taken by something else; return it as it lies there."""
    host = sender.where.host
    try:
        sender.put_beside(named.index_part(host, signing.short(key), stream, part.number), data)
    except BackupBad:
        under = named.index_of(host, signing.short(key))
        taken = [named.part_number(stream, one.name) or 0 for one in sender.where.place.list(under)]
        part = parts.State(max(taken, default=0) + 1, part.tip, part.since, part.whole)
        sender.put_beside(named.index_part(host, signing.short(key), stream, part.number), data)
    return part


def take_back(where: Elsewhere, own: Folder, key: str | None, copies: Copies) -> None:
    """Learn from the index at the place what this host has sent, as far as signature and chain hold.

    key: the public half, from paper; None: the key that is still here, and only where the index is not. What is known
    here already stays as it is. Raise NoBackup where that key has signed nothing there, what the place raises.
    """
    asked = key is not None
    if key is None:
        key = None if index.read(own, index.DUMPS).entries else _own_key(own)
        if key is None:
            return
    under = named.index_of(where.host, signing.short(key))
    listed = [one for one in where.place.list(under) if one.bytes <= _LARGEST_BYTES]
    taken = 0
    for stream in STREAMS:
        numbered = {number: one.name for one in listed if (number := named.part_number(stream, one.name))}
        names = [numbered[number] for number in sorted(numbered)]
        known = index.read(own, stream)
        entries = [one for one in _believed(where, key, names, copies) if one.name not in known.entries]
        if entries:
            try:
                index.extend(own, stream, known, entries)
            except OSError as error:
                raise IoFailed(f"cannot write the index of copies in '{own.path}': {error.strerror}") from None
        taken += len(entries)
    copies.taken_back = taken
    if asked and not listed:
        raise NoBackup(
            f"there is no index of copies at '{where.offsite.name}' below '{under}'",
            "compare the key with the paper, and OFFSITE_HOST with the name of the host that is lost",
        )


def _own_key(own: Folder) -> str | None:
    try:
        return signing.public(own)
    except Unavailable:
        return None


def _believed(where: Elsewhere, key: str, names: Sequence[str], copies: Copies) -> list[index.Entry]:
    if not names:
        return []
    signed, refused = [], []
    with tempfile.TemporaryDirectory(prefix="pgbackup-") as directory:
        where.place.fetch_many(names, Path(directory))
        for name in names:
            lines, signature = parts.split(Path(directory, name).read_bytes())
            if signing.is_by(key, lines, signature):
                signed.append((name, lines))
            else:
                refused.append(f"'{name}' is not signed with that key: passed over")
    entries, loose = parts.believed(signed)
    refused += [f"'{name}' follows a part of the index that is gone: passed over" for name in loose]
    copies.warnings += refused[:_MOST_TOLD] + [f"and {len(refused) - _MOST_TOLD} more"] * (len(refused) > _MOST_TOLD)
    return entries
