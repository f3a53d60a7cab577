"""What a place elsewhere must do for us, tried on an S3 and on an SFTP server."""

from __future__ import annotations

import hashlib
import os
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pgbackup.errors import BackupBad, ConfigurationError, NoBackup, PermissionDenied, Unavailable
from pgbackup.remotes.place import AlreadyThere
from pgbackup.remotes.rclone import Rclone

from tests.support import elsewhere
from tests.support.elsewhere import Elsewhere
from tests.support.s3_server import BUCKET, S3Server

NAME = "host-a/dumps/postgres-a/auth_db_20240115_020000.sql.gz.age"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "whatever it is called here"
    path.write_bytes(os.urandom(300_000))
    return path


def test_what_is_put_is_there_with_its_size_and_hash_and_comes_back(place: Elsewhere, file: Path) -> None:
    there = place.place()
    assert there.stat(NAME) is None
    there.put(NAME, file, lock_days=0)
    found = there.stat(NAME)
    assert found is not None
    assert (found.name, found.bytes) == (NAME, 300_000)
    kind = there.hash_kind()
    assert found.hashes == {kind: hashlib.new(kind, file.read_bytes(), usedforsecurity=False).hexdigest()}
    assert abs(found.modified - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert b"".join(there.get(NAME)) == file.read_bytes()


def test_nothing_is_overwritten(place: Elsewhere, file: Path, tmp_path: Path) -> None:
    there, other = place.place(), tmp_path / "other"
    other.write_bytes(b"forged" * 50_000)  # of the same size
    there.put(NAME, file, lock_days=0)
    with pytest.raises(AlreadyThere):
        there.put(NAME, other, lock_days=0)
    (tmp_path / NAME).parent.mkdir(parents=True)
    (tmp_path / NAME).write_bytes(other.read_bytes())
    there.put_many(tmp_path, [NAME], lock_days=0)
    assert b"".join(there.get(NAME)) == file.read_bytes()


def test_two_that_write_one_name_at_once_leave_one_whole_object(s3: S3Server, tmp_path: Path) -> None:
    """Between the question whether it is there and the upload somebody else may come: S3 itself then refuses."""
    where = elsewhere.on_s3(s3, tmp_path, "race")
    files = [tmp_path / name for name in "ab"]
    for path in files:
        path.write_bytes(path.name.encode() * 20_000_000)
    argv = [str(elsewhere.own_rclone()), "copyto", "--header-upload", "If-None-Match: *", "--s3-no-check-bucket"]
    argv += ["--retries=1", "--config", str(where.config), "--ignore-times"]
    runs = [subprocess.Popen([*argv, str(path), f"{where.remote}/x/one"], stderr=subprocess.DEVNULL) for path in files]
    assert sorted(run.wait(60) for run in runs) == [0, 1]


def test_many_small_ones_go_and_come_in_one_process(place: Elsewhere, tmp_path: Path) -> None:
    there = place.place()
    names = [f"host-a/wal/postgres-a/0000000100000000000000{number:02X}.gz.age" for number in range(40)]
    for name in names:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_bytes(name.encode())
    (tmp_path / "out/host-a/wal/postgres-a/not asked for").write_bytes(b"x")
    there.put_many(tmp_path / "out", names, lock_days=0)
    assert [one.name for one in there.list("host-a/wal")] == names
    there.fetch_many(names[3:9], tmp_path / "back")
    assert {path.relative_to(tmp_path / "back").as_posix() for path in (tmp_path / "back").rglob("*.age")} == set(
        names[3:9]
    )
    assert (tmp_path / "back" / names[3]).read_bytes() == names[3].encode()
    told = there.stat_many([*names[:5], "host-a/wal/postgres-a/absent", "host-a/nowhere/absent"])
    assert {name: one.bytes for name, one in told.items()} == {name: len(name) for name in names[:5]}
    kind = there.hash_kind()
    assert told[names[0]].hashes[kind] == hashlib.new(kind, names[0].encode(), usedforsecurity=False).hexdigest()
    assert there.stat_many(["host-a/nowhere/absent"]) == {}


def test_what_is_absent_is_said_to_be_absent(place: Elsewhere, tmp_path: Path) -> None:
    there = place.place()
    assert there.list("host-a/dumps") == []
    assert there.stat("host-a/dumps") is None
    with pytest.raises(NoBackup):
        list(there.get(NAME))
    with pytest.raises(NoBackup):
        there.fetch_many([NAME], tmp_path / "back")


def test_a_directory_is_no_object(place: Elsewhere, file: Path) -> None:
    there = place.place()
    there.put(NAME, file, lock_days=0)
    assert there.stat("host-a/dumps") is None
    assert there.stat("host-a/dumps/postgres-a") is None


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a//b", "a\nb", "a/./b", "x" * 1000])
def test_a_name_that_leads_elsewhere_is_never_asked_for(place: Elsewhere, file: Path, name: str) -> None:
    with pytest.raises(BackupBad):
        place.place().put(name, file, lock_days=0)
    with pytest.raises(BackupBad):
        place.place().fetch_many([name], file.parent / "back")


@pytest.mark.parametrize("name", ["a b/c d.age", "-rf/--config=x.age", "a/'$(id)'.age", "ü/ñ.age", "a/[b]*{c}.age"])
def test_an_odd_name_is_a_name(place: Elsewhere, file: Path, name: str) -> None:
    there = place.place()
    there.put(name, file, lock_days=0)
    assert [one.name for one in there.list(name.partition("/")[0])] == [name]
    assert b"".join(there.get(name)) == file.read_bytes()


def test_what_is_locked_stays_though_the_host_itself_deletes_it(s3: S3Server, file: Path, tmp_path: Path) -> None:
    where = elsewhere.on_s3(s3, tmp_path, "locked")
    where.place().put(NAME, file, lock_days=3)
    rclone = [str(elsewhere.own_rclone()), "--config", str(where.config)]
    subprocess.run([*rclone, "deletefile", f"{where.remote}/{NAME}"], check=True, capture_output=True)
    assert where.place().stat(NAME) is None  # a mark says that it is deleted
    versions = [*rclone, "lsjson", "-R", "--files-only", "--s3-versions", f"owner:{BUCKET}/locked"]
    assert b".sql.gz" in subprocess.run(versions, check=True, capture_output=True).stdout
    subprocess.run([*rclone, "cleanup", f"owner:{BUCKET}"], check=False, capture_output=True)
    gone = [*rclone, "backend", "cleanup-hidden", f"owner:{BUCKET}"]
    subprocess.run(gone, check=False, capture_output=True)
    assert b".sql.gz" in subprocess.run(versions, check=True, capture_output=True).stdout


def test_the_oldest_rclone_that_is_supported_reaches_sftp_and_leaves_s3_to_ours(place: Elsewhere, file: Path) -> None:
    """Debian 12's own: it cannot keep an S3 object from being overwritten."""
    older = elsewhere.debians_rclone()
    there = place.place(str(older))
    there.put(NAME, file, lock_days=0)
    with pytest.raises(AlreadyThere):
        there.put(NAME, file, lock_days=0)
    small = "host-b/small one"
    (file.parent / small).parent.mkdir()
    (file.parent / small).write_bytes(b"x")
    there.put_many(file.parent, [small], lock_days=0)
    assert [one.name for one in there.list("")] == [NAME, small]
    assert b"".join(there.get(NAME)) == file.read_bytes()


def test_a_file_of_credentials_that_others_may_read_is_refused(place: Elsewhere) -> None:
    place.config.chmod(0o640)
    with pytest.raises(ConfigurationError, match="others may read the credentials"):
        place.place().list("")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_the_file_of_credentials_keeps_its_owner(place: Elsewhere) -> None:
    """Run as root, rclone replaces it when it notes what it has learned of a server."""
    os.chown(place.config, 12345, 12345)
    place.place().list("")
    found = place.config.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (12345, 12345, 0o600)


def test_credentials_that_are_wrong_are_no_place_away(s3: S3Server, tmp_path: Path) -> None:
    text = s3.section("s3", s3.host).replace(s3.host.secret, "wrong")
    there = Rclone(f"s3:{BUCKET}", elsewhere.configured(tmp_path, text))
    with pytest.raises(PermissionDenied) as refused:
        there.list("")
    assert "wrong" not in refused.value.message


def test_a_place_that_is_away_is_unavailable(tmp_path: Path, s3: S3Server) -> None:
    text = s3.section("s3", s3.host, endpoint="http://127.0.0.1:1")
    with pytest.raises(Unavailable):
        Rclone(f"s3:{BUCKET}", elsewhere.configured(tmp_path, text)).list("")


def test_a_remote_that_is_not_configured_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="knows no remote"):
        Rclone("s4:x", elsewhere.configured(tmp_path, "[s3]\ntype = s3\n")).list("")
