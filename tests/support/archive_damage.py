"""Damages to a WAL archive: to a segment, and to a base backup as in the test of PostgreSQL's own pg_verifybackup."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path


def _content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content, 1))


def _flip_a_record(path: Path) -> None:
    """In the first page behind the header, with a whole gzip file around it: only its own checksum can tell."""
    content = bytearray(_content(path))
    content[200:260] = bytes(60)
    _put(path, bytes(content))


def _of_another_cluster(path: Path) -> None:
    content = bytearray(_content(path))
    content[24:32] = (1234567890).to_bytes(8, "little")
    _put(path, bytes(content))


def _flip_a_bit(path: Path) -> None:
    """The first one behind the middle that matters: in a run of zeros one distance is as good as another."""
    data = path.read_bytes()
    whole = gzip.decompress(data)
    for at in range(len(data) // 2, len(data)):
        changed = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        if not _reads_as(changed, whole):
            path.write_bytes(changed)
            return
    raise AssertionError("no bit matters")


def _reads_as(data: bytes, content: bytes) -> bool:
    try:
        return gzip.decompress(data) == content
    except (OSError, EOFError, zlib.error):
        return False


SEGMENT_DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "a bit flipped": _flip_a_bit,
    "random bytes of equal length": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "random bytes, well compressed": lambda path: _put(path, os.urandom(16 << 20)),
    "another segment": lambda path: shutil.copy(sorted(path.parent.glob("*.gz"))[0], path),
    "of another cluster": _of_another_cluster,
    "a record overwritten": _flip_a_record,
    "empty": lambda path: path.write_bytes(b""),
}


def _bytes_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.isreg() else None
    return file.read() if file else b""


def _members(base: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress((base / "base.tar.gz").read_bytes()))) as tar:
        return [(member, _bytes_of(tar, member)) for member in tar]


def _rebuild(base: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """With a SHA-256 that fits, so that only the manifest can tell."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    data = gzip.compress(stream.getvalue(), 1)
    (base / "base.tar.gz").write_bytes(data)
    record = json.loads((base / "base.json").read_text())
    record["archives"]["base"] = hashlib.sha256(data).hexdigest()
    (base / "base.json").write_text(json.dumps(record))


def _change(base: Path, name: str, change: Callable[[bytes], bytes | None]) -> None:
    members = [(member, change(content) if member.name == name else content) for member, content in _members(base)]
    _rebuild(base, [(member, content) for member, content in members if content is not None])


def _extra(base: Path) -> None:
    _rebuild(base, [*_members(base), (tarfile.TarInfo("base/1/4711"), b"extra")])


def _bad_manifest(base: Path) -> None:
    path = base / "backup_manifest"
    path.write_bytes(path.read_bytes().replace(b'"Size": 3', b'"Size": 4', 1))


def _other_system(base: Path) -> None:
    record = json.loads((base / "base.json").read_text())
    (base / "base.json").write_text(json.dumps({**record, "system": 1}))


def cut(base: Path) -> None:
    path = base / "base.tar.gz"
    path.write_bytes(path.read_bytes()[:-1000])


BASE_DAMAGE: dict[str, Callable[[Path], object]] = {
    "extra file": _extra,
    "missing file": lambda base: _change(base, "PG_VERSION", lambda _content: None),
    "appended to": lambda base: _change(base, "PG_VERSION", lambda content: content + b"x"),
    "truncated": lambda base: _change(base, "global/pg_control", lambda content: content[:-1]),
    "replaced, same length": lambda base: _change(base, "PG_VERSION", lambda content: b"9" * len(content)),
    "bad manifest": _bad_manifest,
    "no manifest": lambda base: (base / "backup_manifest").unlink(),
    "another system identifier": _other_system,
    "a bit flipped": lambda base: _flip_a_bit(base / "base.tar.gz"),
    "cut off": cut,
    "archive gone": lambda base: (base / "base.tar.gz").unlink(),
}
