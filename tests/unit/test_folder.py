"""Directories of backups: made private, refused when they are unsafe, and used by descriptor."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from pgbackup.errors import CannotCreate, IoFailed, PermissionDenied, SuiteError, path_error
from pgbackup.store import folder

from tests.support.accounts import nobody


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_missing_directory_is_made_private(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with folder.opened(tmp_path / "new", create=True):
            assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_one_that_is_missing_is_not_made_to_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate, match="it is not there"), folder.opened(tmp_path / "new", create=False):
        pass
    assert not (tmp_path / "new").exists()


def test_a_missing_parent_is_told_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate) as caught, folder.opened(tmp_path / "a" / "b", create=True):
        pass
    assert "install -d" in str(caught.value.hint)


@pytest.mark.parametrize("where", ["a/b", "file/b", "closed/b", "open/b"])
def test_that_one_could_not_be_made_is_known_without_making_it(where: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        (top / "closed").mkdir(0o755)
        (top / "open").mkdir()
        (top / "open").chmod(0o777)
        (top / "file").write_text("")
        said = []
        with nobody():
            for attempt in (folder.check_creatable, _make):
                try:
                    attempt(top / where)
                    said.append("made")
                except SuiteError as error:
                    said.append(f"{error.status} {error.message} {error.hint}")
        assert said[0] == said[1]
        assert ("made" in said) == (where == "open/b")


def _make(path: Path) -> None:
    with folder.opened(path, create=True):
        pass


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
@pytest.mark.parametrize("create", [False, True])
def test_one_that_others_may_write_to_is_refused(tmp_path: Path, mode: int, create: bool) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(CannotCreate, match="written by others"), folder.opened(tmp_path, create=create):
        pass
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("create", [False, True])
def test_a_link_is_refused_but_for_backup_dir_itself(tmp_path: Path, create: bool) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(CannotCreate, match="symbolic link"), folder.opened(tmp_path / "link", create=create):
        pass
    with folder.opened(tmp_path / "link", create=create, top=True) as place:
        assert place.reachable()


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreate, match="not a directory"), folder.opened(tmp_path / "file", create=True):
        pass


def test_a_directory_that_was_exchanged_is_noticed(tmp_path: Path) -> None:
    with folder.opened(tmp_path / "place", create=True) as place:
        assert place.reachable()
        (tmp_path / "place").rename(tmp_path / "away")
        assert not place.reachable()
        (tmp_path / "place").mkdir()
        assert not place.reachable()


def test_a_mount_that_is_missing_stops_everything(tmp_path: Path) -> None:
    folder.check_mounted(Path("/proc"), "")
    with pytest.raises(CannotCreate, match="is not mounted"):
        folder.check_mounted(tmp_path, "")


def test_a_mount_that_fstab_promises_above_the_directory_must_be_there(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    lines = (f"# comment {tmp_path}", "UUID=1 / ext4", f"UUID=2 {tmp_path} ext4 noauto 0 2", "UUID=3 /proc", "", "odd")
    fstab.write_text("\n".join(lines))
    below = folder.fstab_lines_above(tmp_path / "backups", fstab)
    with pytest.raises(CannotCreate, match=f"'{tmp_path}' is in /etc/fstab but not mounted"):
        folder.check_mounted(None, below)
    assert folder.fstab_lines_above(Path("/elsewhere/backups"), fstab) == ""
    assert folder.fstab_lines_above(tmp_path, tmp_path / "absent") == ""


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (13, PermissionDenied),
        (1, PermissionDenied),
        (20, CannotCreate),
        (40, CannotCreate),
        (28, IoFailed),
        (5, IoFailed),
    ],
)
def test_what_the_system_says_becomes_an_error_that_names_the_path(number: int, kind: type, tmp_path: Path) -> None:
    found = path_error(OSError(number, os.strerror(number)), tmp_path)
    assert isinstance(found, kind)
    assert str(tmp_path) in found.message
    assert found.hint
