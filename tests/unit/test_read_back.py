"""What is read back from the disk is compared to the last byte with what was written, at once or at the end."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pgbackup.commands.read_back import Behind
from pgbackup.errors import BackupBad
from pgbackup.formats import dumpfile
from pgbackup.formats.scan import Scan

from tests.support import backup_files


def pieces(megabytes: int) -> Iterator[bytes]:
    """What cannot be compressed."""
    chance = random.Random(1)
    for _ in range(megabytes):
        yield chance.randbytes(1 << 20)


def proven(path: Path, at_once: bool, between: Callable[[int, int], object]) -> None:
    """Write a file and prove it. between(descriptor, length of the dump): what happens to it before that.

    To be read at once it is larger than what is synced and read in one go.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with Behind(descriptor, at_once=at_once) as behind:
            written = dumpfile.write_dump(
                descriptor, pieces(34 if at_once else 1), lambda _bytes: None, wrote=behind.wrote
            )
            member = dumpfile.append_manifest(descriptor, backup_files.facts(written))
            os.fsync(descriptor)
            between(descriptor, written.gzip_bytes)
            behind.prove(written, member, lambda _bytes: None)
    finally:
        os.close(descriptor)


def flipped(descriptor: int, position: int) -> None:
    os.pwrite(descriptor, bytes([os.pread(descriptor, 1, position)[0] ^ 1]), position)


DAMAGE: dict[str, Callable[[int, int], object]] = {
    "a bit of the dump": lambda descriptor, end: flipped(descriptor, end - 1000),
    "a bit of gzip's comment": lambda descriptor, _end: flipped(descriptor, 20),
    "a bit of gzip's checksum": lambda descriptor, end: flipped(descriptor, end - 8),
    "a bit of the manifest": lambda descriptor, end: flipped(descriptor, end + 40),
    "cut in the dump": lambda descriptor, end: os.ftruncate(descriptor, end - 1),
    "cut in the manifest": lambda descriptor, _end: os.ftruncate(descriptor, os.fstat(descriptor).st_size - 1),
    "a byte too many": lambda descriptor, _end: os.pwrite(descriptor, b"\0", os.fstat(descriptor).st_size),
    "a block of zeros": lambda descriptor, end: os.pwrite(descriptor, bytes(4096), end - 8192),
}


@pytest.mark.parametrize("at_once", [False, True])
def test_what_was_written_is_good(tmp_path: Path, at_once: bool) -> None:
    proven(tmp_path / "file", at_once, lambda _descriptor, _end: None)


@pytest.mark.parametrize(
    ("how", "at_once"), [*((how, False) for how in DAMAGE), ("a bit of the dump", True), ("cut in the dump", True)]
)
def test_damage_is_found(tmp_path: Path, how: str, at_once: bool) -> None:
    with pytest.raises(BackupBad):
        proven(tmp_path / "file", at_once, DAMAGE[how])


def test_what_a_sync_behind_the_writer_fails_of_ends_the_dump(tmp_path: Path) -> None:
    """A descriptor that cannot be synced stands for a disk that fails: the error comes once, and is not lost."""
    reading, writing = os.pipe()
    try:
        with Behind(writing, at_once=False) as behind, pytest.raises(OSError, match="Invalid argument"):
            behind.wrote(64 << 20)
            behind.prove(dumpfile.Written(Scan(), 0, ""), b"", lambda _bytes: None)
    finally:
        os.close(reading)
        os.close(writing)
