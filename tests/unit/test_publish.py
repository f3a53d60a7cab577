"""Publishing: a final name is never taken from another file, LATEST changes in one step, removing is exact."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pgbackup.errors import CannotCreate, IoFailed
from pgbackup.formats import names
from pgbackup.store import publish
from pgbackup.store.folder import Folder, opened

STARTED = datetime(2024, 1, 15, 2, tzinfo=timezone.utc)
LATEST = names.latest("app")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Folder]:
    tmp_path.chmod(0o700)
    with opened(tmp_path, create=False) as found:
        yield found


def published(place: Folder, text: str, started: datetime = STARTED) -> str:
    (place.path / ".partial").write_text(text)
    name = publish.publish(place, ".partial", "app", started)
    (place.path / ".partial").unlink(missing_ok=True)
    return name


def test_a_name_that_is_taken_is_passed_over_and_its_file_stays(place: Folder) -> None:
    found = [published(place, str(number)) for number in range(5)]
    assert found == [names.dated("app", STARTED + timedelta(seconds=second)) for second in range(5)]
    assert [(place.path / name).read_text() for name in found] == list("01234")


@pytest.mark.parametrize("what", ["directory", "link to nothing"])
def test_whatever_has_the_name_stays(place: Folder, what: str) -> None:
    taken = place.path / names.dated("app", STARTED)
    taken.mkdir() if what == "directory" else taken.symlink_to("nothing")
    assert published(place, "new") == names.dated("app", STARTED + timedelta(seconds=1))
    assert taken.is_dir() or taken.is_symlink()


def test_a_file_that_cannot_be_published_has_no_final_name(place: Folder) -> None:
    with pytest.raises(OSError, match="No such file"):
        publish.publish(place, ".absent", "app", STARTED)
    assert not list(place.path.iterdir())


def test_latest_leads_to_the_file_by_its_bare_name_and_looks_older(place: Folder) -> None:
    for second in range(3):
        name = published(place, "text", STARTED + timedelta(seconds=second))
        publish.point_latest(place, "app", name, ".link")
        assert str((place.path / LATEST).readlink()) == name
        assert (place.path / LATEST).lstat().st_mtime < (place.path / name).stat().st_mtime
    assert not (place.path / ".link").is_symlink()


def test_latest_is_always_there_while_it_changes(place: Folder) -> None:
    found = [published(place, "text", STARTED + timedelta(seconds=second)) for second in range(2)]
    publish.point_latest(place, "app", found[0], ".link")
    ended, missing = threading.Event(), []

    def look() -> None:
        while not ended.is_set():
            try:
                (place.path / LATEST).read_text()
            except OSError as error:
                missing.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(300):
        publish.point_latest(place, "app", found[number % 2], ".link")
    ended.set()
    thread.join()
    assert not missing


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_latest_that_is_no_link_is_not_replaced(place: Folder, what: str) -> None:
    name = published(place, "text")
    latest = place.path / LATEST
    latest.mkdir() if what == "directory" else latest.write_text("an operator's copy")
    with pytest.raises(CannotCreate, match="is not a link"):
        publish.point_latest(place, "app", name, ".link")
    assert latest.is_dir() or latest.read_text() == "an operator's copy"
    assert not (place.path / ".link").is_symlink()


def test_removing_takes_that_file_and_not_what_it_leads_to(place: Folder) -> None:
    name = published(place, "text")
    (place.path / "link").symlink_to(name)
    publish.remove(place, "link")
    publish.remove(place, "gone already")
    assert (place.path / name).read_text() == "text"
    publish.remove(place, name)
    assert not list(place.path.iterdir())


def test_what_cannot_be_removed_is_an_error_that_names_it(place: Folder) -> None:
    (place.path / "app_20240115_020000.sql.gz").mkdir()
    with pytest.raises(IoFailed, match="cannot remove the expired backup"):
        publish.remove(place, "app_20240115_020000.sql.gz")
