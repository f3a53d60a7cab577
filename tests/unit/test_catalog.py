"""What lies in a directory of backups: which files are a database's, in which order, and what is seen of them."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from pgbackup.formats import names
from pgbackup.store import catalog, folder
from pgbackup.store.catalog import Backup

from tests.support import backup_files
from tests.support.backup_files import EARLY


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def listed(directory: Path, database: str = backup_files.DATABASE, *, strangers: bool = False) -> list[Backup]:
    with folder.opened(directory, create=False) as place:
        return catalog.listing(place, database, strangers=strangers)


def test_the_newest_is_first_by_the_manifests_moment_not_by_the_files_time(directory: Path) -> None:
    paths = [backup_files.place(directory, EARLY + timedelta(days=day)) for day in (2, 0, 1)]
    for number, path in enumerate(paths):
        os.utime(path, (number, number))
    assert [backup.name for backup in listed(directory)] == [paths[number].name for number in (0, 2, 1)]


def test_a_renamed_backup_is_as_old_as_it_is(directory: Path) -> None:
    backup_files.place(directory, EARLY, name="auth_db_20250101_000000.sql.gz")
    assert listed(directory)[0].taken == EARLY


@pytest.mark.parametrize("manual", [False, True])
def test_one_made_by_hand_is_as_old_as_its_name_says(directory: Path, manual: bool) -> None:
    name = names.dated("auth_db_manual" if manual else "auth_db", EARLY)
    backup_files.place(directory, name=name, data=backup_files.by_hand(backup_files.dump()))
    (found,) = listed(directory)
    assert (found.taken, found.manual, found.manifest, found.problem) == (EARLY, manual, None, "")


@pytest.mark.parametrize(
    ("cut", "problem"), [(0, "it is empty"), (600, "it is cut off"), (-1, "it is cut off"), (None, "")]
)
def test_what_is_cut_off_is_seen_without_reading_it(directory: Path, cut: int | None, problem: str) -> None:
    backup_files.place(directory, data=backup_files.contents(backup_files.dump())[:cut])
    (found,) = listed(directory)
    assert found.problem.startswith(problem)
    assert bool(found.problem) == bool(problem)


def test_what_is_no_file_or_of_another_database_is_a_stranger(directory: Path) -> None:
    backup_files.place(directory)
    backup_files.place(directory, database="other", name="auth_db_20240116_020000.sql.gz")
    (directory / "auth_db_20240117_020000.sql.gz").mkdir()
    os.mkfifo(directory / "auth_db_20240118_020000.sql.gz")
    (directory / "auth_db_20240119_020000.sql.gz").symlink_to(names.dated("auth_db", EARLY))
    assert len(listed(directory)) == 1
    problems = [backup.problem for backup in listed(directory, strangers=True)]
    assert problems[-1] == ""
    assert [text[:24] for text in problems[:-1]] == [
        "it is a symbolic link, n",
        "it is not a regular file",
        "it is not a regular file",
        "its manifest says that i",
    ]


def test_backups_of_a_database_called_manual_are_not_ours_made_by_hand(directory: Path) -> None:
    backup_files.place(directory, database="auth_db_manual")
    assert listed(directory) == listed(directory, strangers=True) == []
    assert len(listed(directory, "auth_db_manual")) == 1


def test_files_that_come_and_go_meanwhile_do_no_harm(directory: Path) -> None:
    steady = backup_files.place(directory)
    data = steady.read_bytes()
    ended = threading.Event()

    def churn() -> None:
        while not ended.is_set():
            for day in range(1, 50):
                path = directory / names.dated("auth_db", EARLY + timedelta(days=day))
                path.write_bytes(data)
                path.unlink()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(200):
            assert steady.name in [backup.name for backup in listed(directory)]
    finally:
        ended.set()
        thread.join()


def test_a_listing_does_not_hold_what_adds_up(directory: Path) -> None:
    backup_files.place(directory)
    (found,) = listed(directory)
    assert found.manifest is not None
    assert found.manifest.sql_bytes == len(backup_files.dump())
    assert not found.manifest.rows
    assert not found.manifest.raw
