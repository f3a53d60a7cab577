"""What a place refuses: tried out at set-up, with objects of its own, by what copies never do.

Each finding that is not as it should be says what to change. What is tried here is in no other part of the suite.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from pgbackup.errors import BackupBad, PermissionDenied, SuiteError
from pgbackup.remotes import transfers
from pgbackup.remotes.rclone import through_one
from pgbackup.remotes.remover import Remover

LOCKS = "locks objects"  # asked of an object store alone
_MOST_SKEW = timedelta(minutes=2)
_SECONDS = 120


@dataclass(frozen=True)
class Finding:
    """One question about a place. holds: the answer is the one that protects copies. advice: what to change, or ""."""

    question: str
    answer: str
    holds: bool
    advice: str = ""


@dataclass(frozen=True)
class Probe(Remover):
    """A place to be tried out: what copies never do has words here."""

    @through_one
    def is_object_store(self) -> bool:
        """Whether it has buckets: such a one can have versions and locks."""
        return self.in_buckets

    @through_one
    def overwrite(self, name: str, path: Path) -> None:
        """Put a file over an object. Raise SuiteError where the place refuses it."""
        source = {"srcFs": str(path.parent), "srcRemote": path.name}
        there = {"dstFs": self.root, "dstRemote": name}
        self.ask("operations/copyfile", _SECONDS, **source, **there, _config={"IgnoreTimes": True})

    @through_one
    def versions(self, directory: str) -> int:
        """How many versions of objects lie in a directory, those that were replaced or deleted included."""
        every = {"fs": transfers.with_options(self.root, {"versions": "true"}), "remote": directory}
        return len(self.ask("operations/list", _SECONDS, **every, opt={"filesOnly": True})["list"] or [])

    @through_one
    def is_locked(self, name: str) -> bool:
        """Whether the place says that an object may not be deleted."""
        said = self.ask("operations/stat", _SECONDS, fs=self.root, remote=name, opt={"metadata": True})["item"] or {}
        return bool((said.get("Metadata") or {}).get("object-lock-mode"))


def of(place: Probe, host: str, lock_days: int) -> Iterator[Finding]:
    """Try the place out, below `<host>/probe/`; a few small objects stay there. Raise SuiteError: it cannot be used."""
    with tempfile.TemporaryDirectory(prefix="pgbackup-") as directory, place.kept_open() as there:
        first, second = Path(directory, "first"), Path(directory, "second")
        first.write_bytes(secrets.token_bytes(64))
        second.write_bytes(secrets.token_bytes(65))
        below = f"{host}/probe/{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        yield from _written(there, f"{below}/object", first)
        yield from _overwritten(there, f"{below}/object", first, second)
        yield from _deleted(there, f"{below}/object", below)
        yield from _locked(there, f"{below}/locked", first, lock_days)


def _written(place: Probe, name: str, file: Path) -> Iterator[Finding]:
    before = datetime.now(timezone.utc)
    place.put(name, file, lock_days=0)
    found = place.stat(name)
    if found is None or b"".join(place.get(name)) != file.read_bytes():
        raise BackupBad(f"what was put at '{place.remote}' does not come back as it was")
    yield Finding("can write, and read it back", "yes", holds=True)
    skew = abs(found.modified - before)
    said = f"differs by {skew.total_seconds():.0f} s" if skew > _MOST_SKEW else "agrees"
    yield Finding("its clock", said, skew <= _MOST_SKEW, "" if skew <= _MOST_SKEW else "set both clocks: timedatectl")
    hashed = bool(found.hashes)
    advice = "" if hashed else "each copy is read back instead, which takes as long again"
    yield Finding("tells the hash of an object", "yes" if hashed else "no", hashed, advice)


def _overwritten(place: Probe, name: str, first: Path, second: Path) -> Iterator[Finding]:
    refused = True
    try:
        place.overwrite(name, second)
        found = place.stat(name)
        refused = found is not None and found.bytes == first.stat().st_size
    except SuiteError:
        pass
    advice = "keep old versions there (versioning, snapshots), or give this host a credential that may only add"
    yield Finding("refuses to overwrite", "yes" if refused else "no", refused, "" if refused else advice)


def _deleted(place: Probe, name: str, below: str) -> Iterator[Finding]:
    refused = True
    try:
        place.remove(name)
        refused = place.stat(name) is not None
    except SuiteError:
        pass
    advice = "take the right to delete (s3:DeleteObject, s3:DeleteObjectVersion) from this host's credential"
    if not place.is_object_store():
        advice = "let the server make snapshots that this host's account cannot reach"
    yield Finding("refuses to delete", "yes" if refused else "no", refused, "" if refused else advice)
    if place.is_object_store() and not refused:
        yield _kept(place, below)


def _kept(place: Probe, below: str) -> Finding:
    question = "keeps what was deleted (versioning)"
    try:
        kept = place.versions(below) > 0
    except PermissionDenied:
        return Finding(question, "not known", holds=False, advice="allow s3:ListBucketVersions, and set it up again")
    return Finding(question, "yes" if kept else "no", kept, "" if kept else "switch versioning on for the bucket")


def _locked(place: Probe, name: str, file: Path, lock_days: int) -> Iterator[Finding]:
    if not place.is_object_store():
        yield Finding("can lock objects", "no", holds=False, advice="only an object store can (S3 object lock)")
        return
    try:
        place.put(name, file, lock_days=1)
        locked = place.is_locked(name)
    except SuiteError:
        locked = False
    advice = "" if locked else "make the bucket with object lock, and allow s3:PutObjectRetention"
    if locked and not lock_days:
        advice = "it can, and does not: set <PLACE>_LOCK_DAYS"
    yield Finding(LOCKS, "yes" if locked else "no", locked and bool(lock_days), advice)


def policy(remote: str) -> list[str]:
    """The least that an S3 credential for copies may be allowed, and how old copies may go: lines to paste. Pure."""
    bucket, _, path = remote.partition(":")[2].strip("/").partition("/")
    under = f"{path}/" if path else ""
    allowed = [
        "s3:PutObject",
        "s3:PutObjectRetention",
        "s3:GetObjectRetention",
        "s3:GetObject",
        "s3:AbortMultipartUpload",
    ]
    statements = [
        {"Effect": "Allow", "Action": allowed, "Resource": f"arn:aws:s3:::{bucket}/{under}*"},
        {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": f"arn:aws:s3:::{bucket}"},
    ]
    rules = [
        {
            "ID": "copies go after a year",
            "Status": "Enabled",
            "Filter": {"Prefix": under},
            "Expiration": {"Days": 365},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 35},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        }
    ]
    return [
        "the policy of this host's credential: it may add and read, and neither delete nor change",
        *json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2).splitlines(),
        "the lifecycle of the bucket: the suite itself deletes nothing there",
        *json.dumps({"Rules": rules}, indent=2).splitlines(),
    ]
