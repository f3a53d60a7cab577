"""What is to be thought of the objects at a place: each is compared with what was sent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pgbackup.formats import copies, names
from pgbackup.remotes.place import Object
from pgbackup.settings.config import Target
from pgbackup.store.offsite.index import Entry

READ, WHOLE, THERE = "read", "whole", "there"


@dataclass(frozen=True)
class Seen:
    """One copy of a backup. taken: as its name says. problem: why it is none, or "".

    state: how much is known of a good one: READ through, WHOLE by size and hash as the place says, THERE by its size,
    or that alone where this host has no index of what it sent. manual: made by hand, as its name says.
    """

    target: Target
    found: Object
    file: str
    taken: datetime
    state: str
    problem: str
    manual: bool = False


def judge(
    host: str, targets: Sequence[Target], listed: Iterable[Object], sent: Mapping[str, Entry]
) -> tuple[dict[str, list[Seen]], list[Object]]:
    """Return the copies of each target, by its name, the newest first, and the objects that are of none of them."""
    found: dict[str, list[Seen]] = {target.name: [] for target in targets}
    others = []
    shared: dict[str, list[Target]] = {}
    for target in targets:
        shared.setdefault(copies.dumps(host, target.directory), []).append(target)
    for one in listed:
        place = one.name.rpartition("/")[0]
        seen = next((seen for target in shared.get(place, ()) if (seen := _seen(place, target, one, sent))), None)
        if seen:
            found[seen.target.name].append(seen)
        else:
            others.append(one)
    for some in found.values():
        some.sort(key=lambda seen: (seen.taken, seen.found.name), reverse=True)
    return found, others


def _seen(under: str, target: Target, one: Object, sent: Mapping[str, Entry]) -> Seen | None:
    file = copies.file_in(under, one.name)
    said = names.parse(target.database, file) if file else None
    if not file or not said:
        return None
    problem = copies.implausible(said, one.modified)
    entry = sent.get(one.name)
    if not problem and entry:
        problem = difference(entry, one)
    elif not problem and sent:
        problem = "this host has not sent it"
    known = entry and any(kind in entry.hashes for kind in one.hashes)
    return Seen(target, one, file, said.taken, WHOLE if known else THERE, problem, said.manual)


def difference(entry: Entry, found: Object) -> str:
    """What of an object is not as it was sent, as far as the place says; "" for nothing."""
    if found.bytes != entry.bytes:
        return f"it has {found.bytes:,} bytes, and {entry.bytes:,} were sent"
    if any(entry.hashes.get(kind, digest) != digest for kind, digest in found.hashes.items()):
        return "its hash is not that of what was sent"
    return ""


def lost(sent: Mapping[str, Entry], there: Iterable[Object], still_here: Iterable[str]) -> list[str]:
    """The copies that were confirmed and are gone, of backups that are still here: those that expired may be gone."""
    present = {one.name for one in there}
    return [name for name in still_here if name in sent and name not in present]
