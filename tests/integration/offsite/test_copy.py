"""copy-backups.sh: what is published and proven is copied, encrypted, confirmed, and never twice."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from pgbackup.formats import sealed

from tests.support import backup_files, copies, elsewhere, engine, sftp_server
from tests.support.copies import DIRECTORY, HOST, Copier
from tests.support.effort import wide


def test_every_proven_backup_is_copied_encrypted_and_comes_back_the_same(host: Copier) -> None:
    backups = host.plant(2, 1, 0)
    ended = host.run("--json")
    assert (ended.status, ended.stderr) == (0, "".join(ended.stderr)), ended.stderr
    (place,) = ended.document["places"]
    assert [one["object"] for one in place["copied"]] == [host.name_of(path) for path in reversed(backups)], (
        "newest first"
    )
    assert (place["waiting"], place["problems"]) == (0, [])
    assert not host.problems(backups)
    assert b"Anna" not in b"".join(host.place.get(host.name_of(backups[0])))


def test_what_is_there_is_not_copied_again(disk_host: Copier) -> None:
    backups = disk_host.plant(1)
    disk_host.run()
    before = {one.name: one.modified for one in disk_host.place.list(f"{HOST}/dumps")}
    backups += disk_host.plant(0)
    again = disk_host.run("--json")
    assert [one["object"] for one in again.document["places"][0]["copied"]] == [disk_host.name_of(backups[1])]
    after = {one.name: one.modified for one in disk_host.place.list(f"{HOST}/dumps")}
    assert before.items() <= after.items()
    assert disk_host.run("--json").document["places"][0]["copied"] == []
    assert not disk_host.problems(backups)


def test_a_stock_age_opens_what_was_copied(disk_host: Copier, tmp_path: Path) -> None:
    (backup,) = disk_host.plant(0)
    disk_host.run()
    (tmp_path / "key").write_text(disk_host.identity + "\n")
    (tmp_path / "object").write_bytes(b"".join(disk_host.place.get(disk_host.name_of(backup))))
    try:
        opened = subprocess.run(
            ["age", "-d", "-i", str(tmp_path / "key"), str(tmp_path / "object")], capture_output=True, check=True
        )
    except FileNotFoundError:
        pytest.skip("this machine has no age")
    assert opened.stdout == backup.read_bytes()


def test_what_is_not_proven_stays_here(disk_host: Copier) -> None:
    (good,) = disk_host.plant(0)
    directory = good.parent
    cut = directory / "auth_db_20240101_020000.sql.gz"
    cut.write_bytes(good.read_bytes()[:-50])
    by_hand = directory / "auth_db_manual_20240102_020000.sql.gz"
    by_hand.write_bytes(backup_files.by_hand(backup_files.dump()))
    (directory / ".pgbackup-0-0.partial").write_bytes(b"x")
    (directory / "auth_db_LATEST.sql.gz").symlink_to(good.name)
    assert disk_host.run().status == 0
    assert not disk_host.problems([good])


def test_a_dry_run_copies_nothing_and_names_what_would_go(disk_host: Copier) -> None:
    backups = disk_host.plant(1, 0)
    before = sorted(disk_host.path.rglob("*"))
    ended = disk_host.run("--dry-run", "--json")
    assert ended.status == 0, ended.stderr
    names = [one["object"] for one in ended.document["places"][0]["would_copy"]]
    assert names == [disk_host.name_of(path) for path in reversed(backups)]
    assert disk_host.there() == [] and sorted(disk_host.path.rglob("*")) == before


@pytest.mark.fault(180, "the source is not mounted, or empty")
@wide("gone", ["all files", "not mounted"], ["BACKUP_DIR", "the database's directory", "all files", "not mounted"])
def test_a_source_that_is_gone_removes_nothing_there(disk_host: Copier, gone: str, tmp_path: Path) -> None:
    backups = disk_host.plant(1, 0)
    contents = {path: path.read_bytes() for path in backups}
    disk_host.run()
    extra = {}
    if gone == "BACKUP_DIR":
        disk_host.path.rename(tmp_path / "elsewhere")
    elif gone == "not mounted":
        extra = {"BACKUP_MOUNT": str(disk_host.path)}
    else:
        for path in backups:
            path.unlink()
        if gone != "all files":
            (disk_host.path / DIRECTORY).rmdir()
    ended = disk_host.run(**extra)
    assert ended.status == {"BACKUP_DIR": 73, "not mounted": 73}.get(gone, 66), ended.stderr
    if ended.status == 66:
        assert "2 of them were copied before: is its disk mounted?" in ended.stderr
    assert sorted(disk_host.there()) == sorted(disk_host.name_of(path) for path in backups)
    for path, content in contents.items():
        assert disk_host.decrypted(path) == content


@pytest.mark.fault(184, "an object that is there and was not sent, or was changed there")
def test_what_somebody_else_has_put_there_is_named_and_left(host: Copier, tmp_path: Path) -> None:
    foreign, good = host.plant(1, 0)
    (tmp_path / "forged").write_bytes(b"x" * 500)
    host.place.put(host.name_of(foreign), tmp_path / "forged", lock_days=0)
    ended = host.run()
    assert ended.status == 65
    assert f"{host.name_of(foreign)}: something lies there under its name that this host has not sent" in ended.stderr
    assert b"".join(host.place.get(host.name_of(foreign))) == b"x" * 500
    assert host.decrypted(good) == good.read_bytes()


def test_a_copy_that_is_gone_there_is_made_again_and_told(disk_host: Copier) -> None:
    backups = disk_host.plant(1, 0)
    disk_host.run()
    (disk_host.elsewhere.directory / disk_host.name_of(backups[0])).unlink()
    ended = disk_host.run()
    assert ended.status == 0
    assert f"'{disk_host.name_of(backups[0])}' was at 'disk' and is gone there: it is copied again" in ended.stderr
    assert not disk_host.problems(backups)


@pytest.mark.fault(185, "two hosts that write to one place")
def test_two_hosts_share_a_place_and_see_each_their_own(disk_host: Copier, tmp_path: Path) -> None:
    """Each has a name, and takes nothing of the other's for its own."""
    (tmp_path / "other").mkdir()
    other = copies.copier(tmp_path / "other", disk_host.elsewhere)
    other.environment["OFFSITE_HOST"] = "host-b"
    mine, its = disk_host.plant(1, 0), other.plant(1, 0)
    runs = [one.start("copy-backups.sh") for one in (disk_host, other)]
    assert [run.wait(100) for run in runs] == [0, 0], [run.communicate() for run in runs]
    assert not disk_host.problems(mine)
    theirs = [one.name for one in disk_host.place.list("host-b/dumps")]
    assert sorted(theirs) == sorted(other.name_of(path).replace(HOST, "host-b", 1) for path in its)


def test_one_run_at_a_time_for_each_place(disk_host: Copier) -> None:
    disk_host.plant(0)
    disk_host.run()
    with (disk_host.own / ".copy.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert disk_host.run().status == 75


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"OFFSITE": ""}, 78, "OFFSITE names no place"),
        ({"ENCRYPTION_RECIPIENTS": "/nowhere/recipients"}, 78, "there is no key to encrypt for"),
        ({"RCLONE_CONFIG": "/nowhere/rclone.conf"}, 78, "cannot read rclone's configuration"),
        ({"OFFSITE_HOST": "../x"}, 78, "OFFSITE_HOST"),
    ],
)
def test_what_is_not_configured_is_told_and_nothing_is_sent(
    disk_host: Copier, change: dict[str, str], status: int, said: str
) -> None:
    disk_host.plant(0)
    ended = disk_host.run(**change)
    assert ended.status == status, ended.stderr
    assert said in ended.stderr
    assert disk_host.there() == []


def test_without_encryption_only_where_that_is_set(disk_host: Copier) -> None:
    (backup,) = disk_host.plant(0)
    disk_host.environment |= {"DISK_ENCRYPTED": "no", "ENCRYPTION_RECIPIENTS": "/nowhere/recipients"}
    assert disk_host.run().status == 0
    assert disk_host.name_of(backup).endswith(".sql.gz")
    assert b"".join(disk_host.place.get(disk_host.name_of(backup))) == backup.read_bytes()


def test_a_place_without_hashes_is_read_back(tmp_path: Path) -> None:
    """An SFTP server without a shell computes none."""
    try:
        with sftp_server.running(shell=False) as server:
            host = copies.copier(tmp_path, elsewhere.on_sftp(server, tmp_path, "x"))
            backups = host.plant(0)
            assert host.run().status == 0
            assert host.place.stat(host.name_of(backups[0])).hashes == {}  # type: ignore[union-attr]
            assert not host.problems(backups)
    except engine.NoEngine as reason:
        pytest.skip(str(reason))


def test_a_place_that_fails_is_tried_again_with_growing_pauses(disk_host: Copier) -> None:
    disk_host.plant(0)
    disk_host.elsewhere.break_off()
    assert disk_host.run().status == 69
    resting = disk_host.run("--json")
    assert (resting.status, resting.document["places"][0]["paused"]) == (69, True)
    assert "copy-backups.sh --to disk --now" in resting.stderr
    assert disk_host.run("--now").status == 69
    assert disk_host.state()["failures"] == 2
    disk_host.elsewhere.mend()
    assert disk_host.run("--now").status == 0
    state = disk_host.state()
    assert (state["failures"], state["error"], state["objects"]) == (0, "", 1)
    assert state["succeeded"] and state["newest"]["auth"]


def test_a_place_that_is_not_required_fails_no_run(disk_host: Copier) -> None:
    disk_host.plant(0)
    disk_host.elsewhere.break_off()
    ended = disk_host.run("--json", DISK_REQUIRED="no")
    assert (ended.status, ended.document["places"][0]["status"]) == (0, 69)
    assert "event=copy.failed" in disk_host.log()


def test_the_index_tells_a_changed_line_and_forgets_a_cut_one(disk_host: Copier) -> None:
    backups = disk_host.plant(2, 1)
    disk_host.run()
    file = disk_host.own / "index-dumps.jsonl"
    whole = file.read_text()
    file.write_text(whole + whole.splitlines()[1][:100])
    backups += disk_host.plant(0)
    assert disk_host.run().status == 0
    assert [json.loads(line)["name"] for line in file.read_text().splitlines()] == [
        disk_host.name_of(backups[1]),
        disk_host.name_of(backups[0]),
        disk_host.name_of(backups[2]),
    ]
    file.write_text(file.read_text().replace('"bytes":', '"bytes":1', 1))
    ended = disk_host.run()
    assert ended.status == 65 and "was changed or damaged" in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_what_root_has_copied_the_backup_account_goes_on_with(disk_host: Copier) -> None:
    disk_host.plant(0)
    os.chown(disk_host.path, 12345, 12345)
    assert disk_host.run().status == 0
    assert {path.stat().st_uid for path in disk_host.path.glob("offsite/**/*")} == {12345}


def test_what_a_bare_host_needs_goes_along_once(disk_host: Copier, tmp_path: Path) -> None:
    disk_host.plant(0)
    root = suite_with(tmp_path, "RETENTION_DAYS=9\n")
    disk_host.root = root
    first = disk_host.run("--json").document["places"][0]
    assert [name.partition("/")[2][:8] for name in first["along"]] == ["settings", "RECOVER."]
    (name,) = [name for name in first["along"] if "/settings/" in name]
    opened = b"".join(sealed.opened(disk_host.place.get(name), [disk_host.identity]))
    assert opened == b"RETENTION_DAYS=9\n"
    text = b"".join(disk_host.place.get(f"{HOST}/RECOVER.txt")).decode()
    assert "age --decrypt" in text and disk_host.elsewhere.remote in text
    assert disk_host.run("--json").document["places"][0]["along"] == []
    (root / ".env").write_text("RETENTION_DAYS=8\n")
    time.sleep(1)  # names have whole seconds
    assert len(disk_host.run("--json").document["places"][0]["along"]) == 1
    changed = disk_host.run("--json", DATABASES="auth shop").document["places"][0]
    assert [name for name in changed["along"] if name.startswith(f"{HOST}/RECOVER_")]
    assert not [
        path for path in disk_host.path.rglob("*") if path.is_file() and b"RETENTION_DAYS=8" in path.read_bytes()
    ]


def test_without_a_server_the_backups_go_all_the_same(disk_host: Copier) -> None:
    backups = disk_host.plant(0)
    ended = disk_host.run()
    assert ended.status == 0 and "warning: the roles of 'auth' could not be had" in ended.stderr
    assert not disk_host.problems(backups)


def test_where_nothing_is_encrypted_no_roles_and_no_settings_go(disk_host: Copier, tmp_path: Path) -> None:
    backups = disk_host.plant(0)
    disk_host.root = suite_with(tmp_path, "RETENTION_DAYS=9\n")
    disk_host.environment["DISK_ENCRYPTED"] = "no"
    first = disk_host.run("--json").document["places"][0]
    assert first["along"] == [f"{HOST}/RECOVER.txt"]
    assert sorted(one.name for one in disk_host.place.list("") if "/index/" not in one.name) == [
        f"{HOST}/RECOVER.txt",
        disk_host.name_of(backups[0]),
    ]


def suite_with(directory: Path, env: str) -> Path:
    """Another checkout of the suite, with a .env."""
    root = directory / "suite"
    root.mkdir()
    for name in ("lib", "scripts"):
        shutil.copytree(copies.ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".venv").symlink_to(copies.ROOT / ".venv")
    (root / ".env").write_text(env)
    return root
