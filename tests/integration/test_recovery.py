"""A base backup and WAL of a real server are recovered to exactly the moment asked for, in a container of its own."""

from __future__ import annotations

import functools
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pgbackup import wal
from pgbackup.cli import moments
from pgbackup.database.cluster import recovery, throwaway
from pgbackup.database.cluster.recovery import Reached, Segments, TargetNotReached
from pgbackup.database.cluster.throwaway import Throwaway
from pgbackup.errors import BackupBad, Interrupted
from pgbackup.formats.cluster import backup_manifest, wal_records
from pgbackup.wal import Segment

from tests.support import runs, servers
from tests.support.effort import each_value, wide
from tests.support.servers import Server, docker

_MEMORY_MEGABYTES = 512


@dataclass(frozen=True)
class Origin:
    """A server whose table has a row for each commit; what was archived of it. stamps: of the commits, in order."""

    server: Server
    base: bytes
    segments: dict[str, bytes]
    stamps: list[str]

    def segment(self, name: str) -> bytes | None:
        return self.segments.get(name)


def _binary(server: Server, *program: str) -> bytes:
    return subprocess.run(["docker", "exec", server.id, *program], check=True, capture_output=True).stdout


@contextmanager
def _archived(major: int) -> Iterator[Origin]:
    settings: dict[str, str | int] = {
        "wal_keep_size": "1GB",
        "track_commit_timestamp": "on",
        "max_prepared_transactions": 5,
    }
    with servers.running(major, database="payment_db", user="payment_user", settings=settings) as server:
        server.sql("CREATE TABLE payments (id int PRIMARY KEY)")
        checksums = f"--manifest-checksums={backup_manifest.CHECKSUMS}"
        where = ["-h", "127.0.0.1", "-U", "payment_user"]
        base = _binary(server, "pg_basebackup", *where, "-X", "none", "-c", "fast", "-F", "tar", "-D", "-", checksums)
        with server.connect() as session:
            for number in range(300):
                session.execute("INSERT INTO payments VALUES (%s)", (number,))
                if number == 200:
                    session.execute("SELECT pg_create_restore_point('before the mistake')")
                    session.execute("SELECT pg_switch_wal()")
            session.execute("BEGIN; INSERT INTO payments VALUES (1000); PREPARE TRANSACTION 'open'")
            stamps = session.execute("SELECT pg_xact_commit_timestamp(xmin)::text FROM payments ORDER BY id").fetchall()
            session.execute("SELECT pg_switch_wal()")
        folder = server.sql("SHOW data_directory")[0][0] + "/pg_wal"
        names = [name for name in _binary(server, "ls", folder).decode().split() if wal.parse_segment(name)]
        segments = {name: _binary(server, "cat", f"{folder}/{name}") for name in names}
        yield Origin(server, base, segments, [stamp for (stamp,) in stamps])


@pytest.fixture(scope="module")
def origins(engine: str) -> Iterator[Callable[[int], Origin]]:
    """A function: major version -> a server and what was archived of it."""
    with ExitStack() as stack:
        yield functools.cache(lambda major: stack.enter_context(_archived(major)))


@pytest.fixture(params=[15, 18])
def origin(origins: Callable[[int], Origin], request: pytest.FixtureRequest) -> Origin:
    return origins(request.param)


@pytest.fixture
def scratch(origin: Origin, tmp_path: Path) -> Callable[[], AbstractContextManager[Throwaway]]:
    """Starts the container; afterwards nothing of it is left, neither container nor volume."""

    @contextmanager
    def start() -> Iterator[Throwaway]:
        pipes = tmp_path / "pipes"
        pipes.mkdir(mode=0o700)
        settings = runs.settings(origin.server.name, "payment_user", "payment_db")
        run, volumes = runs.fresh_run(), set[str]()
        image = docker("inspect", "--format", "{{.Image}}", origin.server.id).stdout.strip()
        try:
            with throwaway.started(settings.targets[0], settings, run, image, pipes, _MEMORY_MEGABYTES) as made:
                volumes = _volumes_of(runs.container_of(run))
                assert volumes
                yield made
        finally:
            ours = ("ps", "-aq", "--filter", f"label=pgbackup.owner={run.owner}")
            assert runs.soon(lambda: not docker(*ours).stdout, 20), "the container stays"
            assert not volumes & _volumes()

    return start


def _volumes_of(container: str) -> set[str]:
    mounts = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}'
    return set(docker("inspect", "--format", mounts, container).stdout.split())


def _volumes() -> set[str]:
    return set(docker("volume", "ls", "-q").stdout.split())


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 100_000] for at in range(0, len(data), 100_000))


def _ids(made: Throwaway) -> list[int]:
    return [int(word) for word in made.query("SELECT id FROM public.payments ORDER BY id").split()]


Start = Callable[[], AbstractContextManager[Throwaway]]


def _recovered(
    start: Start, origin: Origin, target: dict[str, str], segments: Segments | None = None
) -> tuple[Reached, list[int]]:
    with start() as made:
        made.unpack(backup_manifest.MAIN, _pieces(origin.base))
        made.verify()
        made.ready()
        with recovery.recovered(made, target, segments or origin.segment, _MEMORY_MEGABYTES, {}) as reached:
            return reached, _ids(made)


def test_the_checker_of_archives_agrees(origin: Origin) -> None:
    contents = backup_manifest.Contents()
    contents.add(backup_manifest.MAIN, _pieces(origin.base))
    found = contents.compare()
    assert len(found.files) > 900
    assert wal.parse_lsn(found.start) < wal.parse_lsn(found.stop)


def test_what_is_read_of_wal_is_what_pg_waldump_reads(origin: Origin) -> None:
    """Every end of a transaction has the position and the time that PostgreSQL's own program finds."""
    path = [segment for name in sorted(origin.segments) if (segment := wal.parse_segment(name))]
    folder = origin.server.sql("SHOW data_directory")[0][0] + "/pg_wal"
    words = ["pg_waldump", "--rmgr=Transaction", f"--path={folder}", *map(wal.segment_name, (path[0], path[-1]))]
    said = subprocess.run(["docker", "exec", "-e", "TZ=UTC", origin.server.id, *words], capture_output=True, text=True)
    found = re.findall(r"lsn: (\w+/\w+), .*desc: (?:COMMIT|ABORT)(?:_PREPARED \d+:)? ([-\d]+ [\d:.]+) UTC", said.stdout)
    expected = [(wal.parse_lsn(lsn), moments.moment(f"{time}+00")) for lsn, time in found]
    assert len(expected) > 300

    def read(segment: Segment) -> bytes:
        return origin.segments[wal.segment_name(segment)]

    for (lsn, time), guess in itertools.product(expected[:-1:50], (0, len(path) - 1)):
        cut = wal_records.cut(path, wal.SEGMENT_BYTES, read, time, guess)
        assert (cut.last, cut.passed) == (wal_records.Ending(lsn, time), True)
    last = wal_records.cut(path, wal.SEGMENT_BYTES, read, expected[-1][1])
    assert (last.last, last.passed) == (wal_records.Ending(*expected[-1]), False)


@wide("origin", [15], [15, 18], indirect=True)
def test_all_that_was_archived_comes_back(origin: Origin, scratch: Start) -> None:
    reached, ids = _recovered(scratch, origin, {})
    assert ids == list(range(300))
    assert reached.time is not None and reached.time >= moments.moment(origin.stamps[-1])


@each_value(["origin"], origin=[15, 18], number=[0, 298])
def test_a_commit_is_there_and_the_next_one_is_not(origin: Origin, scratch: Start, number: int) -> None:
    """Commits are a millisecond apart, or less."""
    reached, ids = _recovered(scratch, origin, {"recovery_target_time": origin.stamps[number]})
    assert ids == list(range(number + 1))
    assert reached.time == moments.moment(origin.stamps[number])


@wide("origin", [18], [15, 18], indirect=True)
def test_before_the_first_commit_after_the_base_backup_nothing_is_there(origin: Origin, scratch: Start) -> None:
    assert _recovered(scratch, origin, {"recovery_target": "immediate"})[1] == []


@wide("origin", [15], [15, 18], indirect=True)
def test_a_restore_point_is_found(origin: Origin, scratch: Start) -> None:
    assert _recovered(scratch, origin, {"recovery_target_name": "before the mistake"})[1] == list(range(201))


@each_value(
    ["origin"],
    origin=[15, 18],
    target=[{"recovery_target_time": "2999-01-01 00:00:00+00"}, {"recovery_target_name": "no such point"}],
)
def test_a_target_that_is_not_met_is_told(origin: Origin, scratch: Start, target: dict[str, str]) -> None:
    with pytest.raises(TargetNotReached):
        _recovered(scratch, origin, target)


@wide("origin", [15], [15, 18], indirect=True)
def test_damaged_wal_is_no_end_of_wal(origin: Origin, scratch: Start) -> None:
    last = sorted(origin.segments)[-2]

    def segment(name: str) -> bytes | None:
        if name == last:
            raise BackupBad("it is damaged")
        return origin.segment(name)

    with pytest.raises(BackupBad, match="it is damaged"):
        _recovered(scratch, origin, {}, segment)


@wide("origin", [18], [15, 18], indirect=True)
def test_what_is_raised_in_the_middle_leaves_nothing(origin: Origin, scratch: Start) -> None:
    def segment(name: str) -> bytes | None:
        raise Interrupted(15)

    with pytest.raises(Interrupted):
        _recovered(scratch, origin, {}, segment)


@wide("origin", [18], [15, 18], indirect=True)
def test_a_changed_base_backup_is_refused(origin: Origin, scratch: Start) -> None:
    at = origin.base.index(b"PG_VERSION\0") + 512
    contents = backup_manifest.Contents()
    contents.add(backup_manifest.MAIN, _pieces(origin.base))
    large = dict.fromkeys(contents.compare().files, 1 << 30)  # so that each is read by one of several alone
    with scratch() as made:
        made.unpack(backup_manifest.MAIN, _pieces(origin.base[:at] + b"9" + origin.base[at + 1 :]))
        for sizes in [dict[str, int](), large]:
            with pytest.raises(BackupBad, match="PG_VERSION"):
                made.verify(sizes=sizes)


_KILLED = """
import sys
from pathlib import Path
from pgbackup.database.cluster import throwaway
from pgbackup.database.clients.client import Run
from tests.support import runs
image, pipes, owner, token = sys.argv[1:]
settings = runs.settings("x", "payment_user", "payment_db")
with throwaway.started(settings.targets[0], settings, Run(owner, token), image, Path(pipes), 256) as made:
    made.say("sh", "-c", "echo full of data >/tmp/file")
    print("up", flush=True)
    made.say("sleep", "600")
"""


@wide("origin", [15], [15, 18], indirect=True)
def test_kill_9_leaves_neither_container_nor_volume(origin: Origin, tmp_path: Path) -> None:
    run = runs.fresh_run()
    image = docker("inspect", "--format", "{{.Image}}", origin.server.id).stdout.strip()
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, image, str(tmp_path), run.owner, run.token],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{root / 'lib'}:{root}"},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        volumes = _volumes_of(runs.container_of(run))
        process.kill()
    assert volumes
    assert runs.soon(lambda: not docker("ps", "-aq", "--filter", f"label=pgbackup.owner={run.owner}").stdout)
    assert runs.soon(lambda: not volumes & _volumes())
