"""The index of copies: a line of JSON for each object that a place confirmed, each with the hash of the line before.

It is only ever appended to. A restore never needs it; it tells what was sent from what somebody else has put there.
Parts of it lie at the place, signed: what they are, and what of them is believed, says the module of parts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pgbackup.descriptor import write_all
from pgbackup.errors import BackupBad, IoFailed
from pgbackup.store.folder import Folder

DUMPS, ALONG, WAL, BASE = "dumps", "along", "wal", "base"
FIRST = "0" * 64  # what stands for the line before the first one
_LONGEST_BYTES = 8192


@dataclass(frozen=True)
class Entry:
    """One object as it lies at the place. bytes, hashes: of that, kind to hexadecimal, sha256 always among them.

    plain_bytes: of the file that it was made from. copied: when the place confirmed it, UTC in ISO 8601.
    """

    name: str
    bytes: int
    hashes: dict[str, str]
    plain_bytes: int
    copied: str


@dataclass
class Index:
    """What was confirmed, by name; the last line for a name counts. tip: the hash of the last line."""

    entries: dict[str, Entry]
    tip: str


def file_name(stream: str) -> str:
    """The file of the objects of one kind ("dumps", "wal", …): each kind has a chain of its own."""
    return f"index-{stream}.jsonl"


def read(folder: Folder, stream: str) -> Index:
    """Read an index through; a last line that was cut off never counted. Raise BackupBad for a broken chain."""
    index = Index({}, FIRST)
    try:
        for line in _lines(folder, file_name(stream)):
            entry, before = parsed(line)
            if before != index.tip:
                raise ValueError("it does not follow the line before it")
            index.entries[entry.name] = entry
            index.tip = hashlib.sha256(line).hexdigest()
    except ValueError as error:
        path = folder.path / file_name(stream)
        raise BackupBad(
            f"the index of copies '{path}' was changed or damaged: {error}",
            f"look at it; to begin a new one: mv '{path}' '{path}.bad' (what is there already stays there)",
        ) from None
    return index


def tip(folder: Folder, stream: str) -> str:
    """The hash of the last whole line, FIRST where there is none: what comes before it is not read. Raise IoFailed."""
    try:
        descriptor = folder.open(file_name(stream))
    except FileNotFoundError:
        return FIRST
    except OSError as error:
        raise IoFailed(f"cannot read '{folder.path / file_name(stream)}': {error.strerror}") from None
    try:
        size = os.fstat(descriptor).st_size
        end = os.pread(descriptor, 2 * _LONGEST_BYTES, max(0, size - 2 * _LONGEST_BYTES))
    finally:
        os.close(descriptor)
    whole = end[: end.rfind(b"\n") + 1].splitlines()
    return hashlib.sha256(whole[-1]).hexdigest() if whole else FIRST


def _lines(folder: Folder, name: str) -> Iterator[bytes]:
    """The whole lines, without their ends."""
    try:
        descriptor = folder.open(name)
    except FileNotFoundError:
        return
    except OSError as error:
        raise IoFailed(f"cannot read '{folder.path / name}': {error.strerror}") from None
    with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor, not a path
        while line := file.readline(_LONGEST_BYTES):
            if not line.endswith(b"\n"):
                if len(line) == _LONGEST_BYTES:
                    raise ValueError("a line is longer than any")
                return
            yield line[:-1]


def parsed(line: bytes) -> tuple[Entry, str]:
    """Given a line, return what it says and the hash of the line before. Raise ValueError. Pure."""
    said = json.loads(line)
    if not isinstance(said, dict) or said.pop("version", None) != 1:
        raise ValueError("a line is not of this version")
    before = said.pop("previous", None)
    if set(said) != {field.name for field in fields(Entry)} or not isinstance(before, str):
        raise ValueError("a line has other fields than it should")
    _check_types(said)
    return Entry(**said), before


def _check_types(said: dict[str, Any]) -> None:
    texts, numbers, hashes = (said["name"], said["copied"]), (said["bytes"], said["plain_bytes"]), said["hashes"]
    right = all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers)
    if not right or not isinstance(hashes, dict) or not all(isinstance(one, str) for one in hashes.values()):
        raise ValueError("a field has a value of the wrong type")


def append(folder: Folder, stream: str, index: Index, entry: Entry) -> None:
    """Add a line and sync it; `index` then has it, too. Raise OSError: it is not counted then."""
    extend(folder, stream, index, [entry])


def extend(folder: Folder, stream: str, index: Index, entries: Sequence[Entry]) -> None:
    """Add many lines and sync them once; `index` then has them, too. Raise OSError: none is counted then."""
    lines, tip = [], index.tip
    for entry in entries:
        lines.append(json.dumps({"version": 1, **asdict(entry), "previous": tip}, separators=(",", ":")).encode())
        tip = hashlib.sha256(lines[-1]).hexdigest()
    descriptor = folder.open(file_name(stream), os.O_RDWR | os.O_CREAT)
    try:
        folder.adopt(descriptor)
        _drop_cut_line(descriptor)
        os.lseek(descriptor, 0, os.SEEK_END)
        write_all(descriptor, b"".join(line + b"\n" for line in lines))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    folder.sync()
    index.entries.update((entry.name, entry) for entry in entries)
    index.tip = tip


def lines_between(folder: Folder, stream: str, after: str, tip: str) -> list[bytes]:
    """The lines behind the one with the hash `after` up to that with the hash `tip`, without their ends.

    From the first line on where there is none of the hash `after`. Others may append meanwhile.
    """
    found: list[bytes] = []
    for line in _lines(folder, file_name(stream)):
        found.append(line)
        digest = hashlib.sha256(line).hexdigest()
        if digest == after:
            found.clear()
        if digest == tip:
            break
    return found


def _drop_cut_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _LONGEST_BYTES, max(0, size - _LONGEST_BYTES))
    if tail and not tail.endswith(b"\n"):
        os.ftruncate(descriptor, size - len(tail) + tail.rfind(b"\n") + 1)
