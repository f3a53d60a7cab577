"""What a place elsewhere can do: five words. There is no word for removing, and none for replacing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from pgbackup.errors import BackupBad, CannotCreate, IoFailed

CLOCKS_DIFFER = timedelta(hours=1)  # at most, that of a host and that of a place
_LONGEST_NAME = 900  # S3 takes 1024 bytes, the remote path included


@dataclass(frozen=True, slots=True)
class Object:
    """What a place says of one object, which may be a lie. name: below the remote path; modified: by its own clock.

    hashes: the kind ("md5", "sha1", "sha256") that the place computes to lower-case hexadecimal, where it was asked.
    """

    name: str
    bytes: int
    modified: datetime
    hashes: Mapping[str, str] = field(default_factory=dict)


class AlreadyThere(CannotCreate):
    """An object of that name is there already, and stays as it is."""


class PlaceFull(IoFailed):
    """The place has no room for it."""


def check_name(name: str) -> None:
    """Raise BackupBad for a name that could lead elsewhere."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or not name.isprintable() or len(name.encode()) > _LONGEST_NAME:
        raise BackupBad(f"{name!r} cannot be the name of an object")


class Place(Protocol):
    """A place elsewhere. Names are paths below its remote path: `host/dumps/dir/file`.

    Every word raises Unavailable for a place that is away, slow beyond a limit or failing; PermissionDenied for
    credentials that it refuses; ConfigurationError for an rclone that is not configured for it.
    """

    def kept_open(self) -> AbstractContextManager[Place]:
        """The same place for the length of the block, with one connection for all words that are said to it."""

    def hash_kind(self) -> str:
        """The kind of hash that the place tells of an object ("md5", "sha1", "sha256"), "" where it tells none."""

    def put(self, name: str, path: Path, *, lock_days: int, md5: str = "") -> None:
        """Upload a file whole, under a name that must be free. lock_days: 0, or how long the place must keep it.

        md5: of the file, in hexadecimal, where it is known already: it spares reading the file for it.
        Raise AlreadyThere, PlaceFull. What has been cut off is never there under that name.
        """

    def put_many(self, directory: Path, names: Sequence[str], *, lock_days: int) -> None:
        """Upload many small files in one go: `directory/<name>` becomes the object `<name>`.

        An object that is there already stays as it is, without an error: stat() or list() tells what is there now.
        """

    def get(self, name: str) -> Iterator[bytes]:
        """Read an object from its first to its last byte. Raise NoBackup: it is absent; IoFailed: it is cut."""

    def fetch_many(self, names: Sequence[str], directory: Path) -> None:
        """Download many objects in one go: `<name>` becomes `directory/<name>`. Raise NoBackup where one is absent."""

    def list(self, prefix: str, *, hashes: bool = False) -> list[Object]:
        """All objects in the directory `prefix` and below, by name; [] for none. Raise BackupBad: too many.

        hashes: have them too; a place may have to read every object for that.
        """

    def stat(self, name: str) -> Object | None:
        """What the place says of one object, with its hashes; None where it is absent."""

    def stat_many(self, names: Sequence[str]) -> dict[str, Object]:
        """What the place says of each of these objects, by name, with its hash; those that are absent are not in it."""
