"""The index of copies as it lies at the place: parts that are signed, under names that are never used again.

A part holds the lines that are new since the part before it, and the signature behind them. Now and then one holds all
lines from the first one on, because a place lets old objects go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pgbackup.store.folder import Folder
from pgbackup.store.offsite import index
from pgbackup.store.offsite.index import FIRST, Entry
from pgbackup.store.state import statefile

_SIGNATURE = b"-----BEGIN SSH SIGNATURE-----\n"
# Between two that are whole. Of WAL there are many lines, and a run each five minutes: a whole one about once a day.
_MOST_PARTS = {index.DUMPS: 50, index.ALONG: 50, index.WAL: 300, index.BASE: 50}
_LONGEST = timedelta(days=30)


@dataclass(frozen=True)
class State:
    """What of a stream lies at the place. number: of the newest part; tip: the hash of its last line, "" for none.

    since: parts since the last that was whole, which was made at the moment `whole`.
    """

    number: int = 0
    tip: str = ""
    since: int = 0
    whole: datetime | None = None


def read(own: Folder, stream: str) -> State:
    """What is known; nothing where it cannot be read: then the next part is whole. Raise PermissionDenied."""
    try:
        return statefile.read(own, _state(stream), State) or State()
    except statefile.Unreadable:
        return State()


def write(own: Folder, stream: str, state: State) -> None:
    """Replace it in one step. Raise OSError."""
    statefile.write(own, _state(stream), state)


def _state(stream: str) -> str:
    return f"published-{stream}.json"


def name(stream: str, part: State) -> str:
    """The last part of the name of its object."""
    return f"{stream}-{part.number:06d}.jsonl"


def next_part(stream: str, state: State, tip: str, now: datetime) -> State | None:
    """Given the hash of the index's last line, say which part is to be made; None for none. since 0: a whole one. Pure.

    A clock that was set back makes a whole one early, and never none.
    """
    if tip in (FIRST, state.tip):
        return None
    age = now - state.whole if state.whole else None
    if age is None or not timedelta(0) <= age < _LONGEST or state.since >= _MOST_PARTS[stream]:
        return State(state.number + 1, tip, 0, statefile.to_the_second(now))
    return State(state.number + 1, tip, state.since + 1, state.whole)


def content(own: Folder, stream: str, before: State, part: State) -> bytes:
    """The lines of a part, each with its end. Raise IoFailed, ValueError for a damaged index."""
    lines = index.lines_between(own, stream, before.tip if part.since else "", part.tip)
    return b"".join(line + b"\n" for line in lines)


def split(data: bytes) -> tuple[bytes, bytes]:
    """Given a part, return its lines and its signature. Pure."""
    lines, mark, rest = data.rpartition(_SIGNATURE)
    return lines, mark + rest


def believed(parts: Iterable[tuple[str, bytes]]) -> tuple[list[Entry], list[str]]:
    """Given the lines of signed parts by name, in their order, return the entries that are to be believed. Pure.

    A line counts when it follows the very first, or another that counts. Return also the names of the parts that
    follow nothing: one before them is missing.
    """
    known, entries, loose = {FIRST}, [], []
    for name, data in parts:
        found = _followed(data, known)
        if found is None:
            loose.append((name, data))
            continue
        for digest, entry in found:
            if digest not in known:
                known.add(digest)
                entries.append(entry)
    return entries, [name for name, data in loose if _tip(data) not in known]


def reach(parts: Iterable[bytes], tip: str) -> bool:
    """Whether the lines of these parts, in their order, lead from the very first one to that of this hash. Pure."""
    known = {FIRST}
    for data in parts:
        known.update(digest for digest, _ in _followed(data, known) or ())
    return tip in known


def _followed(data: bytes, known: set[str]) -> Sequence[tuple[str, Entry]] | None:
    """The entries of a part with the hashes of their lines; None where its lines follow nothing that is known."""
    found, tip = [], ""
    for line in data.splitlines():
        try:
            entry, before = index.parsed(line)
        except ValueError:
            return None
        if before != tip and (tip or before not in known):
            return None
        tip = hashlib.sha256(line).hexdigest()
        found.append((tip, entry))
    return found


def _tip(data: bytes) -> str:
    lines = data.splitlines()
    return hashlib.sha256(lines[-1]).hexdigest() if lines else ""
