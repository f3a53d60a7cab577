"""A throwaway container of a database's own image, into which a base backup is unpacked, to be checked or recovered.

It has no network and no capabilities, and a volume that Docker removes together with it, however this run ends. It sees
nothing of the archive: everything is handed in.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from pgbackup import proc
from pgbackup.database.clients import failures
from pgbackup.database.clients.client import Run
from pgbackup.database.clients.container import Container
from pgbackup.database.clients.orders import Orders
from pgbackup.database.clients.sidecar import FIRST_PROGRAM, INSIDE, LABEL, Sidecar, alive, mount, name_of
from pgbackup.docker import Docker
from pgbackup.errors import BackupBad, IoFailed, Unavailable
from pgbackup.settings.config import Settings, Target

# An image's /tmp may be written by all, and a new volume takes its mode: so any user can have it.
DISK = "/tmp"  # noqa: S108  of the container, and its own
DATA = f"{DISK}/data"
_TABLESPACES = f"{DISK}/tablespaces"
_PARTS = f"{DISK}/parts"
_MANIFEST = "backup_manifest"
_UNPACK = 'mkdir -p -m 0700 "$0" && exec tar -x -f - -C "$0"'
_READY = (
    'cd "$0" && rm -f postgresql.auto.conf tablespace_map standby.signal && touch postgresql.auto.conf recovery.signal'
)
# One argument for each of them, of words without blanks.
_VERIFY = """
status=0 running=
for ignored; do
    pg_verifybackup --no-parse-wal --quiet $ignored "$0" &
    running="$running $!"
done
for one in $running; do wait "$one" || status=1; done
exit $status
"""
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
_LEFT_BYTES = 256 << 20
_LARGE_BYTES = 1 << 20
_MOST_SHARED, _MOST_VERIFIERS = 1000, 4
_MOST_LISTED = 100_000  # each of several holds the whole list in memory
NOBODY = 65534  # PostgreSQL does not run as root


def run_arguments(
    docker: Docker,
    run: Run,
    name: str,
    image: str,
    pipes: Path,
    user: str,
    memory_megabytes: int,
    limits: Sequence[str],
) -> list[str]:
    """Return the argument list of `docker run`. Pure. user: `uid:gid`, not root's. limits: further options.

    Its root is writable, though hardly for that user: Docker itself makes directories there, for make_directory().
    """
    return docker.command(
        *("run", "--rm", "--interactive", "--pull", "never", "--name", name),
        *("--label", f"{LABEL}={run.owner}", "--network", "none", "--user", user),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--memory", f"{memory_megabytes}m", "--pids-limit", "128", "--log-driver", "none", "--no-healthcheck"),
        *limits,
        *(
            "--mount",
            f"type=volume,target={DISK},volume-label={LABEL}={run.owner}",
            "--mount",
            mount(str(pipes), INSIDE),
            "--entrypoint",
            "sh",
        ),
        *(image, "-c", FIRST_PROGRAM),
    )


def _tablespace(archive: str, part: str = "") -> str:
    """Where the tablespace of that oid is unpacked, of a part or of the whole."""
    return f"{_PARTS}-{archive}/{part}" if part else f"{_TABLESPACES}/{archive}"


def shared(sizes: Mapping[str, int], count: int) -> list[list[str]]:
    """Which of the large files each of `count` programs leaves to the others, so that one of them takes each. Pure.

    sizes: of all files, by path. Small ones and those of odd names are everybody's.
    """
    if len(sizes) > _MOST_LISTED:
        return [[]]
    large = [path for path, size in sizes.items() if size >= _LARGE_BYTES and _PLAIN.fullmatch(path)]
    taken: list[list[str]] = [[] for _ in range(max(1, count))]
    loads = [0] * len(taken)
    for path in sorted(large, key=lambda path: (-sizes[path], path))[:_MOST_SHARED]:
        least = loads.index(min(loads))
        taken[least].append(path)
        loads[least] += sizes[path]
    together = [path for each in taken for path in each]
    return [sorted(set(together) - set(each)) for each in taken] if together else [[]]


class Throwaway(Sidecar):
    """The container; made by `started()`. First unpack() every archive, then verify(), ready(), recovered()."""

    kind = "recovery"

    def __init__(
        self,
        target: Target,
        settings: Settings,
        run: Run,
        image: str,
        pipes: Path,
        name: str,
        orders: Orders,
    ) -> None:
        super().__init__(target, settings, run, Container("", image, "running"), pipes, name, orders)
        self.connection = {"host": DISK, "port": "5432", "user": target.user}

    def say(self, *program: str) -> str:
        """Run a program to its end and return what it printed. Raise Unavailable with what it said."""
        finished = self.completed(program, self.settings.load_stall_seconds)
        if finished.status != 0:
            said = failures.first_error(finished.stderr or finished.stdout.decode("utf-8", "replace"))
            raise Unavailable(f"'{program[0]}' in the throwaway server of '{self.target.database}' failed: {said}")
        return finished.stdout.decode("utf-8", "replace")

    @contextmanager
    def fed(self, otherwise: str, *program: str) -> Iterator[Callable[[bytes], None]]:
        """Give what writes to a program's input. With the end of the block it has ended well.

        Raise IoFailed, beginning with `otherwise`, with what it said.
        """
        seconds = self.settings.stall_seconds
        with self.writing(program) as sink:

            def put(data: bytes) -> None:
                with suppress(BrokenPipeError):  # its status tells why
                    sink.write(data, seconds)

            yield put
            sink.close()
            if sink.program.wait(seconds) != 0:
                said = failures.first_error(sink.program.stderr)
                raise IoFailed(f"{otherwise}: {said}", "is Docker's disk full? docker system df")

    def unpacking(self, archive: str, pieces: Iterable[bytes], part: str = "") -> Iterator[bytes]:
        """Unpack one tar archive of a base backup, and pass its pieces on to whoever reads them, too.

        archive: the oid of a tablespace; any other name is the data directory's, which comes first. part: of a chain of
        incremental ones.
        """
        main = f"{_PARTS}/{part}" if part else DATA
        place = _tablespace(archive, part) if archive.isdigit() else main
        with self.fed("the base backup cannot be unpacked", "sh", "-c", _UNPACK, place) as put:
            for piece in pieces:
                put(piece)
                yield piece
        if place != main:
            self.say("ln", "-sfn", place, f"{main}/pg_tblspc/{archive}")

    def unpack(self, archive: str, pieces: Iterable[bytes], part: str = "") -> None:
        """Do unpacking() for its own sake."""
        for _ in self.unpacking(archive, pieces, part):
            pass

    def put_manifest(self, text: bytes, part: str = "") -> None:
        """Put PostgreSQL's manifest where pg_verifybackup looks for it: with tablespaces it is in no archive."""
        place = f"{_PARTS}/{part}" if part else DATA
        with self.fed(f"{_MANIFEST} cannot be written", "sh", "-c", 'cat >"$0"', f"{place}/{_MANIFEST}") as put:
            put(text)

    def free_bytes(self) -> int:
        """How much room there is for what is unpacked, when a little is left to others."""
        return int(self.say("df", "-P", "-k", DISK).splitlines()[-1].split()[3]) * 1024 - _LEFT_BYTES

    def verify(self, part: str = "", sizes: Mapping[str, int] = MappingProxyType({})) -> None:
        """Let pg_verifybackup compare everything with PostgreSQL's own manifest. Raise BackupBad.

        sizes: of the files that are listed there, by path, as far as known: then several of it share the large ones.
        """
        place = f"{_PARTS}/{part}" if part else DATA
        shares = shared(sizes, min(self.processors, _MOST_VERIFIERS))
        try:
            self.say("sh", "-c", _VERIFY, place, *(" ".join(f"--ignore={path}" for path in each) for each in shares))
        except Unavailable as error:
            raise BackupBad(f"the base backup is not what its manifest says: {error.message}") from None

    def combine(self, parts: Sequence[str], archives: Iterable[str]) -> None:
        """Make one base backup of a full one and the incremental ones upon it, oldest first. Raise BackupBad.

        archives: of the last part.
        """
        moved = [
            f"--tablespace-mapping={_tablespace(archive, parts[-1])}={_tablespace(archive)}"
            for archive in archives
            if archive.isdigit()
        ]
        places = [f"{_PARTS}/{part}" for part in parts]
        try:
            self.say("pg_combinebackup", "--no-sync", f"--output={DATA}", *moved, *places)
        except Unavailable as error:
            raise BackupBad(f"the incremental base backups do not fit together: {error.message}") from None
        self.say("sh", "-c", 'rm -rf "$0" "$0"-*', _PARTS)

    def configured(self, names: Sequence[str]) -> dict[str, str]:
        """What the unpacked server's own files set, by name; what they do not tell is left out."""
        asking = 'for name; do value=$(postgres -D "$0" -C "$name") && echo "$name=$value"; done; true'
        told = self.say("sh", "-c", asking, DATA, *names)
        return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)

    def ready(self) -> None:
        """Make it ready to start, after verify(): what was set for the origin is not for this server."""
        # Without the map the links stay as they were made above.
        self.say("sh", "-c", _READY, DATA)

    def make_directory(self, path: str, *above: str) -> None:
        """Let Docker make a directory anywhere in the container, or give it to the server's user.

        above: directories that lead to it, to be opened for all. Raise IoFailed.
        """
        owner, entries = os.geteuid() or NOBODY, []
        for name in (*above, path):
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            if name == path:
                entry.mode, entry.uid, entry.gid = 0o700, owner, os.getegid() or NOBODY
            entries.append((entry, b""))
        self._copy(entries, f"the directory '{path}' of a tablespace cannot be made")

    def name_user(self) -> None:
        """Let the server's user have a name, without which initdb does not run. Raise IoFailed, Unavailable."""
        users = self.say("cat", "/etc/passwd")
        uid, gid = os.geteuid() or NOBODY, os.getegid() or NOBODY
        if f":{uid}:" in users:
            return
        text = f"{users.rstrip()}\npgbackup:x:{uid}:{gid}::{DISK}:/bin/false\n".encode()
        entry = tarfile.TarInfo("etc/passwd")
        entry.mode, entry.size = 0o644, len(text)
        self._copy([(entry, text)], "the server's user cannot be given a name")

    def _copy(self, entries: Sequence[tuple[tarfile.TarInfo, bytes]], otherwise: str) -> None:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for entry, content in entries:
                tar.addfile(entry, io.BytesIO(content))
        with proc.fed(stream.getvalue()) as descriptor:
            finished = self.settings.docker.run("cp", "-", f"{self._name}:/", stdin=descriptor)
        if finished.status != 0:
            raise IoFailed(f"{otherwise}: {failures.first_error(finished.stderr)}")


@contextmanager
def started(
    target: Target,
    settings: Settings,
    run: Run,
    image: str,
    pipes: Path,
    memory_megabytes: int,
    limits: Sequence[str] = (),
) -> Iterator[Throwaway]:
    """Start the container; it and all that is in it are gone when the block is left, and after kill -9, too.

    pipes: an empty directory of this run's own. image: the full id of the database's image. limits: further options of
    `docker run`.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        uid = gid = NOBODY
        os.chown(pipes, uid, gid)
    name = name_of(run)
    argv = run_arguments(settings.docker, run, name, image, pipes, f"{uid}:{gid}", memory_megabytes, limits)
    with alive(argv, name, target, settings.docker, pipes) as orders:
        yield Throwaway(target, settings, run, image, pipes, name, orders)
