"""A throwaway server that recovers a base backup to a moment, so that a database can be dumped as it was then.

It runs in a container of the database's own image, without network and capabilities, and with a volume that Docker
removes together with it, however this run ends. It sees nothing of the archive: base backup and WAL are handed in.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pgbackup import interrupt, proc
from pgbackup.archive import wal
from pgbackup.archive.basemanifest import MAIN, NAME
from pgbackup.config import Settings, Target
from pgbackup.database import failures
from pgbackup.database.client import Run, Sink, query
from pgbackup.database.container import Container
from pgbackup.database.sidecar import FIRST_PROGRAM, INSIDE, LABEL, Sidecar, alive, make_fifo, mount, when_read
from pgbackup.errors import BackupBad, IoFailed, SuiteError, Unavailable

# An image's /tmp may be written by all, and a new volume takes its mode: so any user can have it.
_DISK = "/tmp"  # noqa: S108  of the container, and its own
_DATA = f"{_DISK}/data"
_TABLESPACES = f"{_DISK}/tablespaces"
_PARTS = f"{_DISK}/parts"
_NOBODY = 65534  # PostgreSQL does not run as root
_TICK_SECONDS = 0.2
# Status 1 is: there is no such file. Above 125 the server gives up instead of taking it for the end of WAL
# (PostgreSQL manual, 20.5.5 Archive Recovery, restore_command).
_FETCH = f"""
echo "$1" >{INSIDE}/want || exit 200
read -r status <{INSIDE}/answer || exit 200
[ "$status" = 0 ] || exit "$status"
cat <{INSIDE}/segment >"$2" || exit 200
"""
_MISSING, _DAMAGED = 1, 200
_READY = "database system is ready to accept connections"
_NOT_REACHED = "recovery ended before configured recovery target was reached"

Segments = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Reached:
    """Where recovery has ended. time: of the last commit that was replayed, as the server writes it, "" for none.

    lsn: the end of the last record that was replayed.
    """

    time: str
    lsn: int


class TargetNotReached(BackupBad):
    """WAL came to its end before the target was met: the target is later than all that there is, or WAL is damaged."""


def run_arguments(
    docker: Sequence[str], run: Run, image: str, pipes: Path, user: str, memory_megabytes: int
) -> list[str]:
    """Return the argument list of `docker run`. Pure. user: `uid:gid`, not root's."""
    return [
        *docker,
        *("run", "--rm", "--interactive", "--pull", "never", "--name", run.application_name),
        *("--label", f"{LABEL}={run.owner}", "--network", "none", "--user", user),
        *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--memory", f"{memory_megabytes}m", "--pids-limit", "128", "--log-driver", "none", "--no-healthcheck"),
        *("--mount", f"type=volume,target={_DISK}", "--mount", mount(str(pipes), INSIDE), "--entrypoint", "sh"),
        *(image, "-c", FIRST_PROGRAM),
    ]


def configuration(target: Mapping[str, str], max_prepared_transactions: int, memory_megabytes: int) -> str:
    """Return the text of postgresql.conf. Pure. target: recovery_target_time or another one, none for all WAL.

    Without hot standby the server needs none of the origin's limits but that for prepared transactions (manual,
    27.4.3 Administrator's Overview); nothing in it has to survive a crash.
    """
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": _DISK,
        "hba_file": f"{INSIDE}/pg_hba.conf",
        "ident_file": f"{INSIDE}/pg_ident.conf",
        "hot_standby": "off",
        "max_prepared_transactions": str(max_prepared_transactions),
        "shared_buffers": f"{max(16, memory_megabytes // 4)}MB",
        "maintenance_work_mem": f"{max(16, memory_megabytes // 8)}MB",
        "huge_pages": "off",
        "autovacuum": "off",
        "fsync": "off",
        "full_page_writes": "off",
        "max_wal_size": "4GB",
        "lc_messages": "C",
        "logging_collector": "off",
        "log_destination": "stderr",
        "restore_command": f'sh {INSIDE}/fetch "%f" "%p"',
        "recovery_target_timeline": "latest",
        "recovery_target_action": "promote",
        **target,
    }
    return "".join(f"{key} = '{_escaped(value)}'\n" for key, value in settings.items())


def _escaped(value: str) -> str:
    """As a quoted value of postgresql.conf (manual, 20.1.2)."""
    if any(not char.isprintable() for char in value):
        raise BackupBad(f"{value!r} is no recovery target")
    return value.replace("\\", "\\\\").replace("'", "''")


class Scratch(Sidecar):
    """The container; made by `started()`. First unpack() every archive, then check(), then recovered()."""

    kind = "recovery"

    def __init__(
        self, target: Target, settings: Settings, run: Run, image: str, environment: Mapping[str, str], pipes: Path
    ) -> None:
        super().__init__(target, settings, run, Container("", image, "running"), environment, pipes)
        self.connection = {"host": _DISK, "port": "5432", "user": target.user}

    @property
    def stall_seconds(self) -> int:
        return self._settings.stall_seconds

    def say(self, *program: str) -> str:
        """Run a program to its end and return what it printed. Raise Unavailable with what it said."""
        finished = proc.run(
            self.command(program), environment=self.environment, seconds=self._settings.load_stall_seconds
        )
        if finished.status != 0:
            said = failures.first_error(finished.stderr or finished.stdout.decode("utf-8", "replace"))
            raise Unavailable(f"'{program[0]}' in the recovery of '{self._target.database}' failed: {said}")
        return finished.stdout.decode("utf-8", "replace")

    def unpacking(self, archive: str, pieces: Iterable[bytes], part: str = "") -> Iterator[bytes]:
        """Unpack one tar archive of a base backup, and pass its pieces on to whoever reads them, too.

        archive: the oid of a tablespace, or MAIN, which comes first. part: of a chain of incremental ones.
        """
        main = f"{_PARTS}/{part}" if part else _DATA
        place = main if archive == MAIN else f"{_TABLESPACES}/{archive}"
        self.say("mkdir", "-p", "-m", "0700", place)
        with self.writing(["tar", "-x", "-f", "-", "-C", place]) as sink:
            for piece in pieces:
                with suppress(BrokenPipeError):  # its status tells why
                    sink.write(piece, self._settings.stall_seconds)
                yield piece
            sink.close()
            status = sink.program.wait(self._settings.stall_seconds)
            if status != 0:
                said = failures.first_error(sink.program.stderr)
                raise IoFailed(f"the base backup cannot be unpacked: {said}", "is Docker's disk full? docker system df")
        if archive != MAIN:
            self.say("ln", "-sfn", place, f"{main}/pg_tblspc/{archive}")

    def unpack(self, archive: str, pieces: Iterable[bytes], part: str = "") -> None:
        """Do unpacking() for its own sake."""
        for _ in self.unpacking(archive, pieces, part):
            pass

    def put_manifest(self, text: bytes, part: str = "") -> None:
        """Put PostgreSQL's manifest where pg_verifybackup looks for it: with tablespaces it is in no archive."""
        with self.writing(["sh", "-c", 'cat >"$0"', f"{_PARTS}/{part}/{NAME}" if part else f"{_DATA}/{NAME}"]) as sink:
            sink.write(text, self._settings.stall_seconds)
            sink.close()
            if sink.program.wait(self._settings.stall_seconds) != 0:
                raise IoFailed(f"{NAME} cannot be written: {failures.first_error(sink.program.stderr)}")

    def free_bytes(self) -> int:
        """How much room there is for what is unpacked."""
        return int(self.say("df", "-P", "-k", _DISK).splitlines()[-1].split()[3]) * 1024

    def verify(self, part: str = "") -> None:
        """Let pg_verifybackup compare everything with PostgreSQL's own manifest. Raise BackupBad."""
        try:
            self.say("pg_verifybackup", "--no-parse-wal", "--quiet", f"{_PARTS}/{part}" if part else _DATA)
        except Unavailable as error:
            raise BackupBad(f"the base backup is not what its manifest says: {error.message}") from None

    def combine(self, parts: Sequence[str]) -> None:
        """Make one base backup of a full one and the incremental ones upon it, oldest first. Raise BackupBad."""
        try:
            self.say("pg_combinebackup", "--no-sync", f"--output={_DATA}", *(f"{_PARTS}/{part}" for part in parts))
        except Unavailable as error:
            raise BackupBad(f"the incremental base backups do not fit together: {error.message}") from None
        self.say("rm", "-rf", _PARTS)

    def check(self) -> None:
        """Do verify(); then make it ready to start: what was set for the origin is not for this server."""
        self.verify()
        # Without the map the links stay as they were made above.
        self.say("rm", "-f", f"{_DATA}/postgresql.auto.conf", f"{_DATA}/tablespace_map", f"{_DATA}/standby.signal")
        self.say("touch", f"{_DATA}/postgresql.auto.conf", f"{_DATA}/recovery.signal")

    @contextmanager
    def recovered(
        self, recovery_target: Mapping[str, str], segments: Segments, memory_megabytes: int
    ) -> Iterator[Reached]:
        """Recover and give what was reached; the server answers for the length of the block.

        segments: gives the content of a file of the archive, None where there is none, and raises BackupBad where it
        is damaged. Raise TargetNotReached, BackupBad or Unavailable.
        """
        prepared = re.search(r"max_prepared_xacts setting: +(\d+)", self.say("pg_controldata", _DATA))
        text = configuration(recovery_target, int(prepared[1]) if prepared else 0, memory_megabytes)
        for name, content in (
            ("postgresql.conf", text),
            ("pg_hba.conf", "local all all trust\n"),
            ("pg_ident.conf", ""),
            ("fetch", _FETCH),
        ):
            self._place(name, content)
        for name in ("want", "answer", "segment"):
            make_fifo(self._pipes / name)
        program = ["postgres", "-D", _DATA, "-c", f"config_file={INSIDE}/postgresql.conf"]
        with proc.Program(self.command(program), environment=self.environment) as server:
            self._serve(server, segments)
            yield self._reached()

    def _place(self, name: str, content: str) -> None:
        path = self._pipes / name
        path.write_text(content, encoding="utf-8")
        if os.geteuid() == 0:
            os.chown(path, _NOBODY, _NOBODY)

    def _serve(self, server: proc.Program, segments: Segments) -> None:
        """Hand out segments until the server is up. One after the other, for it asks for one at a time."""
        want, answer = (
            os.open(self._pipes / name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC) for name in ("want", "answer")
        )
        limit = self._settings.load_stall_seconds
        try:
            deadline, asked, damage = time.monotonic() + limit, b"", None
            while _READY not in server.stderr:
                interrupt.check()
                if server.status is not None:
                    raise damage or self._explained(server)
                if time.monotonic() > deadline:
                    raise Unavailable(f"the recovery of '{self._target.database}' asked for nothing for {limit} s")
                server.pause(_TICK_SECONDS, want)
                with suppress(BlockingIOError):
                    asked += os.read(want, 1024)
                if not asked.endswith(b"\n"):
                    continue
                try:
                    content = segments(asked.decode("ascii", "replace").strip())
                except BackupBad as bad:
                    damage, content = bad, None
                asked, deadline = b"", time.monotonic() + limit
                status = 0 if content is not None else _DAMAGED if damage else _MISSING
                os.write(answer, b"%d\n" % status)
                if content is not None:
                    self._hand_over(content, server)
        finally:
            os.close(want)
            os.close(answer)

    def _hand_over(self, content: bytes, server: proc.Program) -> None:
        descriptor = when_read(self._pipes / "segment", server, self._settings.stall_seconds)
        if descriptor is None:
            return  # the caller sees why
        sink = Sink(descriptor, server, self._target.database)
        try:
            with suppress(BrokenPipeError):
                sink.write(content, self._settings.stall_seconds)
        finally:
            sink.close()

    def _explained(self, server: proc.Program) -> SuiteError:
        if _NOT_REACHED in server.stderr:
            return TargetNotReached("the archived WAL ends before the recovery target")
        return Unavailable(
            f"the recovery of '{self._target.database}' failed: {failures.first_error(server.stderr)}",
            "take an older base backup, or a time before this",
        )

    def _reached(self) -> Reached:
        sql = "SELECT pg_last_xact_replay_timestamp(), pg_last_wal_replay_lsn()"
        answer = query(self, self._run, self._target, sql, self._settings)
        moment, _, lsn = answer.partition("|")
        return Reached(moment, wal.parse_lsn(lsn))


@contextmanager
def started(
    target: Target,
    settings: Settings,
    run: Run,
    image: str,
    environment: Mapping[str, str],
    pipes: Path,
    memory_megabytes: int,
) -> Iterator[Scratch]:
    """Start the container; it and all that is in it are gone when the block is left, and after kill -9, too.

    pipes: an empty directory of this run's own. image: the full id of the database's image.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        uid = gid = _NOBODY
        os.chown(pipes, uid, gid)
    argv = run_arguments(settings.docker, run, image, pipes, f"{uid}:{gid}", memory_megabytes)
    with alive(argv, target, settings, run, environment, pipes):
        yield Scratch(target, settings, run, image, environment, pipes)
