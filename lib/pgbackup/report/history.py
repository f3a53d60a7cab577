"""restore-history.jsonl: one JSON object a line for every restore, drill, backup, verification and copy.

It is only ever appended to, and may have grown for years: it is read from its end, and never further than needed.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pgbackup.descriptor import write_all
from pgbackup.errors import path_error
from pgbackup.report import redaction
from pgbackup.report.events import Event
from pgbackup.store.folder import Folder

NAME = "restore-history.jsonl"
_PIECE_BYTES = 256 << 10
_LONGEST_LINE_BYTES = 1 << 20
_MOST_BYTES = 32 << 20


def who() -> str:
    """The account that typed the command, also behind sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def writer(folder: Folder, warnings: list[str]) -> Callable[[Event], None]:
    """Return a subscriber that appends the records of events. What cannot be written is added to the warnings."""

    def write(event: Event) -> None:
        if event.record is not None:
            try:
                append(folder, event.record)
            except OSError as error:
                warnings.append(f"'{folder.path / NAME}' could not be written: {error.strerror}")

    return write


def append(folder: Folder, record: Mapping[str, Any]) -> None:
    """Append one record, in one write, without values of rows that a server has quoted. Raise OSError."""
    descriptor = folder.open(NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        folder.adopt(descriptor)
        write_all(descriptor, json.dumps(redaction.of_document(dict(record))).encode() + b"\n")
    finally:
        os.close(descriptor)


def newest(folder: Folder, wanted: Callable[[Mapping[str, Any]], bool], most: int) -> list[dict[str, Any]]:
    """Return the newest records that are wanted, newest first, at most so many; none where there is no history.

    What is no JSON object on a line of its own is passed over. Only the last 32 MB are looked at. Raise
    PermissionDenied, CannotCreate for what is no file, or IoFailed.
    """
    try:
        return _newest(folder, wanted, most)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise path_error(error, folder.path / NAME) from None


def _newest(folder: Folder, wanted: Callable[[Mapping[str, Any]], bool], most: int) -> list[dict[str, Any]]:
    descriptor = folder.open(NAME)
    found: list[dict[str, Any]] = []
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  a descriptor, not a path
        for line in _lines_from_end(file.fileno()):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and wanted(record):
                found.append(record)
                if len(found) >= most:
                    break
    return found


def _lines_from_end(descriptor: int) -> Iterator[bytes]:
    """The lines of a file, the last one first; one that is longer than any record is left out."""
    at = os.fstat(descriptor).st_size
    least, rest = max(0, at - _MOST_BYTES), b""
    while at > least:
        begin = max(least, at - _PIECE_BYTES)
        piece = os.pread(descriptor, at - begin, begin)
        if len(piece) < at - begin:
            return  # cut in this moment
        at = begin
        first, *lines = (piece + rest).split(b"\n")
        yield from reversed(lines)
        rest = first if len(first) <= _LONGEST_LINE_BYTES else b"\0"  # which no line parses with
    if not least:
        yield rest
