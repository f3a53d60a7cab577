"""The one driver: rclone reaches S3, SFTP, WebDAV and seventy more kinds of places.

Facts that it is built on, each seen with rclone 1.60.1 (Debian 12) and 1.75.2:
`--immutable` does not keep a single file from being overwritten (rclone#4921). `--header-upload 'If-None-Match: *'`
does on S3, in one part or many; rclone before 1.72 says that it does not know the header, uploads all the same and
ends with 0. `--s3-object-lock-mode` is there from 1.74 on. `cat` of an absent S3 object ends with 0 and says nothing.
A start takes about 50 ms, a connection by SSH half a second: many small files go in one process.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pgbackup import interrupt, proc
from pgbackup.errors import BackupBad, IoFailed, NoBackup, SuiteError, Unavailable
from pgbackup.remotes import program, refusals
from pgbackup.remotes.place import AlreadyThere, Object

_HIDDEN = ".upload"  # where an upload lies until it is whole: under the same name each time, so that nothing adds up
_MOST_OBJECTS = 200_000
_LONGEST_NAME = 900  # S3 takes 1024 bytes, the remote path included
_ANSWER_SECONDS = 120
_LIST_SECONDS = 600
_TRANSFER_SECONDS = 7 * 86400  # a first copy through a narrow line; rclone gives up by itself when nothing moves
_STAT_SECONDS = 6 * 3600  # a NAS reads the whole object to tell its hash
_KINDS = ("md5", "sha256", "sha1")
_PIECE_BYTES = 1 << 20
_QUIET = (
    "--ask-password=false",
    "--contimeout=20s",
    "--timeout=120s",  # without a byte moved
    "--retries=1",
    "--low-level-retries=3",
    "--buffer-size=4Mi",
    "--use-server-modtime",  # what the place's own clock says, not what an uploader has claimed
    "--s3-no-check-bucket",  # never make a bucket
    "--stats=0",
)


@dataclass(frozen=True)
class Rclone:
    """A Place that rclone reaches. remote: `name:path` of the configuration file `config`; program: the host's rclone.

    bandwidth: as for --bwlimit, with hours if wanted. Nothing is asked or read before the first word.
    """

    remote: str
    config: Path
    bandwidth: str = ""
    program: str = "rclone"

    def put(self, name: str, path: Path, *, lock_days: int) -> None:
        where = self._at(name)
        if self.stat(name):
            raise AlreadyThere(f"'{where}' is there already")
        if not self._renames:
            self._transfer("copyto", str(path), where, *self._kept(lock_days), name=name)
            return
        hidden = self._at(f"{_HIDDEN}/{name}")
        # A hidden one that a killed upload left is no object: it makes way.
        # Whoever wants to know asks for the hash of what has its final name: once, for a NAS reads it all to tell.
        self._transfer("copyto", "--ignore-times", "--ignore-checksum", str(path), hidden, name=name)
        self._transfer("moveto", "--ignore-existing", hidden, where, name=name)

    def put_many(self, directory: Path, names: Sequence[str], *, lock_days: int) -> None:
        if not self._renames:
            self._listed("copy", str(directory), self.remote, names, "--ignore-existing", *self._kept(lock_days))
            return
        for top in {name.partition("/")[0] for name in names}:  # rclone moves nothing into a directory above
            below = [name.partition("/")[2] for name in names if name.startswith(f"{top}/")]
            hidden = self._at(f"{_HIDDEN}/{top}")
            self._listed("copy", str(directory / top), hidden, below, "--ignore-times")
            self._listed("move", hidden, self._at(top), below, "--ignore-existing")

    def get(self, name: str) -> Iterator[bytes]:
        there = self.stat(name)
        if there is None:
            raise NoBackup(f"'{self._at(name)}' is not there")
        done = 0
        for piece in self._output(["cat", self._at(name)], _TRANSFER_SECONDS):
            done += len(piece)
            yield piece
        if done != there.bytes:
            raise IoFailed(f"'{self._at(name)}' ended after {done} of {there.bytes} bytes", "try it again")

    def fetch_many(self, names: Sequence[str], directory: Path) -> None:
        self._listed("copy", self.remote, str(directory), names)
        for name in names:
            if not (directory / name).exists():
                raise NoBackup(f"'{self._at(name)}' is not there")

    def list(self, prefix: str, *, hashes: bool = False) -> list[Object]:
        found = []
        words = ["lsjson", "--recursive", "--files-only", "--no-mimetype", self._at(prefix)]
        words += self._hashes if hashes else []
        try:
            for line in _lines(self._output(words, _STAT_SECONDS if hashes else _LIST_SECONDS)):
                one = _object(line.rstrip(b","), f"{prefix}/" if prefix else "")
                if one and not one.name.startswith(f"{_HIDDEN}/"):
                    found.append(one)
                if len(found) > _MOST_OBJECTS:
                    raise BackupBad(f"'{self._at(prefix)}' lists more than {_MOST_OBJECTS} objects")
        except NoBackup:
            return []  # there is no such directory yet
        return sorted(found, key=lambda one: one.name)

    def stat(self, name: str) -> Object | None:
        try:
            said = self._run(["lsjson", "--stat", "--no-mimetype", self._at(name), *self._hashes], _STAT_SECONDS)
        except NoBackup:
            return None
        found = _object(said.stdout, f"{PurePosixPath(name).parent}/")
        return found if found and found.name == name else None

    @cached_property
    def _renames(self) -> bool:
        """Whether an upload goes under a hidden name first: not where an object appears only when it is whole."""
        return bool(self._features["Move"]) or not self._features["BucketBased"]

    @cached_property
    def _features(self) -> dict[str, Any]:
        said = self._run(["backend", "features", f"{self.remote.partition(':')[0]}:"], _ANSWER_SECONDS, any_rclone=True)
        try:
            told = json.loads(said.stdout)
            features = {name: told["Features"][name] for name in ("Move", "BucketBased")}
            return {**features, "Hashes": list(told["Hashes"] or [])}
        except (ValueError, KeyError, TypeError):
            raise Unavailable(f"'{self._any[0]}' does not say what '{self.remote}' can do") from None

    @cached_property
    def _hashes(self) -> Sequence[str]:
        """The flags that ask for one hash of each object: a NAS would compute each kind that it has."""
        kind = next((kind for kind in _KINDS if kind in self._features["Hashes"]), "")
        return ["--hash", "--hash-type", kind] if kind else []

    @cached_property
    def _any(self) -> tuple[str, tuple[int, ...]]:
        return program.newest_first_that_fits(self.program, program.OLDEST)

    @cached_property
    def _fitting(self) -> str:
        """The rclone for this kind of place: the host's own, unless only the one installed with the suite will do."""
        if not self._features["BucketBased"] or self._any[1] >= program.OLDEST_FOR_BUCKETS:
            return self._any[0]
        return program.newest_first_that_fits(self.program, program.OLDEST_FOR_BUCKETS)[0]

    def _kept(self, lock_days: int) -> Sequence[str]:
        """The flags of an upload to an object store: never over another object, and kept for so long."""
        kept = ["--header-upload", "If-None-Match: *"]
        if lock_days:
            until = datetime.now(timezone.utc) + timedelta(days=lock_days)
            kept += [
                "--s3-object-lock-mode=COMPLIANCE",
                f"--s3-object-lock-retain-until-date={until:%Y-%m-%dT%H:%M:%SZ}",
            ]
        return kept

    def _at(self, name: str) -> str:
        _refuse_odd(name)
        between = "" if self.remote.endswith((":", "/")) or not name else "/"
        return f"{self.remote}{between}{name}"

    def _transfer(self, verb: str, *words: str, name: str) -> None:
        try:
            self._run([verb, *words, *self._limits()], _TRANSFER_SECONDS)
        except AlreadyThere:
            raise AlreadyThere(f"'{self._at(name)}' is there already") from None

    def _listed(self, verb: str, source: str, sink: str, names: Sequence[str], *words: str) -> None:
        for name in names:
            _refuse_odd(name)
        with proc.fed("".join(f"{name}\n" for name in names).encode()) as listed, suppress(AlreadyThere):
            more = ["--files-from-raw=-", "--no-traverse", "--transfers=8", *self._limits(), *words]
            self._run([verb, source, sink, *more], _TRANSFER_SECONDS, stdin=listed)

    def _limits(self) -> Sequence[str]:
        return [f"--bwlimit={self.bandwidth}"] if self.bandwidth else []

    def _argv(self, words: Sequence[str], any_rclone: bool) -> Sequence[str]:
        program.check_config(self.config)
        return [self._any[0] if any_rclone else self._fitting, *words, f"--config={self.config}", *_QUIET]

    def _run(
        self, words: Sequence[str], seconds: float, *, stdin: int | None = None, any_rclone: bool = False
    ) -> proc.Finished:
        argv = self._argv(words, any_rclone)
        try:
            ended = proc.run(argv, seconds=seconds, stdin=stdin)
        except proc.NoAnswer:
            raise self._silent(seconds) from None
        if ended.status:
            raise self._failure(ended.stderr)
        return ended

    def _output(self, words: Sequence[str], seconds: float) -> Iterator[bytes]:
        """What rclone writes to stdout, as it comes; whoever leaves early ends it."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                running = proc.Program(self._argv(words, any_rclone=False), stdout=writing)
            finally:
                os.close(writing)
            with running:
                while piece := _read(running, reading):
                    yield piece
                try:
                    status = running.wait(seconds)
                except TimeoutError:
                    raise self._silent(seconds) from None
                if status:
                    raise self._failure(running.stderr)
        finally:
            os.close(reading)

    def _failure(self, stderr: str) -> SuiteError:
        return refusals.explained(stderr, self.remote, self.config)

    def _silent(self, seconds: float) -> Unavailable:
        return Unavailable(f"'{self.remote}' gave no answer within {seconds:g} s", "is the line to it up?")


def _refuse_odd(name: str) -> None:
    """Raise BackupBad for a name that could lead elsewhere, or that a list of names cannot hold."""
    parts = name.split("/") if name else []
    if any(part in ("", ".", "..") for part in parts) or not name.isprintable() or len(name.encode()) > _LONGEST_NAME:
        raise BackupBad(f"{name!r} cannot be the name of an object")


def _read(running: proc.Program, reading: int) -> bytes:
    """The next piece, b"" at the end."""
    os.set_blocking(reading, False)
    while True:
        interrupt.check()
        try:
            return os.read(reading, _PIECE_BYTES)
        except BlockingIOError:
            running.pause(0.2, readable=reading)


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > _PIECE_BYTES:
            raise BackupBad("the place lists a name that is longer than any")
    yield rest


def _object(text: bytes, prefix: str) -> Object | None:
    """What one line of lsjson says; None for a directory, and for what is no object at all."""
    try:
        said = json.loads(text)
        if said["IsDir"]:
            return None
        # Nanoseconds, which datetime does not read; the zone is UTC or an offset.
        modified = datetime.fromisoformat(re.sub(r"\.\d+", "", said["ModTime"]).replace("Z", "+00:00"))
        hashes = {kind: digest for kind, digest in (said.get("Hashes") or {}).items() if digest}
        return Object(prefix.removeprefix("./") + said["Path"], int(said["Size"]), modified, hashes)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
