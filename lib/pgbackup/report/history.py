"""restore-history.jsonl: one JSON object a line for every restore, the guide's record of restore times."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from pgbackup.formats.dumpfile import write_all
from pgbackup.report import redaction
from pgbackup.report.events import Event
from pgbackup.store.folder import Folder

NAME = "restore-history.jsonl"


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


def read(folder: Folder) -> list[dict[str, Any]]:
    """Return all records, oldest first; lines that are no JSON objects are passed over."""
    try:
        descriptor = folder.open(NAME)
    except FileNotFoundError:
        return []
    records = []
    with open(descriptor, "rb") as lines:  # noqa: PTH123  a descriptor, not a path
        for line in lines:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            records += [record] if isinstance(record, dict) else []
    return records
