"""BACKUP_DIR on a file system that lacks something, as SMB, exFAT and FUSE do. Row 98 of the table of faults."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pgbackup.errors import NoBackup
from pgbackup.store import source

from tests.integration.faults.test_disk import broken
from tests.support import backups, databases, promises
from tests.support.backups import Place, Source
from tests.support.effort import chosen

Note = Callable[..., None]

# What each says: vfat and exFAT EPERM, SMB EOPNOTSUPP or EACCES, FUSE ENOSYS.
LACKING = [
    ("symlinkat", "EPERM"),
    ("linkat", "EOPNOTSUPP"),
    ("linkat,symlinkat,fchmod,fchown,fchownat,utimensat", "EPERM"),
    ("utimensat", "ENOSYS"),
    ("fadvise64", "EINVAL"),
]
LACKING_TOO = [
    ("symlinkat", "EOPNOTSUPP"),
    ("symlinkat", "ENOSYS"),
    ("symlinkat", "EACCES"),
    ("linkat", "ENOSYS"),
    ("linkat,symlinkat,fchmod,fchown,fchownat,utimensat", "EOPNOTSUPP"),
]


@pytest.fixture(scope="module")
def sources() -> Iterator[list[Source]]:
    with databases.embedded_sources(rows=20) as found:
        yield found[:1]


@pytest.fixture
def place(sources: list[Source], tmp_path: Path) -> Place:
    backups.needs(strace="strace")
    return backups.place(tmp_path / "backups", sources)


def lacking(
    place: Place, calls: str, error: str, verb: str = "backup", *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a command on a file system on which these calls fail, all of them, each time."""
    program = [str(place.root / ".venv/bin/python"), "-I", str(place.root / "lib/pgbackup"), verb, *arguments]
    strace = ["strace", "-f", "-b", "execve", "-o", "/dev/null", "-e", f"inject={calls}:error={error}"]
    argv = [*strace, "-e", f"trace={calls}", *program]
    return subprocess.run(argv, env=place.environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("calls", "error"), chosen(LACKING, LACKING + LACKING_TOO))
def test_what_a_file_system_lacks_keeps_no_backup_from_being_made_nor_an_old_one_from_expiring(
    place: Place, expected: Note, survived: Note, calls: str, error: str
) -> None:
    fault = f"{calls} always fails: {error}"
    expected(98, fault, 1)
    place.plant(place.sources[0], ages=[40 + day for day in range(backups.MINIMUM + 2)])
    for run in (1, 2):
        done = lacking(place, calls, error)
        assert done.returncode == 0, done.stderr
        latest = place.directory() / f"{place.sources[0].database}_LATEST.sql.gz"
        if "symlinkat" in calls:
            assert f"there is no '{latest.name}'" in done.stderr and not os.path.lexists(latest)
        else:
            assert latest.exists() and "warning" not in done.stderr
        assert len(place.fresh()) == run
        left = [path for path in place.files() if path in place.planted]
        assert len(left) == backups.MINIMUM - run, "the old ones expire as always"
    assert not promises.problems(place, sweep=True)
    survived(98, fault)


def test_the_newest_is_found_by_the_name_of_the_link_that_there_is_not(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, directory = place.sources[0].database, place.directory()
    latest = f"{database}_LATEST.sql.gz"
    monkeypatch.chdir(place.path)
    place.plant(place.sources[0])
    with pytest.raises(NoBackup):
        source.find(latest, place.path, database)
    for _ in range(2):
        assert lacking(place, "symlinkat", "EPERM").returncode == 0
    newest = max(place.fresh())
    assert source.find(latest, directory, database) == newest
    assert source.find(str(directory / latest), directory, database) == newest
    newest.write_bytes(b"")
    assert source.find(latest, directory, database) == min(place.fresh()), "the newest good one"
    assert lacking(place, "symlinkat", "EPERM", "verify").returncode == 65


@pytest.mark.parametrize("error", chosen(["ENOLCK", "ENOSYS"], ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL"]))
def test_without_locks_nothing_is_begun(place: Place, expected: Note, survived: Note, error: str) -> None:
    expected(98, f"flock always fails: {error}", 1)
    place.plant(place.sources[0])
    done = lacking(place, "flock", error)
    assert done.returncode == 73, done.stderr
    assert f"cannot lock in '{place.directory()}': " in done.stderr and "local_lock" in done.stderr
    assert not place.fresh() and all(path.exists() for path in place.planted)
    assert not promises.after(place)
    survived(98, f"flock always fails: {error}")


def test_a_directory_that_cannot_be_synced_is_no_failure_and_one_that_fails_is(place: Place) -> None:
    """fsync(2) of a directory: EINVAL on file systems that have nothing to sync there."""
    _, trace = broken(place, "fsync", "", 0)
    numbers: dict[str, int] = {}
    directories = []
    for thread, path in re.findall(r"^(\d+) +fsync\(\d+<([^>]*)>", trace, re.MULTILINE):
        numbers[thread] = numbers.get(thread, 0) + 1
        directories += [numbers[thread]] * (Path(path) == place.directory())
    assert directories
    for number in directories:
        place.reset()
        assert broken(place, "fsync", "error=EINVAL", number)[0].status == 0
        assert len(place.fresh()) == 1
        place.reset()
        assert broken(place, "fsync", "error=EIO", number)[0].status == 74


def test_rows_are_never_written_where_others_could_read_them(place: Place) -> None:
    """As SMB is mounted where nobody asks for more: each file 0755, and chmod does nothing."""
    place.directory().mkdir(parents=True, exist_ok=True)
    place.directory().chmod(0o755)
    program = [str(place.root / ".venv/bin/python"), "-I", "-c", OPEN_TO_ALL, str(place.root / "lib")]
    done = subprocess.run(program, env=place.environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 73, done.stderr
    assert "others could read the backups" in done.stderr and "umask=0077" in done.stderr
    assert not place.fresh()
    place.directory().chmod(0o700)
    done = subprocess.run(program, env=place.environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(place.fresh()) == 1, "the directory keeps others out"


OPEN_TO_ALL = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pgbackup.cli import main as cli
plain = os.open
def opened(path, flags, mode=0o777, **options):
    descriptor = plain(path, flags, mode, **options)
    if flags & os.O_CREAT:
        chmod(descriptor, 0o755)
    return descriptor
chmod = os.fchmod
os.open, os.fchmod = opened, lambda descriptor, mode: None
sys.exit(cli.main(["backup"]))
"""
