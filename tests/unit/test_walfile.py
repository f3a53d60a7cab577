"""A segment of WAL is archived whole, and what is not what its name says is told."""

from __future__ import annotations

import gzip
import os
import random
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pgbackup import wal
from pgbackup.errors import BackupBad
from pgbackup.store import folder
from pgbackup.store.folder import Folder
from pgbackup.store.wal import segments
from pgbackup.wal import Segment

_SIZE = 1 << 20
_SYSTEM = 7_312_345_678_901_234_567
_SEGMENT = Segment(2, 0x105)
_NAME = wal.segment_name(_SEGMENT, _SIZE)


def _content(
    *, timeline: int = 2, number: int = 0x105, system: int = _SYSTEM, size: int = _SIZE, info: int = 2
) -> bytes:
    head = struct.pack("<HHIQIxxxxQII", 0xD110, info, timeline, number * size, 0, system, size, 8192)
    return head + random.Random(1).randbytes(_SIZE // 2) + bytes(_SIZE // 2 - len(head))


def _giving(*pieces: bytes) -> Callable[[], tuple[bytes, ...]]:
    return lambda: pieces


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Folder]:
    tmp_path.chmod(0o700)
    with folder.opened(tmp_path, create=True) as opened:
        yield opened


def test_the_header_is_the_one_that_postgresql_writes() -> None:
    segments.check_header(_content(), _SEGMENT, _SYSTEM)
    segments.check_header(_content(timeline=1), _SEGMENT, _SYSTEM)  # the first segment after a switch


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_content(system=1), "of another cluster"),
        (_content(number=0x106), "not what its name says"),
        (_content(timeline=3), "of timeline 3"),
        (_content(timeline=0), "of timeline 0"),
        (_content()[:-1], "1,048,575 bytes"),
        (_content() + b"x", "1,048,577 bytes"),
        (_content(size=1 << 24), "1,048,576 bytes"),
        (_content(info=0), "does not begin"),
        (bytes(_SIZE), "does not begin"),
        (random.Random(2).randbytes(_SIZE), "does not begin"),
        (b"", "cut off"),
    ],
)
def test_another_segment_is_told(content: bytes, said: str) -> None:
    with pytest.raises(BackupBad, match=said):
        segments.check_header(content, _SEGMENT, _SYSTEM)


def test_what_is_stored_is_an_ordinary_gzip_file_that_reads_back(place: Folder) -> None:
    content = _content()
    name = segments.store(place, _NAME, lambda: [content])
    raw = (place.path / name).read_bytes()
    assert name == _NAME + ".gz"
    assert gzip.decompress(raw) == content
    assert len(raw) < len(content)
    # pg_receivewal reads the size of the content from the end of the file
    assert int.from_bytes(raw[-4:], "little") == len(content)
    assert segments.read(place, name) == content
    assert (place.path / name).stat().st_mode & 0o777 == 0o600
    assert os.listdir(place.path) == [name]


def test_stored_twice_is_stored_once(place: Folder) -> None:
    segments.store(place, _NAME, lambda: [_content()])
    stored = place.path / (_NAME + ".gz")
    before = stored.stat()
    segments.store(place, _NAME, lambda: [_content()])
    after = stored.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)


def test_a_whole_one_is_never_replaced_by_another(place: Folder) -> None:
    segments.store(place, _NAME, lambda: [_content()])
    with pytest.raises(BackupBad, match="something else"):
        segments.store(place, _NAME, lambda: [_content(system=1)])
    assert segments.read(place, _NAME + ".gz") == _content()


def test_a_damaged_one_and_what_a_killed_run_left_make_way(place: Folder) -> None:
    (place.path / f"{_NAME}.gz").write_bytes(b"\x1f\x8b damaged")
    (place.path / f".{_NAME}.gz.new").write_bytes(b"half")
    segments.store(place, _NAME, lambda: [_content()])
    assert segments.read(place, _NAME + ".gz") == _content()
    assert os.listdir(place.path) == [_NAME + ".gz"]


def test_a_write_that_fails_leaves_nothing(place: Folder) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            segments.store(place, _NAME, lambda: [_content()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert os.listdir(place.path) == []


def test_what_is_not_there_is_none(place: Folder) -> None:
    assert segments.read(place, _NAME) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw[:20],
        lambda raw: b"",
        lambda raw: raw + b"\0",
        lambda raw: raw + raw,
        lambda raw: raw[:1000] + bytes([raw[1000] ^ 1]) + raw[1001:],
        lambda raw: raw[:-8] + bytes(4) + raw[-4:],
    ],
)
def test_damage_is_told(place: Folder, damage: Callable[[bytes], bytes]) -> None:
    file = place.path / segments.store(place, _NAME, lambda: [_content()])
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(BackupBad):
        segments.read(place, file.name)


def test_a_link_is_not_followed(place: Folder) -> None:
    (place.path / "elsewhere").write_bytes(_content())
    (place.path / _NAME).symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        segments.read(place, _NAME)


@pytest.mark.fault(89, "a slot dropped twice within one segment: unfinished segments of one name")
def test_of_two_unfinished_ones_the_one_that_holds_more_stays(place: Folder) -> None:
    whole = _content()
    less, more = whole[:5000] + bytes(len(whole) - 5000), whole
    partial = _NAME + ".partial"
    for first, second in ((less, more), (more, less), (more, more)):
        assert segments.store(place, partial, _giving(first)) == partial + ".gz"
        segments.store(place, partial, _giving(second[:7], second[7:]))
        assert segments.read(place, partial + ".gz") == more
        (place.path / (partial + ".gz")).unlink()
    segments.store(place, partial, lambda: [more])
    with pytest.raises(BackupBad, match=r"partial\.gz' is there and holds something else"):
        segments.store(place, partial, lambda: [_content(system=7)])


def test_the_memory_that_a_segment_takes_does_not_grow_with_it(place: Folder) -> None:
    program = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pgbackup.store import folder
from pgbackup.store.wal import segments as walfile
block = bytes(range(256)) * 4096
with folder.opened(Path(sys.argv[2]), create=False) as place:
    walfile.store(place, "0" * 23 + "1", lambda: (block for _ in range(int(sys.argv[3]))))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    used = []
    for megabytes in (16, 256):
        words = [
            sys.executable,
            "-c",
            program,
            str(Path(segments.__file__).parents[3]),
            str(place.path),
            str(megabytes),
        ]
        used.append(int(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
        (place.path / ("0" * 23 + "1.gz")).unlink()
    assert used[1] < used[0] * 1.5, f"{used} KiB"
