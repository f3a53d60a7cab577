"""What is encrypted is opened by one of its keys and by stock age; what is not whole never looks as if it were."""

from __future__ import annotations

import io
import random
import subprocess
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from pgbackup.errors import BackupBad
from pgbackup.formats import sealed

from tests.support import stock

DATA = random.Random(1).randbytes(3 << 20)
CHUNK = (64 << 10) + 16  # as it lies in the object


@pytest.fixture(scope="module")
def key() -> tuple[str, str]:
    return sealed.new_key()


@pytest.fixture(scope="module")
def whole(key: tuple[str, str]) -> bytes:
    return sealed_bytes(DATA, key[1])


def sealed_bytes(data: bytes, *recipients: str) -> bytes:
    written = io.BytesIO()
    sealed.seal(io.BytesIO(data), written, recipients)
    return written.getvalue()


def cut(data: bytes, size: int = 100_000) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def unsealed(data: bytes, *identities: str, size: int = 100_000) -> bytes:
    return b"".join(sealed.opened(cut(data, size), identities))


@pytest.mark.parametrize("length", [0, 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, (1 << 20) + 1, len(DATA)])
def test_each_of_the_keys_alone_opens_it(length: int, key: tuple[str, str]) -> None:
    other = sealed.new_key()
    found = sealed_bytes(DATA[:length], key[1], other[1])
    for secret in (key[0], other[0]):
        assert unsealed(found, secret) == DATA[:length]
    assert unsealed(found, sealed.new_key()[0], key[0], size=7 if length < 9 else 4096) == DATA[:length]


def test_pieces_are_not_large(key: tuple[str, str], whole: bytes) -> None:
    assert max(map(len, sealed.opened(cut(whole), [key[0]]))) <= 1 << 20


def test_stock_age_opens_what_we_made(tmp_path: Path, key: tuple[str, str], whole: bytes) -> None:
    stock.need("age")
    (tmp_path / "object.age").write_bytes(whole)
    (tmp_path / "key").write_text(f"# paper\n{key[0]}\n")
    found = subprocess.run(["age", "-d", "-i", "key", "object.age"], cwd=tmp_path, capture_output=True, check=True)
    assert found.stdout == DATA


def test_we_open_what_stock_age_made(key: tuple[str, str]) -> None:
    stock.need("age")
    made = subprocess.run(["age", "-r", key[1]], input=DATA, capture_output=True, check=True).stdout
    assert unsealed(made, key[0]) == DATA


def header_bytes(whole: bytes) -> int:
    """Up to where the chunks begin: the header's last line and the 16 bytes of a nonce."""
    mac = whole.index(b"\n---")
    return whole.index(b"\n", mac + 1) + 1 + 16


def test_cut_anywhere_it_is_bad(key: tuple[str, str], whole: bytes) -> None:
    begin = header_bytes(whole)
    chances = random.Random(2)
    places = {0, 1, begin - 17, begin - 16, begin - 1, begin, begin + 1, len(whole) - 1}
    places |= {begin + CHUNK * number + step for number in range(1, 48, 9) for step in (-1, 0, 1)}
    places |= {chances.randrange(len(whole)) for _ in range(20)}
    for place in sorted(places):
        taken = 0
        with pytest.raises(BackupBad):
            for piece in sealed.opened(cut(whole[:place]), [key[0]]):
                taken += len(piece)
        assert taken < len(DATA), "all of it came out of an object that is cut off"


def test_changed_anywhere_it_is_refused(key: tuple[str, str], whole: bytes) -> None:
    chances = random.Random(3)
    begin = header_bytes(whole)
    for place in [*range(0, begin, 5), *(chances.randrange(begin, len(whole)) for _ in range(20)), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chances.randrange(7)
        with pytest.raises((BackupBad, sealed.WrongKey)):
            unsealed(bytes(damaged), key[0])


def test_chunks_that_change_places_or_come_from_another_object_are_refused(key: tuple[str, str], whole: bytes) -> None:
    begin = header_bytes(whole)
    first, second = whole[begin : begin + CHUNK], whole[begin + CHUNK : begin + 2 * CHUNK]
    rest = whole[begin + 2 * CHUNK :]
    other = sealed_bytes(DATA, key[1])
    for made in (
        whole[:begin] + second + first + rest,
        whole[:begin] + first + rest,
        whole[:begin] + first + first + second + rest,
        whole[:begin] + other[header_bytes(other) :],
        whole + b"\n",
        whole + whole,
    ):
        with pytest.raises(BackupBad):
            unsealed(made, key[0])


def test_another_key_is_told_from_damage(whole: bytes) -> None:
    with pytest.raises(sealed.WrongKey, match="none of the keys opens it"):
        unsealed(whole, sealed.new_key()[0])


@pytest.mark.parametrize("text", [b"", b"hello", DATA, b"age-encryption.org/v1\n", b"-- PostgreSQL database dump\n"])
def test_what_is_not_encrypted_is_refused(text: bytes, key: tuple[str, str]) -> None:
    with pytest.raises(BackupBad):
        unsealed(text, key[0])


def test_keys_that_are_none_are_refused_and_not_repeated(key: tuple[str, str]) -> None:
    for text in ("", "age1xyz", key[0], key[0].lower(), key[1][:-1], "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"):
        with pytest.raises(ValueError, match=r"^it is (not an age recipient|a private key)") as told:
            sealed.check_recipient(text)
        assert key[0][20:40].lower() not in str(told.value).lower()
    for text in ("", key[1], key[0][:-1], key[0][:-1] + "x"):
        with pytest.raises(ValueError, match="not a private age key") as told:
            sealed.recipient_of(text)
        assert key[0][20:40] not in str(told.value)
    assert sealed.recipient_of(key[0]) == key[1]


def test_for_nobody_nothing_is_encrypted(key: tuple[str, str]) -> None:
    for recipients in ((), (key[1], "age1xyz"), (key[0],)):
        written = io.BytesIO()
        with pytest.raises(ValueError, match=r"it is|nobody"):
            sealed.seal(io.BytesIO(DATA), written, recipients)
        assert not written.getvalue()


def test_a_file_of_keys_is_read_as_age_reads_it(key: tuple[str, str]) -> None:
    text = f"# created: 2024-01-15\n# public key: {key[1]}\r\n\n  {key[0]} \n"
    assert sealed.keys_in(text) == [key[0]]


class Broken(io.RawIOBase):
    """A file that fails after so many bytes, and takes and gives a little at a time."""

    def __init__(self, after: int, error: Exception) -> None:
        self.left, self.error = after, error

    def read(self, size: int = -1) -> bytes:
        return b"x" * self._some(size)

    def write(self, data: Any) -> int:
        return self._some(len(data))

    def _some(self, size: int) -> int:
        if self.left <= 0:
            raise self.error
        size = min(size, 1000)
        self.left -= size
        return size


def test_what_reading_and_writing_raise_comes_through(key: tuple[str, str], whole: bytes) -> None:
    full = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left") as told:
        sealed.seal(io.BytesIO(DATA), cast(BinaryIO, Broken(500_000, full)), [key[1]])
    assert told.value is full
    gone = BackupBad("it became shorter while it was read")
    with pytest.raises(BackupBad) as bad:
        sealed.seal(cast(BinaryIO, Broken(500_000, gone)), io.BytesIO(), [key[1]])
    assert bad.value is gone

    def away() -> Iterator[bytes]:
        yield whole[:1_500_000]
        raise gone

    with pytest.raises(BackupBad) as bad:
        list(sealed.opened(away(), [key[0]]))
    assert bad.value is gone


def test_who_stops_taking_leaves_no_thread_behind(key: tuple[str, str], whole: bytes) -> None:
    before = threading.active_count()
    taking: Any = sealed.opened(cut(whole), [key[0]])
    next(taking)
    taking.close()
    assert threading.active_count() == before


def test_memory_does_not_grow_with_the_object(key: tuple[str, str]) -> None:
    def much(pieces: int) -> Iterable[bytes]:
        return (DATA[:1_000_000] for _ in range(pieces))

    class Counted(io.RawIOBase):
        def write(self, data: Any) -> int:
            return len(data)

    class Given(io.RawIOBase):
        def __init__(self) -> None:
            self.left = 100 << 20

        def read(self, size: int = -1) -> bytes:
            size = min(size, self.left)
            self.left -= size
            return b"\0" * size

    tracemalloc.start()
    try:
        sealed.seal(cast(BinaryIO, Given()), cast(BinaryIO, Counted()), [key[1]])
        objects = sealed_bytes(DATA * 10, key[1])
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        assert sum(map(len, sealed.opened(cut(objects), [key[0]]))) == len(DATA) * 10
        assert tracemalloc.get_traced_memory()[1] - held < 10 << 20
    finally:
        tracemalloc.stop()
