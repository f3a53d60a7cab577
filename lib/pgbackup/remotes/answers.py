"""What rclone answers, read as if a stranger had written it: objects one by one, and the bytes of one object."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from pgbackup import interrupt, proc
from pgbackup.remotes.place import Object

_PIECE_BYTES = 1 << 20


class Failed(Exception):
    """A program failed; with what it said."""


def output(argv: Sequence[str], seconds: float) -> Iterator[bytes]:
    """What a program writes to stdout, as it comes; whoever leaves early ends it. Raise Failed, TimeoutError."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            running = proc.Program(argv, stdout=writing)
        finally:
            os.close(writing)
        with running:
            while piece := _read(running, reading):
                yield piece
            if running.wait(seconds):
                raise Failed(running.stderr)
    finally:
        os.close(reading)


def _read(running: proc.Program, reading: int) -> bytes:
    """The next piece, b"" at the end."""
    os.set_blocking(reading, False)
    while True:
        interrupt.check()
        try:
            return os.read(reading, _PIECE_BYTES)
        except BlockingIOError:
            running.pause(0.2, readable=reading)


def items(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The objects of an answer to operations/list, each as the JSON that it is: two tabs begin and end one."""
    gathered: list[bytes] = []
    for line in lines:
        if line.startswith(b"\t\t{"):
            gathered = [b"{"]
        elif line.startswith(b"\t\t}"):
            yield b"".join([*gathered, b"}"])
        elif gathered:
            gathered.append(line)


def object_of(text: bytes) -> Object | None:
    """What rclone says of one object; None for a directory, and for what is no object at all."""
    try:
        said = json.loads(text)
        if said["IsDir"]:
            return None
        # Nanoseconds, which datetime does not read; the zone is UTC or an offset.
        modified = datetime.fromisoformat(re.sub(r"\.\d+", "", said["ModTime"]).replace("Z", "+00:00"))
        hashes = {kind: digest for kind, digest in (said.get("Hashes") or {}).items() if digest}
        return Object(said["Path"], int(said["Size"]), modified, hashes)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
