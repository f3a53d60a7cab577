"""The one driver: rclone reaches S3, SFTP, WebDAV and seventy more kinds of places.

Facts that it is built on, each seen with rclone 1.60.1 (Debian 12) and 1.75.2:
`--immutable` does not keep a single file from being overwritten (rclone#4921). `--header-upload 'If-None-Match: *'`
does on S3, in one part or many; rclone before 1.72 says that it does not know the header, uploads all the same and
ends with 0. `object_lock_mode` is there from 1.74 on. `cat` of an absent S3 object ends with 0 and says nothing.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from pgbackup.errors import BackupBad, IoFailed, NoBackup, SuiteError, Unavailable
from pgbackup.remotes import answers, program, refusals, serving, transfers
from pgbackup.remotes.place import AlreadyThere, Object, check_name
from pgbackup.remotes.serving import Serving, Silent

_HIDDEN = ".upload"  # where an upload lies until it is whole: under the same name each time, so that nothing adds up
_MOST_OBJECTS = 200_000
_ANSWER_SECONDS = 120
_LIST_SECONDS = 600
_TRANSFER_SECONDS = 7 * 86400  # a first copy through a narrow line; rclone gives up by itself when nothing moves
_STAT_SECONDS = 6 * 3600  # a NAS reads the whole object to tell its hash
_KINDS_IN_BUCKETS = ("md5", "sha256", "sha1")
_KINDS = ("sha1", "md5", "sha256")  # where programs of the server compute it: the quickest first
_AT_ONCE = 8
_FLAGS = (
    "--ask-password=false",
    "--retries=1",
    "--low-level-retries=3",
    "--buffer-size=4Mi",
    "--use-server-modtime",  # what the place's own clock says, not what an uploader has claimed
    "--s3-no-check-bucket",  # never make a bucket
    "--stats=0",
)
_Word = ParamSpec("_Word")
_Said = TypeVar("_Said")
_Place = TypeVar("_Place", bound="Rclone")


def through_one(word: Callable[Concatenate[_Place, _Word], _Said]) -> Callable[Concatenate[_Place, _Word], _Said]:
    """A word that is said in kept_open(), in one of its own where nobody has opened one."""

    @functools.wraps(word)
    def opened(place: _Place, /, *given: _Word.args, **named: _Word.kwargs) -> _Said:
        with place.kept_open() as there:
            return word(there, *given, **named)

    return opened


@dataclass(frozen=True)
class Rclone:
    """A Place that rclone reaches. remote: `name:path` of the configuration file `config`; program: the host's rclone.

    bandwidth: as for --bwlimit, with hours if wanted; stall_seconds: how long it may neither take nor give a byte.
    opened: the rclone that answers, and what it says of the place. Nothing is asked or read before the first word.
    """

    remote: str
    config: Path
    bandwidth: str = ""
    stall_seconds: int = 120
    program: str = "rclone"
    opened: tuple[Serving, Mapping[str, Any]] | None = field(default=None, repr=False, compare=False)

    @contextmanager
    def kept_open(self: _Place) -> Iterator[_Place]:
        """See Place. By the thread that opens it, and those that it waits for."""
        if self.opened:
            yield self
            return
        config = program.check_config(self.config)
        said = []
        for candidate in program.candidates(self.program):
            with ExitStack() as stack:
                try:
                    served = stack.enter_context(serving.started(candidate, self._flags(), self._explained))
                    version = served.ask("core/version", _ANSWER_SECONDS)["decomposed"]
                except Unavailable as error:
                    said.append(error.message)
                    continue
                able = served.ask("operations/fsinfo", _ANSWER_SECONDS, fs=self.root)
                program.give_back(self.config, config)
                if oldest := program.too_old(version, able["Features"]["BucketBased"]):
                    said.append(f"'{candidate}' is older than {oldest}")
                    continue
                yield replace(self, opened=(served, able))
                return
        raise Unavailable(
            f"there is no rclone for this place: {'; '.join(said)}", "install one: https://rclone.org/install"
        )

    @through_one
    def hash_kind(self) -> str:
        kinds = _KINDS_IN_BUCKETS if self.in_buckets else _KINDS
        return next((kind for kind in kinds if kind in (self.able["Hashes"] or [])), "")

    @through_one
    def put(self, name: str, path: Path, *, lock_days: int, md5: str = "") -> None:
        check_name(name)
        if self.stat(name):
            raise AlreadyThere(f"'{self._at(name)}' is there already")
        self._upload(name, path, lock_days, md5)

    @through_one
    def put_many(self, directory: Path, names: Sequence[str], *, lock_days: int) -> None:
        def one(name: str) -> None:
            # Of one that is there and the same, rclone would set the time anew: by another version of it, on S3.
            with suppress(AlreadyThere):
                self.put(name, directory / name, lock_days=lock_days)

        self._each(one, names)

    def get(self, name: str) -> Iterator[bytes]:
        with self.kept_open() as there:
            found, argv = there.stat(name), [there.serving.program, "cat", there._at(name), *there._flags()]
        if found is None:
            raise NoBackup(f"'{self._at(name)}' is not there")
        done = 0
        try:
            for piece in answers.output(argv, _TRANSFER_SECONDS):
                done += len(piece)
                yield piece
        except TimeoutError:
            raise self._silent() from None
        except answers.Failed as failed:
            raise self._explained(str(failed)) from None
        if done != found.bytes:
            raise IoFailed(f"'{self._at(name)}' ended after {done} of {found.bytes} bytes", "try it again")

    @through_one
    def fetch_many(self, names: Sequence[str], directory: Path) -> None:
        def one(name: str) -> None:
            try:
                self.ask(
                    "operations/copyfile",
                    _TRANSFER_SECONDS,
                    **self._from(name),
                    **transfers.here(directory, name, "dst"),
                )
            except NoBackup:
                raise NoBackup(f"'{self._at(name)}' is not there") from None

        self._each(one, names)

    @through_one
    def list(self, prefix: str, *, hashes: bool = False) -> list[Object]:
        if prefix:
            check_name(prefix)
        found: list[Object] = []
        options = {"recurse": True, "filesOnly": True, "noMimeType": True, **(self._hashes if hashes else {})}
        asked = self.serving.lines(
            "operations/list", _STAT_SECONDS if hashes else _LIST_SECONDS, fs=self.root, remote=prefix, opt=options
        )
        try:
            for text in answers.items(asked):
                one = answers.object_of(text)
                if one and not one.name.startswith(f"{_HIDDEN}/"):
                    found.append(one)
                if len(found) > _MOST_OBJECTS:
                    raise BackupBad(f"'{self.root}{prefix}' lists more than {_MOST_OBJECTS} objects")
        except NoBackup:
            return []  # there is no such directory yet
        except Silent:
            raise self._silent() from None
        return sorted(found, key=lambda one: one.name)

    @through_one
    def stat(self, name: str) -> Object | None:
        check_name(name)
        options = {"noMimeType": True, **self._hashes}
        try:
            said = self.ask("operations/stat", _STAT_SECONDS, fs=self.root, remote=name, opt=options)
        except NoBackup:
            return None
        found = answers.object_of(json.dumps(said.get("item")).encode())
        return found if found and found.name == name else None

    @through_one
    def stat_many(self, names: Sequence[str]) -> dict[str, Object]:
        found: dict[str, Object | None] = {}
        self._each(lambda name: found.update({name: self.stat(name)}), names)
        return {name: one for name, one in found.items() if one}

    @property
    def serving(self) -> Serving:
        """The rclone that answers, in kept_open()."""
        assert self.opened is not None  # noqa: S101  every word sees to that
        return self.opened[0]

    @property
    def able(self) -> Mapping[str, Any]:
        """What rclone says of the place, in kept_open(): its Features and Hashes, and what it calls it."""
        assert self.opened is not None  # noqa: S101  every word sees to that
        return self.opened[1]

    @property
    def in_buckets(self) -> bool:
        """Whether it is an object store: such a one can have versions and locks."""
        return bool(self.able["Features"]["BucketBased"])

    @property
    def _renames(self) -> bool:
        """Whether an upload goes under a hidden name first: not where an object appears only when it is whole."""
        return bool(self.able["Features"]["Move"]) or not self.in_buckets

    @property
    def _hashes(self) -> Mapping[str, Any]:
        """What asks for one hash of each object: a NAS would compute each kind that it has."""
        kind = self.hash_kind()
        return {"showHash": True, "hashTypes": [kind]} if kind else {}

    def _upload(self, name: str, path: Path, lock_days: int, md5: str = "") -> None:
        """Upload a file under a name that is free. md5: of the file, where it is known: else rclone reads it all."""
        source = transfers.here(path.parent, path.name, "src")
        if not self._renames:
            known = md5 if str(self.able["String"]).startswith("S3 ") else ""
            self._transfer("copyfile", name, **source, **transfers.into_bucket(self.root, name, lock_days, known))
            return
        hidden = f"{_HIDDEN}/{name}"
        # A hidden one that a killed upload left is no object: it makes way.
        # Whoever wants to know asks for the hash of what has its final name: once, for a NAS reads it all to tell.
        over = {"IgnoreTimes": True, "IgnoreChecksum": True}
        self._transfer("copyfile", name, **source, dstFs=self.root, dstRemote=hidden, _config=over)
        there = {"dstFs": self.root, "dstRemote": name}
        self._transfer("movefile", name, **self._from(hidden), **there, _config={"IgnoreExisting": True})

    def _from(self, name: str) -> Mapping[str, str]:
        return {"srcFs": self.root, "srcRemote": name}

    def _transfer(self, word: str, name: str, **given: Any) -> None:
        try:
            self.ask(f"operations/{word}", _TRANSFER_SECONDS, **given)
        except AlreadyThere:
            raise AlreadyThere(f"'{self._at(name)}' is there already") from None

    def ask(self, word: str, seconds: float, **given: Any) -> dict[str, Any]:
        """Ask rclone that word, in kept_open()."""
        try:
            return self.serving.ask(word, seconds, **given)
        except Silent:
            raise self._silent() from None

    def _each(self, do: Callable[[str], None], names: Sequence[str]) -> None:
        """Do it for each name, several at once; after a failure no other one is begun."""
        for name in names:
            check_name(name)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            doing = [pool.submit(do, name) for name in names]
            try:
                for one in doing:
                    one.result()
            finally:
                for one in doing:
                    one.cancel()

    @property
    def root(self) -> str:
        """The remote as a directory: else rclone first asks whether it is a file, and takes a refusal for a yes."""
        return self.remote if self.remote.endswith((":", "/")) else f"{self.remote}/"

    def _at(self, name: str) -> str:
        check_name(name)
        return f"{self.root}{name}"

    def _flags(self) -> Sequence[str]:
        limits = [f"--contimeout={min(20, self.stall_seconds)}s", f"--timeout={self.stall_seconds}s"]
        limits += [f"--bwlimit={self.bandwidth}"] if self.bandwidth else []
        return [f"--config={self.config}", *_FLAGS, *limits]

    def _explained(self, said: str) -> SuiteError:
        return refusals.explained(said, self.remote, self.config)

    def _silent(self) -> Unavailable:
        return Unavailable(f"'{self.remote}' gives no answer", "is the line to it up?")
