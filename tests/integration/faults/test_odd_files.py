"""Directories and files that are not what they should be: row 16 of the table of faults."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from pgbackup.formats import names

from tests.support import backups, databases, promises, servers
from tests.support.backups import Place, Source
from tests.support.effort import FULL, only_in_full

Tries = Callable[[int, int], int]
Note = Callable[..., None]


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[servers.Server]:
    with servers.running(15, name="pgbackup-test-a-", database="auth_db", user="auth_user") as running:
        yield running


def test_files_are_private_whatever_the_umask(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "umask 000, 777"
    for umask in ("000", "777"):
        expected(16, fault, 1)
        place = backups.place(tmp_path / umask, small)
        ended = place.run(prefix=["sh", "-c", f'umask {umask}; exec "$@"', "sh"])
        assert ended.status == 0, ended.stderr
        assert not promises.settled(place)  # the modes of the backups among them
        modes = {
            path.name: stat.S_IMODE(path.lstat().st_mode) for path in place.path.rglob("*") if not path.is_symlink()
        }
        assert modes.pop("backup.log") == 0o640
        assert all(mode == (0o700 if "." not in name else 0o600) for name, mode in modes.items()), modes
        survived(16, fault)


def test_a_directory_that_others_may_write_is_refused(place: Place, expected: Note, survived: Note) -> None:
    fault = "directory of mode 0777, 0770"
    for where in (place.path, place.directory()):
        for mode in (0o777, 0o770):
            expected(16, fault, 1)
            where.chmod(mode)
            ended = place.run()
            assert ended.status == 73, ended.stderr
            assert "may be written by others" in ended.stderr
            assert not place.fresh()
            where.chmod(0o700)
            survived(16, fault)
    assert not promises.after(place)


def test_a_directory_of_somebody_else_is_refused(
    server: servers.Server, tmp_path: Path, expected: Note, survived: Note
) -> None:
    """Run by an account that is not root: in a user namespace, where this account has another number."""
    backups.needs_root()
    fault = "directory of a foreign owner"
    expected(16, fault, 2)
    unprivileged = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if subprocess.run([*unprivileged, "true"], capture_output=True, check=False).returncode != 0:
        backups.missing("this machine has no user namespaces")
    place = backups.place(tmp_path / "backups", [databases.container_source(server, "auth", kind="exec")])
    mine = place.run(prefix=unprivileged)
    assert mine.status == 0, f"its own directory is fine: {mine.stderr}"
    before = len(place.fresh())
    for where in (place.directory(), place.path):
        shutil.chown(where, "nobody")
        ended = place.run(prefix=unprivileged)
        assert ended.status in (73, 77), ended.stderr
        assert ended.stderr.strip()
        shutil.chown(where, "root")
        assert len(place.fresh()) == before
        survived(16, fault)
    assert not promises.after(place)


def test_root_gives_what_it_makes_to_the_directorys_owner(place: Place) -> None:
    backups.needs_root()
    shutil.chown(place.path, "nobody")
    shutil.chown(place.directory(), "nobody")
    assert place.run().status == 0
    owners = {path.name: path.lstat().st_uid for path in place.path.rglob("*") if path not in place.planted}
    assert set(owners.values()) == {place.path.stat().st_uid}, owners


def test_a_link_in_place_of_a_directory_is_refused(
    place: Place, tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "symlink as directory"
    expected(16, fault, 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    aside = tmp_path / "aside"
    place.directory().rename(aside)
    place.directory().symlink_to(elsewhere)
    ended = place.run()
    assert ended.status == 73, ended.stderr
    assert not list(elsewhere.iterdir())
    place.directory().unlink()
    aside.rename(place.directory())
    assert not promises.after(place)
    survived(16, fault)


def plant_odd(path: Path, kind: str, victim: Path) -> None:
    """Put something under that name that is no plain file of its own; victim: what it leads to."""
    makers: dict[str, Callable[[], object]] = {
        "symlink": lambda: path.symlink_to(victim),
        "dangling symlink": lambda: path.symlink_to(victim.with_name("nothing")),
        "hard link": lambda: path.hardlink_to(victim),
        "FIFO": lambda: os.mkfifo(path),
        "device": lambda: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
        "directory": lambda: path.mkdir(),
        "socket": lambda: socket.socket(socket.AF_UNIX).bind(str(path)),
    }
    makers[kind]()


ODD = ["symlink", "hard link", "FIFO", *(["dangling symlink", "device", "directory"] if FULL else [])]
SECRET = "this must not change\n"


def victim_of(tmp_path: Path) -> Path:
    victim = tmp_path / "victim"
    victim.write_text(SECRET)
    victim.chmod(0o644)
    return victim


def untouched(victim: Path) -> bool:
    """Whether what an odd file leads to is as it was, and nothing came into being beside it (G)."""
    return (
        victim.read_text() == SECRET
        and stat.S_IMODE(victim.stat().st_mode) == 0o644
        and not victim.with_name("nothing").exists()
    )


def remove(path: Path) -> None:
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_in_a_place_of_ours_is_refused_or_passed_over(
    place: Place, tmp_path: Path, expected: Note, survived: Note, kind: str
) -> None:
    backups.needs_root()
    victim = victim_of(tmp_path)

    def tried(name: str, path: Path, statuses: set[int], published: int) -> backups.Ended:
        """One run with the odd file there."""
        fault = f"{kind} as {name}"
        expected(16, fault, 1)
        before = len(place.fresh())
        plant_odd(path, kind, victim)
        ended = place.end(place.start(), 30)
        assert ended.status in statuses, f"{fault}: {ended.status} {ended.stderr}"
        assert untouched(victim), fault
        assert len([one for one in place.fresh() if one != path]) - before == published, fault
        assert not [one for one in promises.problems(place) if path.name not in one], fault
        survived(16, fault)
        return ended

    lock = place.directory() / ".auth_db.lock"
    tried("lock", lock, {73}, 0)
    remove(lock)
    log = place.path / "backup.log"
    log.unlink()
    ended = tried("log", log, {74}, 1)
    assert "backup.log" in ended.stderr
    remove(log)
    latest = place.directory() / names.latest("auth_db")
    latest.unlink()
    if kind.endswith("symlink"):
        tried("LATEST", latest, {0}, 1)
        assert latest.resolve().parent == place.directory()
    else:
        tried("LATEST", latest, {73}, 1)
        remove(latest)
    leftover = place.directory() / f".pgbackup-{promises.owner(place, place.sources[0])}-0000.partial"
    if kind != "directory":
        tried("temporary file", leftover, {0}, 1)
        assert not os.path.lexists(leftover), "it was not swept"
    old = place.directory() / "auth_db_20240101_000000.sql.gz"
    tried("backup", old, {0}, 1)
    if os.path.lexists(old):
        remove(old)
    assert not promises.after(place)


@pytest.mark.parametrize("kind", [*ODD, "dangling symlink"] if not FULL else ODD)
def test_a_final_name_that_is_taken_is_passed_over(
    place: Place, tmp_path: Path, expected: Note, survived: Note, kind: str
) -> None:
    backups.needs_root()
    fault = f"{kind} as final name"
    expected(16, fault, 1)
    victim = victim_of(tmp_path)
    now = datetime.now(timezone.utc)
    taken = place.directory() / f"auth_db_{now:%Y%m%d_%H%M%S}.sql.gz"
    plant_odd(taken, kind, victim)
    ended = backups.run_at(place, now, TZ="UTC")
    assert ended.status == 0, ended.stderr
    assert untouched(victim)
    assert os.path.lexists(taken)
    assert len([path for path in place.fresh() if path != taken]) == 1
    remove(taken)
    assert not promises.after(place)
    survived(16, fault)


# ------------------------------------------------------------------------------------- tests of these tests

BUGS = {
    "links followed": [("store/folder.py", "flags | os.O_NOFOLLOW | ", "flags | ")],
    "umask trusted": [
        ("cli/main.py", "    os.umask(0o077)", "    # os.umask(0o077)"),
        ("store/workfiles.py", "        folder.close_to_others(descriptor)\n", ""),
    ],
    "the directory's mode not looked at": [
        ("store/folder.py", "if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)", "if False")
    ],
}


@only_in_full
@pytest.mark.parametrize("bug", BUGS)
def test_a_suite_with_a_bug_is_caught(place: Place, tmp_path: Path, bug: str) -> None:
    """Each bug makes that test fail which looks for it."""
    place.root = backups.mutated(tmp_path / "copy", *BUGS[bug])

    def quiet(*_: object) -> None:
        """Nothing is noted of a try that has to fail."""

    tests: dict[str, Callable[[], object]] = {
        "links followed": lambda: log_behind_a_link(place, tmp_path),
        "umask trusted": lambda: private(place),
        "the directory's mode not looked at": lambda: test_a_directory_that_others_may_write_is_refused(
            place, quiet, quiet
        ),
    }
    with pytest.raises(AssertionError):
        tests[bug]()


def log_behind_a_link(place: Place, tmp_path: Path) -> None:
    victim = victim_of(tmp_path)
    (place.path / "backup.log").symlink_to(victim)
    place.run()
    assert untouched(victim)


def private(place: Place) -> None:
    assert place.run(prefix=["sh", "-c", 'umask 777; exec "$@"', "sh"]).status == 0
    assert not promises.settled(place)
