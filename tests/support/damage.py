"""Damages a backup file in every way it is told and says which damages its check did not find.

Run as a program, in a process of its own for each processor:
`python tests/support/damage.py FILE KIND SEED COUNT [STEP OFFSET] [--without-isal]`; it prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

BLOCK_BYTES = 4096


@dataclass(frozen=True)
class Damage:
    """From `offset` on the file holds `data` instead; with `length` it ends there."""

    what: str
    offset: int
    data: bytes = b""
    length: int | None = None


def every_bit(original: bytes) -> Iterator[Damage]:
    for bit in range(len(original) * 8):
        yield _flip(original, bit)


def random_bits(original: bytes, seed: int) -> Iterator[Damage]:
    source = random.Random(seed)
    while True:
        yield _flip(original, source.randrange(len(original) * 8))


def _flip(original: bytes, bit: int) -> Damage:
    return Damage(f"bit {bit} flipped", bit // 8, bytes([original[bit // 8] ^ 1 << bit % 8]))


def blocks(original: bytes, seed: int) -> Iterator[Damage]:
    """Blocks of a disk zeroed, swapped with another, written over their neighbour, there twice, missing; endlessly."""
    source = random.Random(seed)
    count = -(-len(original) // BLOCK_BYTES)
    while True:
        at, other = (source.randrange(count) * BLOCK_BYTES for _ in range(2))
        one, two = original[at : at + BLOCK_BYTES], original[other : other + BLOCK_BYTES]
        yield Damage(f"block at {at} zeroed", at, bytes(len(one)))
        yield Damage(f"block at {at} written at {other} too", other, one[: len(two)])
        between = original[min(at, other) + BLOCK_BYTES : max(at, other)]
        if at != other:
            swapped = (two + between + one) if at < other else (one + between + two)
            yield Damage(f"blocks at {at} and {other} swapped", min(at, other), swapped)
        yield Damage(f"block at {at} there twice", at, one + original[at:])
        rest = original[at + BLOCK_BYTES :]
        yield Damage(f"block at {at} missing", at, rest, length=at + len(rest))


def every_length(original: bytes) -> Iterator[Damage]:
    for length in range(len(original)):
        yield Damage(f"cut to {length} bytes", length, length=length)


def random_lengths(original: bytes, seed: int) -> Iterator[Damage]:
    source = random.Random(seed)
    while True:
        length = source.randrange(len(original))
        yield Damage(f"cut to {length} bytes", length, length=length)


def edges(original: bytes, gzip_bytes: int) -> Iterator[Damage]:
    """Cut around the members' edges, the blocks of the disk and of the reader, and the marker at the dump's end."""
    size = len(original)
    reader = range(0, size, 256 << 10)
    places = {0, 10, 18, 20, 40, gzip_bytes - 8, gzip_bytes, gzip_bytes + 10, gzip_bytes + 15, size - 8, size, *reader}
    places |= {place // BLOCK_BYTES * BLOCK_BYTES for place in places}
    lengths = {place + near for place in places for near in range(-3, 4)}
    # The marker's text lies, compressed, in the last bytes of the first member; the manifest's behind it.
    lengths |= set(range(gzip_bytes - 300, gzip_bytes + 100)) | set(range(size - 100, size))
    for length in sorted(length for length in lengths if 0 <= length < size):
        yield Damage(f"cut to {length} bytes", length, length=length)


def tails(original: bytes, seed: int) -> Iterator[Damage]:
    """Something behind the end: zeros, noise, text, the beginning of the file, an empty member."""
    source = random.Random(seed)
    size = len(original)
    for length in (1, 2, 4, 8, 511, 512, BLOCK_BYTES, 70_000):
        yield Damage(f"{length} zeros behind", size, bytes(length))
        yield Damage(f"{length} random bytes behind", size, source.randbytes(length))
        yield Damage(f"{length} newlines behind", size, b"\n" * length)
        yield Damage(f"the first {length} bytes again", size, original[:length])
    yield Damage("an empty gzip member behind", size, bytes.fromhex("1f8b08000000000000ff0300000000 0000000000"))


def damages(kind: str, original: bytes, seed: int, gzip_bytes: int) -> Iterator[Damage]:
    """The damages of that kind that really change the file."""
    found = {
        "every-bit": lambda: every_bit(original),
        "random-bits": lambda: random_bits(original, seed),
        "blocks": lambda: blocks(original, seed),
        "every-length": lambda: every_length(original),
        "random-lengths": lambda: random_lengths(original, seed),
        "edges": lambda: edges(original, gzip_bytes),
        "tails": lambda: tails(original, seed),
    }[kind]()
    return (one for one in found if one.length is not None or not original.startswith(one.data, one.offset))


def missed(original: bytes, told: Iterable[Damage], check: Callable[[int], object]) -> tuple[int, list[str]]:
    """Return how many damages were tried, and which of them check(descriptor) did not answer with BackupBad."""
    from pgbackup.errors import BackupBad

    tried, found = 0, []
    descriptor = os.memfd_create("damaged")
    os.pwrite(descriptor, original, 0)
    for damage in told:
        if damage.data:
            os.pwrite(descriptor, damage.data, damage.offset)
        if damage.length is not None:
            os.ftruncate(descriptor, damage.length)
        tried += 1
        try:
            check(descriptor)
            found.append(damage.what)
        except BackupBad:
            pass
        except Exception as error:  # noqa: BLE001  a crash is no answer
            found.append(f"{damage.what}: {error!r}")
        end = len(original) if damage.length is not None else damage.offset + len(damage.data)
        os.pwrite(descriptor, original[damage.offset : end], damage.offset)
        os.ftruncate(descriptor, len(original))
    check(descriptor)  # put right again it is good, so it was the damage that was found
    os.close(descriptor)
    return tried, found


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("kind")
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int, help="how many at most")
    parser.add_argument("step", type=int, nargs="?", default=1, help="only each so manieth")
    parser.add_argument("offset", type=int, nargs="?", default=0)
    parser.add_argument("--without-isal", action="store_true")
    given = parser.parse_args(arguments)
    if given.without_isal:
        sys.modules["isal"] = None  # type: ignore[assignment]
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))
    from pgbackup.formats import dumpfile, gzipped, manifest

    original = given.file.read_bytes()
    with given.file.open("rb") as file:
        found = manifest.read(file.fileno(), len(original))
    gzip_bytes = found[0].gzip_bytes if found else len(original)
    told = islice(damages(given.kind, original, given.seed, gzip_bytes), given.offset, None, given.step)
    tried, escaped = missed(original, islice(told, given.count), dumpfile.check)
    print(json.dumps({"module": gzipped.deflate.__name__, "tried": tried, "missed": escaped}))


if __name__ == "__main__":
    main(sys.argv[1:])
