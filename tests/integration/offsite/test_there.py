"""verify-backups.sh --at: what lies at a place is compared with what was sent, and read as a stranger's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pgbackup.formats import names, sealed

from tests.support import copies, elsewhere
from tests.support.copies import DIRECTORY, HOST, Copier, Ended
from tests.support.s3_server import S3Server

LIES = "forged names, future times, huge lists, changed objects in a list"


def at(host: Copier, *words: str, **environment: str) -> Ended:
    return host.run("--at", host.elsewhere.kind, "--json", *words, script="verify-backups.sh", **environment)


def database(ended: Ended) -> dict[str, Any]:
    found: dict[str, Any] = ended.document["databases"][0]
    return found


def key_file(host: Copier, directory: Path) -> str:
    path = directory / "key"
    path.touch(0o600)
    path.write_text(host.identity + "\n")
    return str(path)


def test_copies_are_whole_and_read_back_and_decrypted(host: Copier, tmp_path: Path) -> None:
    backups = host.plant(1, 0)
    host.run()
    for words, state in (((), "whole"), (("--read", "--key", key_file(host, tmp_path)), "read")):
        ended = at(host, *words)
        assert ended.status == 0, ended.stderr
        found = database(ended)["copies"]
        assert [one["file"] for one in found] == [path.name for path in reversed(backups)]
        assert {one["state"] for one in found} == {state}


def test_a_copy_that_is_old_or_missing_is_told(disk_host: Copier) -> None:
    (backup,) = disk_host.plant(2)
    disk_host.run()
    assert at(disk_host).status == 66
    assert at(disk_host, "--max-age", "72").status == 0
    (disk_host.elsewhere.directory / disk_host.name_of(backup)).unlink()
    ended = at(disk_host, "--max-age", "72")
    assert ended.status == 65
    assert database(ended)["lost"] == [disk_host.name_of(backup)]


def test_a_copy_that_the_places_own_rule_has_expired_is_not_missed(disk_host: Copier) -> None:
    old, new = disk_host.plant(5, 0)
    disk_host.run()
    (disk_host.elsewhere.directory / disk_host.name_of(old)).unlink()
    old.unlink()
    ended = at(disk_host)
    assert (ended.status, database(ended)["lost"]) == (0, [])
    assert [one["file"] for one in database(ended)["copies"]] == [new.name]


@pytest.mark.fault(184, LIES)
@pytest.mark.parametrize("lie", ["cut", "changed", "swapped", "foreign", "future", "name"])
def test_what_a_place_lies_about_is_named(disk_host: Copier, lie: str) -> None:
    older, newer = disk_host.plant(1, 0)
    disk_host.run()
    there = disk_host.elsewhere.directory
    first, second = (there / disk_host.name_of(path) for path in (older, newer))
    now = datetime.now(timezone.utc)
    made = first.with_name(f"{names.dated('auth_db', now + timedelta(minutes=5))}.age")
    if lie == "cut":
        os.truncate(second, second.stat().st_size - 1)
    elif lie == "changed":
        second.write_bytes(second.read_bytes()[:-1] + b"\0")
    elif lie == "swapped":
        first.write_bytes(second.read_bytes())
    elif lie == "foreign":
        made.write_bytes(first.read_bytes())
    elif lie == "future":
        made.with_name(f"{names.dated('auth_db', now + timedelta(days=300))}.age").write_bytes(first.read_bytes())
    else:
        for name in (
            "auth_db_20240101_020000.sql.gz.age.age",
            "../x",
            "LATEST",
            "auth_db_2_20240101_020000.sql.gz.age",
        ):
            (first.parent / name.replace("/", "%")).write_bytes(b"x")
    ended = at(disk_host, "--max-age", "48")
    if lie == "name":
        assert (ended.status, ended.document["passed_over"]) == (0, 4), ended.stderr
        return
    assert ended.status == 65, ended.stderr
    bad = [one for one in database(ended)["copies"] if one["state"] == "bad"]
    assert len(bad) == 1 and bad[0]["problem"] in ended.stderr
    # Which good one is the newest is not decided by what was forged.
    assert "restore" not in ended.stderr
    good = [one["file"] for one in database(ended)["copies"] if one["state"] == "whole"]
    assert good and set(good) <= {older.name, newer.name}


def test_without_an_index_reading_with_the_key_still_tells(disk_host: Copier, tmp_path: Path) -> None:
    """On a bare host nothing is known of what was sent."""
    _, newer = disk_host.plant(1, 0)
    disk_host.run()
    second = disk_host.elsewhere.directory / disk_host.name_of(newer)
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    nothing = tmp_path / "nothing"
    assert {one["state"] for one in database(at(disk_host, BACKUP_DIR=str(nothing)))["copies"]} == {"there"}
    ended = at(disk_host, "--read", "--key", key_file(disk_host, tmp_path), BACKUP_DIR=str(nothing))
    assert [one["state"] for one in database(ended)["copies"]] == ["bad", "read"]
    assert ended.status == 65 and not nothing.exists()


def test_the_wrong_key_opens_nothing_and_is_told(disk_host: Copier, tmp_path: Path) -> None:
    disk_host.plant(0)
    disk_host.run()
    disk_host.identity = sealed.new_key()[0]
    ended = at(disk_host, "--read", "--key", key_file(disk_host, tmp_path))
    assert ended.status == 65 and "none of the keys opens it" in ended.stderr


@pytest.mark.parametrize("words", [["--read"], ["--key", "x"], ["--at", "disk", "--key", "x"], ["--at", "nowhere"]])
def test_options_that_do_not_go_together_are_refused(disk_host: Copier, words: list[str]) -> None:
    assert disk_host.run(*words, script="verify-backups.sh").status == 64


@pytest.mark.fault(184, LIES)
def test_ten_thousand_objects_are_listed_in_seconds_and_little_memory(disk_host: Copier) -> None:
    disk_host.plant(0)
    disk_host.run()
    directory = disk_host.elsewhere.directory / HOST / "dumps" / DIRECTORY
    first = datetime(2020, 1, 1, tzinfo=timezone.utc)
    for number in range(10_000):
        (directory / f"{names.dated('auth_db', first + timedelta(minutes=number))}.age").touch()
    program = (
        "import re, sys, time, resource; sys.path[:0] = ['lib', '.']; from pathlib import Path;"
        "from pgbackup.remotes.rclone import Rclone; begun = time.monotonic();"
        "found = Rclone(sys.argv[1], Path(sys.argv[2])).list(sys.argv[3]); seconds = time.monotonic() - begun;"
        # VmHWM, for ru_maxrss of a child begins with its parent's: that of pytest.
        r"own = int(re.search(r'VmHWM:\s*(\d+)', Path('/proc/self/status').read_text())[1]);"
        "print(len(found), seconds, max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))"
    )
    words = [disk_host.elsewhere.remote, str(disk_host.elsewhere.config), f"{HOST}/dumps"]
    said = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=disk_host.root, capture_output=True, text=True, check=True
    )
    count, seconds, kilobytes = said.stdout.split()
    assert int(count) == 10_001
    assert float(seconds) < 50  # ten times what is wanted: the machine may do something else
    assert int(kilobytes) < 100_000
    ended = at(disk_host)
    assert ended.status == 65 and len(database(ended)["copies"]) == 10_001


@pytest.mark.fault(200, "an attacker with a credential that may only add: deletes, writes over, forges newer ones")
def test_who_may_only_add_can_lose_nothing_and_is_told(s3: S3Server, tmp_path: Path) -> None:
    host = copies.copier(tmp_path, elsewhere.on_s3(s3, tmp_path, "attacked", s3.adder))
    old, new = host.plant(1, 0)
    assert host.run().status == 0
    rclone = [str(elsewhere.own_rclone()), "--config", str(host.elsewhere.config), "--s3-no-check-bucket"]

    def attack(*words: str) -> int:
        return subprocess.run([*rclone, *words], capture_output=True, timeout=60, check=False).returncode

    there = host.elsewhere.remote
    for path in (old, new):
        assert attack("deletefile", f"{there}/{host.name_of(path)}") != 0
    assert attack("purge", f"{there}/{HOST}") != 0
    assert attack("backend", "cleanup-hidden", f"{there}/{HOST}") != 0 or host.there()
    (tmp_path / "forged").write_bytes(b"forged")
    assert attack("copyto", "--ignore-times", str(tmp_path / "forged"), f"{there}/{host.name_of(new)}") == 0
    newer = names.dated("auth_db", datetime.now(timezone.utc) + timedelta(minutes=5))
    assert attack("copyto", str(tmp_path / "forged"), f"{there}/{HOST}/dumps/{DIRECTORY}/{newer}.age") == 0
    ended = at(host)
    assert ended.status == 65
    seen = {one["file"]: one["problem"] for one in database(ended)["copies"]}
    assert seen[old.name] == "" and "were sent" in seen[new.name] and seen[newer] == "this host has not sent it"
    assert host.decrypted(old) == old.read_bytes()
    # What was written over is still there, as an older version.
    before = [*rclone, "lsjson", "-R", "--files-only", "--s3-versions", there.replace("s3:", "owner:")]
    said = json.loads(subprocess.run(before, capture_output=True, check=True, timeout=60).stdout)
    kept = [one for one in said if new.name.removesuffix(".sql.gz") in one["Path"]]
    assert sorted(one["Size"] for one in kept)[-1] > 100 and len(kept) == 2
