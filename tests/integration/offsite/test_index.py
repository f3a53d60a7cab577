"""The index of what was copied: signed, at the place as well, and taken back after a loss of this host."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from pgbackup.store import folder
from pgbackup.store.offsite import parts, signing

from tests.support.copies import HOST, Copier


def key_of(host: Copier) -> str:
    with folder.opened(host.own, create=False) as own:
        return signing.public(own) or pytest.fail("there is no key")


def parts_there(host: Copier) -> list[Path]:
    """The parts of the index of backups, as they lie in a place on disk."""
    return sorted((host.elsewhere.directory / HOST / "index").glob("*/dumps-*.jsonl"))


def lose(host: Copier) -> str:
    """The host loses what it knows of the place. Return the key that is on paper."""
    key = key_of(host)
    shutil.rmtree(host.path / "offsite")
    return key


def test_the_index_goes_along_signed_and_each_part_once(disk_host: Copier) -> None:
    disk_host.plant(2)
    first = disk_host.run("--json").document["places"][0]
    key = key_of(disk_host)
    assert first["verification_key"] == key and [one for one in first["warnings"] if key in one]
    before = {path: path.read_bytes() for path in parts_there(disk_host)}
    assert len(before) == 1
    disk_host.plant(1)
    second = disk_host.run("--json").document["places"][0]
    assert not [one for one in second["warnings"] if key in one], "it is to be printed once"
    assert disk_host.run("--json").document["places"][0]["verification_key"] == ""
    after = {path: path.read_bytes() for path in parts_there(disk_host)}
    assert before.items() <= after.items() and len(after) == 2
    assert "signing-key" not in "".join(one.name for one in disk_host.place.list(""))


def test_a_stock_ssh_keygen_verifies_a_part(disk_host: Copier, tmp_path: Path) -> None:
    disk_host.plant(0)
    disk_host.run()
    (part,) = parts_there(disk_host)
    (tmp_path / "signers").write_text(f"pgbackup {key_of(disk_host)}\n")
    lines = (
        f"cd '{tmp_path}' && sed '/^-----BEGIN SSH/,$d' '{part}' > lines"
        f" && sed -n '/^-----BEGIN SSH/,$p' '{part}' > sig"
        " && ssh-keygen -Y verify -f signers -I pgbackup -n pgbackup-index -s sig < lines"
    )
    assert b"Good" in subprocess.run(["sh", "-c", lines], check=True, capture_output=True).stdout


@pytest.mark.fault(187, "what this host knows of its copies is lost: the signed index comes back with the key on paper")
def test_after_a_loss_old_copies_count_again(host: Copier) -> None:
    backups = host.plant(2, 1)
    assert host.run().status == 0
    key = lose(host)
    without = host.run("--now")
    assert without.status == 65 and "that this host has not sent" in without.stderr
    again = host.run("--now", "--json", "--verification-key", key)
    assert again.status == 0, again.stderr
    place = again.document["places"][0]
    assert place["taken_back"] >= 2 and place["copied"] == [] and place["problems"] == []
    assert place["verification_key"] not in ("", key), "another key from now on"
    assert host.run("--json").document["places"][0]["problems"] == []
    backups += host.plant(0)
    assert host.run().status == 0
    assert not host.problems(backups)
    # What was taken back is signed with the new key as well: the paper of today is enough the next time.
    newest = lose(host)
    assert newest != key
    assert host.run("--now", "--verification-key", newest).status == 0


@pytest.mark.fault(187, "parts of the index that are changed, cut, forged, of another key, or gone")
def test_a_part_that_is_not_ours_is_passed_over(disk_host: Copier, tmp_path: Path) -> None:
    backups = []
    for days in (3, 2, 1):
        backups += disk_host.plant(days)
        disk_host.run()
    _, second, third = parts_there(disk_host)
    changed, rest = second.read_bytes().replace(b'"bytes":', b'"bytes":1', 1), third.read_bytes()
    second.write_bytes(changed)  # what follows it is not believed either
    with folder.opened(tmp_path / "own", create=True) as theirs:
        signing.made(theirs)
        lines, _ = parts.split(rest)
        third.with_name("dumps-000008.jsonl").write_bytes(lines + signing.signature(theirs, lines))
    third.with_name("dumps-000009.jsonl").write_bytes(lines)
    ended = disk_host.run("--now", "--json", "--verification-key", lose(disk_host))
    place = ended.document["places"][0]
    assert ended.status == 65
    assert [one["name"] for one in place["problems"]] == [disk_host.name_of(path) for path in backups[:0:-1]]
    assert len([one for one in place["warnings"] if "is not signed with that key" in one]) == 3
    assert len([one for one in place["warnings"] if "follows a part of the index that is gone" in one]) == 1


def test_a_key_that_has_signed_nothing_there_is_told(disk_host: Copier, tmp_path: Path) -> None:
    disk_host.plant(0)
    disk_host.run()
    with folder.opened(tmp_path / "another", create=True) as another:
        key = signing.made(another)
    ended = disk_host.run("--now", "--verification-key", key)
    assert ended.status == 66 and "there is no index of copies at 'disk'" in ended.stderr
    assert disk_host.run("--verification-key", "ssh-rsa AAAA").status == 64
    assert disk_host.run("--verification-key", key, "--dry-run").status == 64


def test_without_ssh_keygen_the_copies_go_and_the_index_stays_here(disk_host: Copier, tmp_path: Path) -> None:
    backups = disk_host.plant(0)
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "ssh-keygen").write_text("#!/bin/sh\necho 'unknown option -- Y' >&2\nexit 255\n")
    (bare / "ssh-keygen").chmod(0o755)
    ended = disk_host.run(PATH=f"{bare}:{disk_host.environment['PATH']}")
    assert ended.status == 0 and "the index of copies stays unsigned" in ended.stderr
    assert not disk_host.problems(backups) and parts_there(disk_host) == []
    assert disk_host.run().status == 0
    assert disk_host.run().status == 0, "and without anything new nothing is said"


def test_a_name_that_somebody_has_taken_stops_nothing(disk_host: Copier) -> None:
    disk_host.plant(1)
    disk_host.run()
    (part,) = parts_there(disk_host)
    part.with_name("dumps-000002.jsonl").write_bytes(b"x")
    disk_host.plant(0)
    assert disk_host.run().status == 0
    assert part.with_name("dumps-000002.jsonl").read_bytes() == b"x"
    key = lose(disk_host)
    assert disk_host.run("--now", "--verification-key", key).status == 0
