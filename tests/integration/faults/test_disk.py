"""Disks that are full, broken, read-only or not there: rows 6 to 8 of the table of faults."""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import backups, databases, promises
from tests.support.backups import Place, Source
from tests.support.effort import only_in_full, wide

Tries = Callable[[int, int], int]
Note = Callable[..., None]
STEP_BYTES = 64 << 10


@pytest.fixture(scope="module")
def small() -> Iterator[list[Source]]:
    """auth_db on an embedded server: a backup of about half a megabyte."""
    with databases.embedded_sources(rows=2000) as sources:
        yield sources[:1]


@pytest.fixture(scope="module")
def large() -> Iterator[list[Source]]:
    """The same with 10 MB more, so that a dump takes a while."""
    with databases.embedded_sources(bulk=databases.BULK_ROWS) as sources:
        yield sources[:1]


def mount(where: Path, *options: str) -> None:
    done = subprocess.run(["mount", *options, str(where)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        backups.missing(f"this machine lets nobody mount: {done.stderr.strip()}")


def unmount(where: Path) -> None:
    subprocess.run(["umount", "-l", str(where)], capture_output=True, check=False)


@contextmanager
def disk(where: Path, **limits: int) -> Iterator[Path]:
    """Mount a small disk in memory: size (bytes), nr_inodes."""
    backups.needs_root()
    where.mkdir(parents=True, exist_ok=True)
    options = ",".join(["mode=0700", *(f"{key}={value}" for key, value in limits.items())])
    mount(where, "-t", "tmpfs", "-o", options, "tmpfs")
    try:
        yield where
    finally:
        unmount(where)


def resize(where: Path, **limits: int) -> None:
    mount(where, "-o", ",".join(["remount", *(f"{key}={value}" for key, value in limits.items())]))


# ------------------------------------------------------------------------------------------------- row 6


def test_a_disk_that_is_full_at_any_size_keeps_the_old_backups(
    small: list[Source], tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    """Without a manifest to learn a size from, so that the run begins and fails in writing."""
    fault = "disk full after each 64 KiB"
    with disk(tmp_path / "disk", size=16 << 20) as where:
        place = backups.place(where, small)
        place.plant(small[0], by_hand=True)
        assert place.run("-q").status == 0
        whole = range(0, place.fresh()[0].stat().st_size, STEP_BYTES)
        assert len(whole) > 4
        chosen = sorted(random.Random(6).sample(whole, min(len(whole), tries(2, len(whole)))))
        expected(6, fault, len(chosen))
        for room in chosen:
            resize(where, size=16 << 20)
            place.reset()
            place.plant(small[0], by_hand=True)
            resize(where, size=taken(where) + 4096 + room)
            ended = place.run()
            assert ended.status != 0, f"{room} bytes are not too few"
            assert "space" in ended.stderr
            logged = ended.log if any("run.start" in line for line in ended.log) else []
            assert not promises.problems(place, sweep=True), room
            assert not logged or not promises.failed(place, ended, {74}), room
            resize(where, size=16 << 20)
            assert not promises.after(place, "-q"), room
            survived(6, fault)


def taken(where: Path) -> int:
    status = os.statvfs(where)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def test_a_run_that_would_not_fit_is_refused_before_it_begins(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "less room than 1.5 times the last backup"
    expected(6, fault, 1)
    with disk(tmp_path / "disk", size=16 << 20) as where:
        place = backups.place(where, small)
        place.plant(small[0])
        last = max(place.planted).stat().st_size
        resize(where, size=taken(where) + int(1.4 * last))
        ended = place.run()
        assert not promises.failed(place, ended, 74)
        assert "too little space" in ended.stderr
        resize(where, size=taken(where) + int(1.7 * last) + 65536)
        assert not promises.after(place)
        survived(6, fault)


def test_a_disk_without_inodes_keeps_the_old_backups(
    small: list[Source], tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    """From none left to one too few: the lock, the FIFOs' directory, the file, its final name, LATEST, the log."""
    fault = "inodes used up, at every number of them"
    with disk(tmp_path / "disk", size=16 << 20, nr_inodes=64) as where:
        place = backups.place(where, small)
        for spare in range(0, 12, tries(3, 1)):
            resize(where, nr_inodes=64)
            place.reset()
            place.plant(small[0])
            status = os.statvfs(where)
            resize(where, nr_inodes=status.f_files - status.f_ffree + spare)
            ended = place.run()
            found = promises.problems(place, sweep=True)
            assert not found, spare
            if ended.status == 0:
                break
            expected(6, fault, 1)
            assert ended.status == 74 or "backup.log" in ended.stderr, f"{spare}: {ended.status} {ended.stderr}"
            assert ended.stderr.strip()
            resize(where, nr_inodes=64)
            assert not promises.after(place, "-q"), spare
            survived(6, fault)
        else:
            pytest.fail("the run never succeeded: the test does not give it what it needs")
        assert spare > 3


def test_a_log_that_cannot_be_written_is_a_failure_and_the_backup_is_there(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "disk of the log full"
    expected(6, fault, 1)
    with disk(tmp_path / "top", size=65536) as top, disk(top / "auth", size=16 << 20):
        place = backups.place(top, small)
        place.plant(small[0])
        (top / "filler").touch()
        (top / "filler").write_bytes(bytes((os.statvfs(top).f_bfree) * os.statvfs(top).f_frsize))
        ended = place.run()
        assert ended.status == 74
        assert "backup.log" in ended.stderr
        assert len(place.fresh()) == 1
        assert not promises.problems(place, sweep=True)
        (top / "filler").unlink()
        assert not promises.after(place)
        survived(6, fault)


# ------------------------------------------------------------------------------------------------- row 7


def broken(
    place: Place, call: str, error: str, number: int, *, paths: Sequence[Path] = ()
) -> tuple[backups.Ended, str]:
    """Run with the system call failing at its number-th use in a thread; return how it ended and the calls."""
    log = place.path.parent / "trace"
    only = [word for path in paths for word in ("-P", str(path))]
    strace = ["strace", "-f", "-y", "-b", "execve", "-o", str(log), "-e", f"trace={call}", *only]
    inject = ["-e", f"inject={call}:{error}:when={number}"] if number else []
    program = [str(place.root / ".venv/bin/python"), "-I", str(place.root / "lib/pgbackup"), "backup"]
    before = len(place.log())
    done = subprocess.run(
        [*strace, *inject, *program], env=place.environment, capture_output=True, text=True, timeout=60, check=False
    )
    return backups.Ended(done.returncode, done.stdout, done.stderr, 0, place.log()[before:]), log.read_text()


def count_in_place(trace: str, place: Place) -> list[int]:
    """The numbers, counted in their threads, of the calls that touch the database's directory."""
    seen: dict[str, int] = {}
    found = set()
    for thread, rest in re.findall(r"^(\d+) +(\w+\(.*)$", trace, re.MULTILINE):
        seen[thread] = seen.get(thread, 0) + 1
        ours = f"<{place.directory()}" in rest and ".ledger." not in rest  # how many come before that one varies
        if ours and (".partial" in rest or not rest.startswith(("pread64", "fchmod"))):
            found.add(seen[thread])
    return sorted(found)


FAILING = [
    ("write", "error=EIO", {74}),
    ("write", "retval=1", {65, 74}),
    ("fsync", "error=EIO", {74}),
    ("linkat", "error=EXDEV", {74}),
    ("symlinkat", "error=EROFS", {74}),
    ("renameat", "error=EXDEV", {74}),
    ("pread64", "error=EIO", {74}),
]
FAILING_TOO = [
    ("write", "error=ENOSPC", {74}),
    ("fsync", "error=EDQUOT", {74}),
    ("linkat", "error=EIO", {74}),
    ("linkat", "error=EROFS", {74}),
    ("symlinkat", "error=ENOSPC", {74}),
    ("renameat", "error=EIO", {74}),
]


@wide("call, error, statuses", FAILING, [*FAILING, *FAILING_TOO])
def test_a_disk_that_fails_a_call_fails_the_run_and_never_a_backup(
    small: list[Source],
    tmp_path: Path,
    tries: Tries,
    expected: Note,
    survived: Note,
    call: str,
    error: str,
    statuses: set[int],
) -> None:
    backups.needs(strace="strace")
    place = backups.place(tmp_path / "backups", small)
    place.plant(small[0])
    numbers = count_in_place(broken(place, call, error, 0)[1], place)
    assert numbers, f"{call} is never called: the test looks at the wrong calls"
    chosen = sorted(random.Random(call + error).sample(numbers, min(len(numbers), tries(1, 25))))
    fault = f"{error.partition('=')[2].replace('1', 'short, and lied about')} on {call}"
    expected(7, fault, len(chosen))
    for number in chosen:
        place.reset()
        place.plant(small[0])
        ended, trace = broken(place, call, error, number)
        assert "(INJECTED)" in trace, f"{call} {number} was not reached"
        assert ended.status in statuses, f"{call} {number}: {ended.status} {ended.stderr}"
        assert not promises.told(ended), f"{call} {number}"
        assert not promises.problems(place, sweep=True), f"{call} {number}"
        if call == "fsync":
            assert not fsync_again(trace), "a failed fsync was tried again"
        # The log's last line and the note of how the run ended come after the retention.
        if "backup.log" not in ended.stderr and "could not be noted" not in ended.stderr:
            assert all(path.exists() for path in place.planted), "something expired after a failure"
        assert not promises.after(place, "-q"), f"{call} {number}"
        survived(7, fault)


@pytest.mark.parametrize("call, error", [("write", "ENOSPC"), ("fsync", "EIO")])
@pytest.mark.fault(7, "calls that fail while the end of a run is noted")
def test_a_run_that_cannot_be_noted_fails_with_its_backup_published(
    small: list[Source], tmp_path: Path, call: str, error: str
) -> None:
    backups.needs(strace="strace")
    place = backups.place(tmp_path / "backups", small)
    fresh = place.directory() / f".{small[0].database}.ledger.json.new"
    ended, trace = broken(place, call, f"error={error}", 1, paths=[fresh])
    assert "(INJECTED)" in trace and ended.status == 74
    assert "published, but it could not be noted" in ended.stderr
    assert not promises.told(ended) and not promises.problems(place, sweep=True)
    assert len(place.files(small[0])) == 1 and not fresh.exists()
    assert not promises.after(place, "-q")


def fsync_again(trace: str) -> bool:
    """Whether the file or directory of the fsync that failed was synced once more."""
    synced = re.findall(r"fsync\(\d+<([^>]*)>\) += (-?\d+)", trace)
    failed = [index for index, (_, result) in enumerate(synced) if result == "-1"]
    return any(name == synced[failed[0]][0] for name, _ in synced[failed[0] + 1 :])


@wide(
    "call, error",
    [("write", "error=EINTR"), ("linkat", "error=EPERM")],
    [("write", "error=EINTR"), ("fsync", "error=EINTR"), ("linkat", "error=EPERM")],
)
def test_what_is_no_failure_of_the_disk_does_not_fail_the_run(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note, call: str, error: str
) -> None:
    """EINTR is to be tried again (PEP 475); a file system without hard links (EPERM) is one to back up to."""
    backups.needs(strace="strace")
    fault = f"{error.partition('=')[2]} on {call}"
    expected(7, fault, 1)
    place = backups.place(tmp_path / "backups", small)
    place.plant(small[0])
    number = count_in_place(broken(place, call, error, 0)[1], place)[0]
    place.reset()
    place.plant(small[0])
    ended, trace = broken(place, call, error, number)
    assert "(INJECTED)" in trace
    assert ended.status == 0, ended.stderr
    assert len(place.fresh()) == 1
    assert not promises.told(ended) + promises.problems(place, sweep=True)
    assert not promises.after(place)
    survived(7, fault)


# ------------------------------------------------------------------------------------------------- row 8


def test_a_mount_that_is_absent_gets_nothing_written_beneath_it(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "backup mount absent, by BACKUP_MOUNT and by fstab"
    expected(8, fault, 2)
    backups.needs_root()
    where = tmp_path / "disk"
    place = backups.place(where, small)
    ended = place.run(BACKUP_MOUNT=str(where))
    assert ended.status == 73, ended.stderr
    assert "not mounted" in ended.stderr
    assert not list(where.iterdir())
    survived(8, fault)
    fstab = tmp_path / "fstab"
    fstab.write_text(f"# a comment\nUUID=0 {where} ext4 defaults 0 2\n")
    inside = ["unshare", "--mount", "sh", "-c", f'mount --bind "{fstab}" /etc/fstab && exec "$@"', "sh"]
    ended = place.run(prefix=inside)
    assert ended.status == 73, ended.stderr
    assert "fstab" in ended.stderr
    assert not list(where.iterdir())
    survived(8, fault)
    with disk(where, size=16 << 20):
        assert place.run(BACKUP_MOUNT=str(where)).status == 0
        assert place.run(prefix=inside).status == 0
        assert not promises.problems(place, sweep=True)
    assert not list(where.iterdir())


def test_a_disk_unmounted_in_mid_dump_gets_nothing_written_beneath_it(
    large: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "unmounted in mid-dump"
    expected(8, fault, 1)
    where = tmp_path / "disk"
    with disk(where, size=64 << 20):
        place = backups.place(where, large)
        with backups.in_dump(place) as process:
            unmount(where)
        ended = place.end(process)
        assert ended.status == 74, ended.stderr
        assert not list(where.iterdir())
    assert not list(where.iterdir())
    with disk(where, size=64 << 20):
        assert not promises.after(place)
    survived(8, fault)


@contextmanager
def ext4(where: Path, image: Path) -> Iterator[Path]:
    """A real file system that turns read-only at its first error; yield the file that makes one."""
    backups.needs_root()
    backups.needs(e2fsprogs="mkfs.ext4")
    where.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mount(where, "-o", "loop,errors=remount-ro", str(image))
    try:
        device = next(
            line.split()[0] for line in Path("/proc/self/mounts").read_text().splitlines() if f" {where} " in line
        )
        subprocess.run(["rm", "-rf", str(where / "lost+found")], check=True)
        where.chmod(0o700)
        yield Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error")
    finally:
        unmount(where)


def test_a_disk_that_turns_read_only_in_mid_dump_keeps_the_old_backups(
    large: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "read-only in mid-dump, after an error of the file system"
    expected(8, fault, 1)
    image = tmp_path / "image"
    with ext4(tmp_path / "disk", image) as trigger:
        place = backups.place(tmp_path / "disk", large)
        place.plant(large[0])
        os.sync()
        with backups.in_dump(place) as process:
            trigger.write_text("the test makes an error")
        ended = place.end(process)
        assert ended.status == 74, ended.stderr
        assert not place.fresh()
        assert not promises.problems(place)
        assert all(path.exists() for path in place.planted)
    subprocess.run(["fsck.ext4", "-fy", str(image)], capture_output=True, check=False)
    try:
        mount(tmp_path / "disk", "-o", "loop", str(image))
        assert not promises.after(place)
    finally:
        unmount(tmp_path / "disk")
    survived(8, fault)


def test_a_read_only_disk_fails_the_run_loudly(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "read-only from the start"
    expected(8, fault, 1)
    with disk(tmp_path / "disk", size=16 << 20) as where:
        place = backups.place(where, small)
        place.plant(small[0])
        mount(where, "-o", "remount,ro")
        ended = place.run()
        assert ended.status == 74, ended.stderr
        assert "backup.log" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert not promises.problems(place)
        mount(where, "-o", "remount,rw")
        assert not promises.after(place)
        survived(8, fault)


# ------------------------------------------------------------------------------------- tests of these tests


@only_in_full
def test_a_suite_that_ignores_a_failed_fsync_is_caught(small: list[Source], tmp_path: Path) -> None:
    backups.needs(strace="strace")
    place = backups.place(tmp_path / "backups", small)
    place.root = backups.mutated(
        tmp_path / "copy",
        ("commands/dump.py", "            os.fsync(descriptor)\n", "            pass\n"),
    )
    _, trace = broken(place, "fsync", "error=EIO", 0)
    assert not re.search(r"fsync\(\d+<[^>]*\.partial>\) += 0", trace), "checker is broken: the bug is not seen"
    assert fsync_again("1 fsync(5</a>) = -1 EIO (INJECTED)\n1 fsync(5</a>) = 0\n")
    assert not fsync_again("1 fsync(5</a>) = -1 EIO (INJECTED)\n1 fsync(5</b>) = 0\n")


@only_in_full
def test_a_suite_that_does_not_read_back_is_caught(small: list[Source], tmp_path: Path) -> None:
    """A disk that takes bytes and loses them is found by reading back alone."""
    backups.needs(strace="strace")
    place = backups.place(tmp_path / "backups", small)
    place.root = backups.mutated(
        tmp_path / "copy",
        (
            "commands/dump.py",
            "            behind.prove(written, member, advance)\n",
            "            pass\n",
        ),
    )
    number = count_in_place(broken(place, "write", "retval=1", 0)[1], place)[1]
    place.reset()
    ended, _ = broken(place, "write", "retval=1", number)
    assert ended.status == 0 and promises.problems(place), "checker is broken: no error found"
