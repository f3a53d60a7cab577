"""PostgreSQL's own manifest of a base backup, and whether tar archives hold exactly what it lists.

The rules are those of pg_verifybackup (PostgreSQL manual, pg_verifybackup; 77 Backup Manifest Format), for a base
backup that still lies in its tar archives, which that program can only read from PostgreSQL 18 on.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pgbackup.errors import BackupBad

NAME = "backup_manifest"
MAIN = "base"
CHECKSUMS = "SHA256"  # what pg_basebackup is asked for: Python has no fast CRC-32C of its own
_PIECE_BYTES = 1 << 20
_LARGEST_MANIFEST_BYTES = 1 << 30
# Listed, and yet passed over by pg_verifybackup: it may be changed by hand before the copy is started.
_PASSED_OVER = "postgresql.auto.conf"
# Not listed, or different by right: WAL comes from elsewhere, the rest says what a server is to do with the copy.
_UNLISTED = re.compile(r"(pg_wal/.*|backup_manifest|standby\.signal|recovery\.signal)")


@dataclass(frozen=True)
class Listed:
    """One file of the manifest. digest: its SHA-256 in hexadecimal digits, "" where it was not measured."""

    bytes: int
    digest: str


@dataclass(frozen=True)
class BaseManifest:
    """files: by path below the data directory. start, stop: positions (LSN) between which WAL is needed, on `timeline`.

    system: the cluster's identifier, None before PostgreSQL 17, whose manifests have it.
    """

    files: Mapping[str, Listed]
    timeline: int
    start: str
    stop: str
    system: int | None

    @property
    def sizes(self) -> dict[str, int]:
        """How large each file is, in bytes, by path."""
        return {path: file.bytes for path, file in self.files.items()}


def parse(text: bytes) -> BaseManifest:
    """Read a manifest. Raise BackupBad when it is not whole, was changed, or lists what this suite cannot check."""
    head, mark, _ = text.rpartition(b'"Manifest-Checksum"')
    try:
        held = json.loads(text)
        own = held["Manifest-Checksum"]
        (wal,) = held["WAL-Ranges"]  # one: a server that changed its timeline in the middle cannot be a base here
        files = {_path(entry): _listed(entry) for entry in held["Files"]}
        found = BaseManifest(
            files, int(wal["Timeline"]), wal["Start-LSN"], wal["End-LSN"], held.get("System-Identifier")
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BackupBad("its backup_manifest cannot be understood") from None
    if not mark or hashlib.sha256(head).hexdigest() != own:
        raise BackupBad("its backup_manifest was changed: its own checksum differs")
    if len(files) != len(held["Files"]):
        raise BackupBad("its backup_manifest lists a file twice")
    return found


def _path(entry: dict[str, Any]) -> str:
    """A path that is not UTF-8 is written in hexadecimal digits (manual, 77.2 Backup Manifest File Object)."""
    if "Path" in entry:
        return str(entry["Path"])
    return bytes.fromhex(entry["Encoded-Path"]).decode("utf-8", "surrogateescape")


def _listed(entry: dict[str, Any]) -> Listed:
    if entry["Checksum-Algorithm"] != CHECKSUMS:
        raise BackupBad(f"its backup_manifest has checksums other than {CHECKSUMS}")
    return Listed(int(entry["Size"]), str(entry["Checksum"]))


class _Stream(io.RawIOBase):
    """Pieces of bytes as a file that can only be read onwards, which is all that tarfile needs."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left, self._taken = pieces, memoryview(b""), 0
        self.content_bytes = 0  # up to the last byte that is not zero

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
            if content := piece.rstrip(b"\0"):
                self.content_bytes = self._taken + len(content)
            self._taken += len(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class Contents:
    """What tar archives were found to hold; add() each of them, then compare()."""

    def __init__(self, *, measures: bool = True) -> None:
        """measures: every file's content. Else names and sizes are compared, for whom pg_verifybackup does the rest."""
        self.manifest_text, self._measures = b"", measures
        self._found: dict[str, Listed] = {}

    def add(self, archive: str, pieces: Iterable[bytes]) -> None:
        """Read one archive to its end. archive: MAIN, or the oid of a tablespace. Raise BackupBad at damage."""
        below = "" if archive == MAIN else f"pg_tblspc/{archive}/"
        stream = _Stream(iter(pieces))
        try:
            with tarfile.open(fileobj=io.BufferedReader(stream, _PIECE_BYTES), mode="r|") as tar:
                for member in tar:
                    self._take(tar, member, below)
                end = tar.offset
        except (tarfile.TarError, EOFError):
            raise BackupBad(f"its archive '{archive}' is damaged or cut off") from None
        rest = bytearray(_PIECE_BYTES)
        while stream.readinto(rest):
            pass
        if stream.content_bytes > end:  # zeros only may follow the end of a tar archive
            raise BackupBad(f"something else follows the end of its archive '{archive}'")

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, below: str) -> None:
        path = below + member.name.removeprefix("./")
        if path.startswith("/") or ".." in path.split("/"):
            raise BackupBad(f"it holds a file outside of itself: {path!r}")
        if not member.isreg():
            return
        content = tar.extractfile(member)
        if content is None:
            raise BackupBad(f"its file {path!r} cannot be read")
        if path == NAME:
            self.manifest_text = content.read(_LARGEST_MANIFEST_BYTES)
            return
        if path in self._found:
            raise BackupBad(f"it holds the file {path!r} twice")
        measured = self._measures or path == _PASSED_OVER
        self._found[path] = _measured(content.read) if measured else Listed(member.size, "")

    def compare(self) -> BaseManifest:
        """Return the manifest that everything agrees with: manifest_text, found in an archive, or set by the caller
        where it lies beside them.

        Raise BackupBad, naming files: missing, not listed, of another size or content.
        """
        if not self.manifest_text:
            raise BackupBad("it has no backup_manifest")
        said = parse(self.manifest_text)
        both = self._found.keys() & said.files.keys()
        missing = sorted(said.files.keys() - both)
        extra = sorted(path for path in self._found.keys() - both if not _UNLISTED.fullmatch(path))
        changed = sorted(path for path in both if _differ(self._found[path], said.files[path]))
        wrong = {"lacks": missing, "has, and its manifest does not list,": extra, "has changed": changed}
        for what, paths in wrong.items():
            if paths:
                more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
                raise BackupBad(f"it {what} {', '.join(map(repr, paths[:3]))}{more}")
        return said


def _differ(found: Listed, said: Listed) -> bool:
    return found.bytes != said.bytes or found.digest not in ("", said.digest)


def _measured(read: Callable[[int], bytes]) -> Listed:
    digest, count = hashlib.sha256(), 0
    while piece := read(_PIECE_BYTES):
        digest.update(piece)
        count += len(piece)
    return Listed(count, digest.hexdigest())
