"""make install lets the backup account write metrics, and opens nothing else to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pgbackup.errors import CannotCreate
from pgbackup.host import accounts
from pgbackup.host.accounts import Account

from tests.support.backups import needs_root

NOBODY = accounts.find("nobody")
ROOT = accounts.find("root")


@pytest.fixture(autouse=True)
def as_root() -> None:
    needs_root()


def opened(directory: Path, account: Account = NOBODY) -> str:
    told = accounts.open_collector(directory, account)
    assert accounts.may_write(directory, account)
    return told


def owner(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def test_one_that_is_absent_is_made_for_the_account_whatever_the_umask(tmp_path: Path) -> None:
    os.umask(0o077)
    assert opened(tmp_path / "a/b") == f"made '{tmp_path}/a/b'"
    assert owner(tmp_path / "a/b") == (NOBODY.uid, NOBODY.gid, 0o755)


def test_roots_own_one_with_metrics_is_opened_to_the_group_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "apt.prom").touch()
    assert "opened" in opened(tmp_path) and opened(tmp_path) == ""
    assert owner(tmp_path) == (0, NOBODY.gid, 0o775)


@pytest.mark.parametrize("there", ["passwd", ".hidden", "directory", "link.prom"])
def test_a_directory_for_other_things_is_not(tmp_path: Path, there: str) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / there
    path.mkdir() if there == "directory" else path.symlink_to("/etc") if there == "link.prom" else path.touch()
    with pytest.raises(CannotCreate, match="may not write") as told:
        accounts.open_collector(tmp_path, NOBODY)
    assert "setfacl -m u:nobody:rwx" in (told.value.hint or "")
    assert owner(tmp_path) == (0, 0, 0o755)


def test_somebody_elses_directory_is_not(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(CannotCreate):
        accounts.open_collector(tmp_path, NOBODY)
    assert owner(tmp_path) == (12345, 12345, 0o755)


def test_root_may_write_anywhere(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    assert opened(tmp_path, ROOT) == ""
