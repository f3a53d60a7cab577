"""A WAL archive without a server, as a receiver fills it, and its copies at a place as one sees them from outside."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import struct
import subprocess
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from pgbackup import wal
from pgbackup.formats import sealed, wal_copies
from pgbackup.formats.wal_copies import Piece, Series
from pgbackup.store import folder
from pgbackup.store.state import statefile
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal import base_backups, segments
from pgbackup.store.wal.archive import Receiver, State
from pgbackup.store.wal.base_backups import BaseBackupRecord
from pgbackup.wal import Segment

from tests.support.copies import DIRECTORY, HOST, Copier, Ended

SIZE = 1 << 20  # of a segment: the smallest that there is
SYSTEM = 7_312_345_678_901_234_567
_PAGE = 8192


def content(number: int, filled: int = SIZE, timeline: int = 1) -> bytes:
    """A segment that begins as PostgreSQL's, filled up to a byte; always the same for a number."""
    head = struct.pack("<HHIQIxxxxQII", 0xD110, 2, timeline, number * SIZE, 0, SYSTEM, SIZE, _PAGE)
    rest = random.Random(number).choices(range(1, 256), k=256) * (SIZE // 256)
    return (head + bytes(rest)[: SIZE - len(head)])[:filled].ljust(SIZE, b"\0")


def name_of(number: int, timeline: int = 1) -> str:
    return wal.segment_name(Segment(timeline, number), SIZE)


@dataclass
class Planted:
    """A copier's host with an archive. host: its copier. number: of the segment that grows; filled: up to where."""

    host: Copier
    number: int = 5
    filled: int = 0
    finished: dict[str, bytes] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.host.path / "pitr" / DIRECTORY

    def begin(self) -> Planted:
        self.host.environment["DOCKER"] = "false"  # there is no server whose roles could go along
        (self.host.path / "pitr").mkdir(mode=0o700, exist_ok=True)
        with walarchive.opened(self.host.path, DIRECTORY, create=True) as places:
            state = State("auth", SYSTEM, "sha256:1", 15, SIZE, keep_was_set=False, active=True)
            walarchive.write_state(places, state)
        return self

    def base(self, age: timedelta = timedelta(hours=1), size: int = 50_000, parent: str = "") -> str:
        """Make a base backup that begins in the segment that grows, and return its name."""
        when = datetime.now(timezone.utc).replace(microsecond=0) - age
        name = f"{when:%Y%m%dT%H%M%SZ}"
        path = self.path / "base" / name
        path.mkdir(mode=0o700)
        data = gzip.compress(random.Random(name).randbytes(size))
        (path / "base.tar.gz").write_bytes(data)
        (path / "backup_manifest").write_text(json.dumps({"PostgreSQL-Backup-Manifest-Version": 1, "of": name}))
        start = self.number * SIZE + 0x28
        record = BaseBackupRecord(
            SYSTEM, 1, wal.format_lsn(start), wal.format_lsn(start + 0x100), when, parent, "sha256:1", 15,
            {"base": hashlib.sha256(data).hexdigest()}, len(data), proven=True,
        )  # fmt: skip
        with folder.opened(path, create=False) as place:
            statefile.write(place, base_backups.RECORD, record)
        return name

    def grow(self, to: int) -> None:
        """WAL comes in up to that byte of the segment; where it is full, it is finished, and the next one begins."""
        receiving = self.path / "receiving"
        if to >= SIZE:
            data, name = content(self.number), name_of(self.number)
            (receiving / f"{name}.partial").write_bytes(data)
            (receiving / f"{name}.partial").rename(receiving / name)
            self._put_away(name)
            self.finished[name] = data
            self.number, self.filled = self.number + 1, 0
            return
        self.filled = to
        (receiving / f"{name_of(self.number)}.partial").write_bytes(content(self.number, to))
        lsn = wal.format_lsn(self.number * SIZE + to)
        now = datetime.now(timezone.utc)
        with walarchive.opened(self.host.path, DIRECTORY, create=False) as places:
            walarchive.write_receiver(places, Receiver(now, now, lsn))

    def _put_away(self, newest: str) -> None:
        """As the receiver does it: finished ones but the newest."""
        with walarchive.opened(self.host.path, DIRECTORY, create=False) as places:
            for name in places.receiving.list():
                if name != newest and not name.endswith(".partial"):
                    segments.store(places.wal, name, lambda name=name: segments.pieces(places.receiving, name))  # type: ignore[misc]
                    places.receiving.remove(name)

    # --- what is at the place

    @property
    def series(self) -> Series:
        (told,) = json.loads((self.host.own / "series.json").read_text())["archives"].values()
        found = wal_copies.parse_series(told.split(" ")[1])
        assert found
        return found

    def there(self, top: str) -> list[str]:
        """The names of the objects below `base`, `wal` or `unfinished`, from the series on."""
        above = f"{HOST}/{top}/{DIRECTORY}/"
        return [one.name.removeprefix(above) for one in self.host.place.list(f"{HOST}/{top}")]

    def opened(self, top: str, name: str) -> bytes:
        pieces = self.host.place.get(f"{HOST}/{top}/{DIRECTORY}/{name}")
        return b"".join(sealed.opened(pieces, [self.host.identity]))

    def segment(self, number: int) -> bytes:
        """A finished segment as it comes back from there."""
        return gzip.decompress(self.opened("wal", f"{self.series}/{name_of(number)}.gz.age"))

    def parts(self, number: int) -> list[tuple[Piece, bytes]]:
        """The parts of an unfinished segment as they come back from there."""
        above = f"{self.series}/{name_of(number)}/"
        found = []
        for name in self.there("unfinished"):
            if name.startswith(above):
                piece = wal_copies.parse_piece(name.removeprefix(above))
                assert piece, name
                found.append((piece, gzip.decompress(self.opened("unfinished", name))))
        return sorted(found, key=lambda pair: (pair[0].end, pair[0].begin))

    def reached(self, number: int) -> int:
        """Up to which byte a segment that is not finished can be put together from there."""
        end = 0
        for piece, data in self.parts(number):
            assert data == content(number)[piece.begin : piece.end], piece
            if piece.begin <= end:
                end = max(end, piece.end)
        return end

    def indexed(self, lane: str) -> list[str]:
        path = self.host.own / f"index-{lane}.jsonl"
        return [json.loads(line)["name"] for line in path.read_text().splitlines()] if path.exists() else []

    def problems(self) -> list[str]:
        """What is wrong with the copies of finished segments: each must be there, whole, and in the index, all once."""
        wanted = sorted(f"{self.series}/{name}.gz.age" for name in self.finished)
        found = [] if (names := sorted(self.there("wal"))) == wanted else [f"there are {names}, not {wanted}"]
        names = sorted(name.removeprefix(f"{HOST}/wal/{DIRECTORY}/") for name in self.indexed("wal"))
        found += [] if names == wanted else [f"the index has {names}, not {wanted}"]
        for name, data in self.finished.items():
            if gzip.decompress(self.opened("wal", f"{self.series}/{name}.gz.age")) != data:
                found.append(f"{name} is another there")
        left = [path.name for spool in self.host.own.glob("spool-*") for path in spool.rglob("*") if path.is_file()]
        return found + [f"{name} is left in the spool" for name in left]

    def run(self, *arguments: str, **environment: str) -> Ended:
        return self.host.run(*arguments, **environment)

    def follow(self, **environment: str) -> subprocess.Popen[str]:
        return self.host.start("copy-backups.sh", "--follow", **{"OFFSITE_WAL_SECONDS": "1", **environment})
