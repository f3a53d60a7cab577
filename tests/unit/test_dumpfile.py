"""The backup file: an ordinary gzip file that gives back, byte for byte, what was written."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pgbackup import interrupt
from pgbackup.descriptor import write_all
from pgbackup.errors import BackupBad, Interrupted
from pgbackup.formats import dumpfile, manifest

from tests.support import backup_files
from tests.support.backup_files import by_hand, contents, dump, memory_file, rejected

COPY = "CREATE TABLE public.t (x text);\n\nCOPY public.t (x) FROM stdin;\n{rows}\\.\n\n"


def check(data: bytes) -> dumpfile.Contents:
    with memory_file(data) as descriptor:
        return dumpfile.check(descriptor)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=3000), max_size=20))
def test_any_bytes_in_any_pieces_come_back_and_gunzip_agrees(pieces: list[bytes]) -> None:
    with memory_file() as descriptor:
        written = dumpfile.write_dump(descriptor, pieces, lambda _bytes: None)
        member = backup_files.whole(descriptor)
        dumpfile.append_manifest(descriptor, backup_files.facts(written))
        assert gzip.decompress(member) == b"".join(pieces)
        assert written.gzip_bytes == len(member)
        assert gzip.decompress(backup_files.whole(descriptor)).startswith(b"".join(pieces))


def test_the_guides_commands_work_on_it(tmp_path: Path) -> None:
    path = backup_files.place(tmp_path)
    assert subprocess.run(["gunzip", "-t", path], check=False).returncode == 0
    text = subprocess.run(["gunzip", "-c", path], capture_output=True, check=True).stdout
    assert text.startswith(dump())
    counted = subprocess.run(["grep", "-c", r"INSERT\|CREATE"], input=text, capture_output=True, check=True)
    assert counted.stdout == b"1\n"


def test_a_good_backup_is_good_and_says_what_it_holds() -> None:
    found = check(contents(dump()))
    assert found.manifest is not None
    assert (found.rows, found.tables, found.sql_bytes) == ({"public.users": 3}, 1, len(dump()))
    assert check(by_hand(dump())).manifest is None


@pytest.mark.parametrize("base", [1 << 20, 2 << 20, 4 << 20])
def test_sizes_around_the_readers_own_limits_are_read_to_the_end(base: int) -> None:
    """A decompressor that holds back its last bytes when its output is full must not make a good file a bad one."""
    frame = len(dump(COPY.format(rows="")))
    for size in range(base - 20, base + 20, 3):
        text = dump(COPY.format(rows="x" * (size - frame - 1) + "\n"))
        assert len(text) == size
        assert check(contents(text)).sql_bytes == size
        for level in (1, 9):
            packer = zlib.compressobj(level, zlib.DEFLATED, 31)
            assert check(packer.compress(text) + packer.flush()).sql_bytes == size


def test_members_that_others_glued_together_are_one_dump() -> None:
    text = dump()
    assert check(by_hand(text[:100]) + by_hand(text[100:])).sql_bytes == len(text)  # as `pigz -i` and `cat` do


def test_a_short_write_is_followed_by_the_rest() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, True)
    data = os.urandom(300_000)
    child = os.fork()
    if child == 0:
        os.close(reading)
        write_all(writing, data)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert file.read() == data
    assert os.waitpid(child, 0)[1] == 0


def test_progress_is_told_in_bytes_of_the_file() -> None:
    data, told = contents(dump()), list[int]()
    with memory_file(data) as descriptor:
        found = dumpfile.check(descriptor, told.append)
    assert found.manifest is not None
    assert sum(told) == found.manifest.gzip_bytes


def test_a_file_that_shrinks_while_it_is_read_is_bad() -> None:
    noise = "".join(f"{os.urandom(30).hex()}\n" for _ in range(40_000))
    with memory_file(contents(dump(COPY.format(rows=noise)))) as descriptor, pytest.raises(BackupBad):
        dumpfile.check(descriptor, lambda _bytes: os.ftruncate(descriptor, 300_000))


def test_a_signal_ends_a_check() -> None:
    with pytest.MonkeyPatch.context() as requested, memory_file(contents(dump())) as descriptor:
        requested.setattr(interrupt, "_requested", [signal.SIGTERM])
        with pytest.raises(Interrupted):
            dumpfile.check(descriptor)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"PGDMP\x01\x0e\x00" + bytes(100), "not gzip"),
        (dump(), "not gzip"),
        (by_hand(b"PGDMP\x01\x0e\x00"), "incomplete"),
        (by_hand(dump()[:-10]), "incomplete"),
        (by_hand(dump()) + bytes(512), "damaged"),
        (by_hand(dump())[:-1], "cut off"),
        (contents(dump())[:-1], "cut off"),
        (contents(dump()) + b"\n", "cut off or damaged"),
        (contents(dump(), sha256="0" * 64), "SHA-256"),
        (contents(dump(), rows={"public.users": 4}), "other rows"),
        (contents(dump(), tables=2), "other rows"),
        (contents(dump()[:-10]), "incomplete"),
        (by_hand(dump()) + manifest.encoded({"format": 9}), "format 9"),
    ],
)
def test_a_bad_file_is_rejected_with_its_reason(data: bytes, reason: str) -> None:
    assert reason in rejected(data)
