"""The index of what was copied lies at the place as well, signed: published there, and taken back after a loss."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from pgbackup.commands.offsite.confirming import confirmed
from pgbackup.commands.offsite.one_place import Copies, Elsewhere
from pgbackup.errors import BackupBad, IoFailed, LockHeld, NoBackup, Unavailable
from pgbackup.formats import copies as named
from pgbackup.remotes.place import Object, Place
from pgbackup.store import lock
from pgbackup.store.folder import Folder
from pgbackup.store.offsite import index, parts, signing

STREAMS = (index.DUMPS, index.ALONG, index.WAL, index.BASE)
_OF_A_RUN = (index.DUMPS, index.ALONG)  # of the others, who copies them has a lock
_KINDS = ("md5", "sha256", "sha1")  # of hashes that a place may tell
_LARGEST_BYTES = 64 << 20
_MOST_TOLD = 5


def publish(where: Elsewhere, own: Folder, copies: Copies) -> None:
    """Put what is new in the index at the place, signed. Where it cannot be signed, that is a warning.

    Of each stream that is one part for all that has come since the last time, however many objects that are. Raise what
    the place raises.
    """
    now, new = datetime.now(timezone.utc), {}
    for stream in STREAMS:
        before = parts.read(own, stream)
        if part := parts.next_part(stream, before, index.tip(own, stream), now):
            new[stream] = (before, part)
    if not new:
        return
    try:
        is_new, key = signing.public(own) is None, signing.made(own)
        signed = {stream: (part, _signed(own, stream, before, part)) for stream, (before, part) in new.items()}
    except (Unavailable, OSError) as error:
        copies.warnings.append(f"the index of copies stays unsigned, and here: {error}")
        return
    copies.verification_key = key
    if is_new:
        copies.warnings.append(f"the index of copies is signed from now on; print its verification key: {key}")
    for stream, part in _put(where, key, signed).items():
        parts.write(own, stream, part)


def _signed(own: Folder, stream: str, before: parts.State, part: parts.State) -> bytes:
    lines = parts.content(own, stream, before, part)
    return lines + signing.signature(own, lines)


def _put(where: Elsewhere, key: str, signed: Mapping[str, tuple[parts.State, bytes]]) -> dict[str, parts.State]:
    """Upload parts, under another number where their own is taken by something else; return them as they lie there."""
    under = named.index_of(where.host, signing.short(key))
    there = {stream: part for stream, (part, _) in signed.items()}
    others = _upload(where, under, {parts.name(stream, part): signed[stream][1] for stream, part in there.items()})
    if not others:
        return there
    taken = [one.name for one in where.place.list(under)]
    for stream, part in there.items():
        if parts.name(stream, part) in others:
            newest = max((named.part_number(stream, name) or 0 for name in taken), default=0)
            there[stream] = replace(part, number=newest + 1)
    again = {parts.name(stream, part): signed[stream][1] for stream, part in there.items()}
    if others := _upload(where, under, again):
        raise BackupBad(f"something else lies at '{where.offsite.name}' as '{under}/{others[0]}'")
    return there


def _upload(where: Elsewhere, under: str, files: Mapping[str, bytes]) -> list[str]:
    """Put small files there, all at once; return those under whose name something else lies. Raise IoFailed."""
    names = {f"{under}/{file}": file for file in files}
    with tempfile.TemporaryDirectory(prefix="pgbackup-") as directory:
        for name, file in names.items():
            path = Path(directory, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[file])
        where.place.put_many(Path(directory), list(names), lock_days=where.offsite.lock_days)
    found = where.place.stat_many(list(names))
    if missing := [name for name in names if name not in found]:
        raise IoFailed(f"'{missing[0]}' is not at '{where.offsite.name}' after its upload", "it is tried again")
    return [file for name, file in names.items() if not _is(where, found[name], files[file])]


def _is(where: Elsewhere, found: Object, data: bytes) -> bool:
    def ours(kind: str) -> str:
        return hashlib.new(kind, data, usedforsecurity=False).hexdigest()

    return confirmed(found, len(data), _KINDS, ours, lambda: where.place.get(found.name)) is not None


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
        believed = _believed(where, key, _names(stream, listed), copies)
        try:
            with nullcontext() if stream in _OF_A_RUN else lock.held(own, stream):
                taken += _learn(own, stream, believed)
        except LockHeld:
            stop = "sudo systemctl stop postgres-offsite-wal.service"
            copies.warnings.append(f"the index of {stream} is not taken back while it is copied: {stop}, and once more")
    copies.taken_back = taken
    if asked and not listed:
        raise NoBackup(
            f"there is no index of copies at '{where.offsite.name}' below '{under}'",
            "compare the key with the paper, and OFFSITE_HOST with the name of the host that is lost",
        )


def _names(stream: str, listed: Iterable[Object]) -> list[str]:
    """The parts of a stream, in their order."""
    numbered = {number: one.name for one in listed if (number := named.part_number(stream, one.name))}
    return [numbered[number] for number in sorted(numbered)]


def _learn(own: Folder, stream: str, believed: Iterable[index.Entry]) -> int:
    """Write into the index what is not in it yet; return how much that was."""
    known = index.read(own, stream)
    entries = [one for one in believed if one.name not in known.entries]
    if entries:
        try:
            index.extend(own, stream, known, entries)
        except OSError as error:
            raise IoFailed(f"cannot write the index of copies in '{own.path}': {error.strerror}") from None
    return len(entries)


def differences(place: Place, host: str, own: Folder) -> list[str]:
    """What of the index there does not lead to what this host has signed last. Nothing where it has signed none.

    Raise what the place raises.
    """
    key = _own_key(own)
    if key is None:
        return []
    under, told = named.index_of(host, signing.short(key)), []
    listed = [one for one in place.list(under) if one.bytes <= _LARGEST_BYTES]
    for stream in STREAMS:
        known = parts.read(own, stream)
        names = [name for name in _names(stream, listed) if (named.part_number(stream, name) or 0) <= known.number]
        # Since the last whole one; if something else lies among them, all.
        tries = (names[-known.since - 1 :], names)
        if known.tip and not any(parts.reach(dict(_signed_by(place, key, some)).values(), known.tip) for some in tries):
            told.append(f"the signed index of {stream} in '{under}' does not lead to what was copied: changed, or gone")
    return told


def _own_key(own: Folder) -> str | None:
    try:
        return signing.public(own)
    except Unavailable:
        return None


def _believed(where: Elsewhere, key: str, names: Sequence[str], copies: Copies) -> list[index.Entry]:
    if not names:
        return []
    signed = _signed_by(where.place, key, names)
    refused = [f"'{name}' is not signed with that key: passed over" for name in names if name not in dict(signed)]
    entries, loose = parts.believed(signed)
    refused += [f"'{name}' follows a part of the index that is gone: passed over" for name in loose]
    copies.warnings += refused[:_MOST_TOLD] + [f"and {len(refused) - _MOST_TOLD} more"] * (len(refused) > _MOST_TOLD)
    return entries


def _signed_by(place: Place, key: str, names: Sequence[str]) -> list[tuple[str, bytes]]:
    """Fetch parts; return the names and lines of those that are signed with that key."""
    if not names:
        return []
    with tempfile.TemporaryDirectory(prefix="pgbackup-") as directory:
        place.fetch_many(names, Path(directory))
        split = [(name, *parts.split(Path(directory, name).read_bytes())) for name in names]
    return [(name, lines) for name, lines, signature in split if signing.is_by(key, lines, signature)]
