"""copy-backups.sh --expire: old copies go by the retention rule, with a credential that the host does not keep."""

from __future__ import annotations

import os
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.copies import DIRECTORY, HOST, Copier
from tests.support.wal_there import SIZE, Planted

RULE = {"RETENTION_DAYS": "7", "MIN_BACKUPS": "2"}


def aged(host: Copier, *days: float) -> list[Path]:
    """Copies of these ages, by their names and by the place's clock, of backups that are no longer here."""
    backups = host.plant(*days)
    assert host.run().status == 0
    for path, age in zip(backups, days, strict=True):
        then = time.time() - age * 86400
        os.utime(host.elsewhere.directory / host.name_of(path), (then, then))
        if age > 1:
            path.unlink()
    return backups


def credential(directory: Path) -> str:
    """A configuration on other media, whose remote of the same name may delete."""
    path = directory / "from-media.conf"
    path.touch(0o600)
    path.write_text("[disk]\ntype = local\n")
    return str(path)


def test_old_copies_go_and_the_dry_run_says_the_same(disk_host: Copier, tmp_path: Path) -> None:
    backups = aged(disk_host, 30, 20, 10, 3, 0)
    words = ["--expire", "--to", "disk", "--credential", credential(tmp_path)]
    before = disk_host.there()
    dry = disk_host.run(*words, "--dry-run", "--json", **RULE)
    assert dry.status == 0, dry.stderr
    (place,) = dry.document["places"]
    gone = [one["object"] for one in place["decisions"] if not one["keep"]]
    assert gone == [disk_host.name_of(path) for path in reversed(backups[:3])]
    assert place["removed"] == [] and disk_host.there() == before
    unasked = disk_host.run(*words, **RULE)
    assert unasked.status == 64 and "needs a confirmation" in unasked.stderr and disk_host.there() == before
    ended = disk_host.run(*words, "--yes", "--json", **RULE)
    assert ended.status == 0, ended.stderr
    (place,) = ended.document["places"]
    assert sorted(place["removed"]) == sorted(gone)
    assert disk_host.there() == sorted(disk_host.name_of(path) for path in backups[3:])
    assert disk_host.log().count("event=copy.expired") == 3
    again = disk_host.run(*words, "--yes", **RULE)
    assert again.status == 0 and "deleted 0, 2 stay" in again.stdout
    assert [one.name for one in disk_host.place.list(f"{HOST}/index")], "the index stays"


@pytest.mark.fault(188, "this host's own credential, and one that the place refuses")
def test_only_another_credential_lets_them_go(disk_host: Copier, tmp_path: Path) -> None:
    aged(disk_host, 30, 20, 10, 0)
    before = disk_host.there()
    own = str(disk_host.elsewhere.config)
    ended = disk_host.run("--expire", "--to", "disk", "--credential", own, "--yes", **RULE)
    assert ended.status == 78 and "this host's own credential" in ended.stderr
    open_to_all = Path(credential(tmp_path))
    open_to_all.chmod(0o644)
    ended = disk_host.run("--expire", "--to", "disk", "--credential", str(open_to_all), "--yes", **RULE)
    assert ended.status == 78 and "others may read the credentials" in ended.stderr
    for words in (["--expire"], ["--expire", "--to", "disk"], ["--yes"], ["--credential", own]):
        assert disk_host.run(*words).status == 64, words
    assert disk_host.there() == before


def test_without_an_index_none_of_them_goes(disk_host: Copier, tmp_path: Path) -> None:
    aged(disk_host, 30, 20, 10, 0)
    (disk_host.own / "index-dumps.jsonl").unlink()
    before = disk_host.there()
    words = ["--expire", "--to", "disk", "--credential", credential(tmp_path), "--yes"]
    ended = disk_host.run(*words, **RULE)
    assert ended.status == 66 and "--verification-key" in ended.stderr
    assert disk_host.there() == before


def test_old_base_backups_go_with_the_wal_that_only_they_need(disk_host: Copier, tmp_path: Path) -> None:
    disk_host.plant(0)
    planted = Planted(disk_host).begin()
    made = {}
    for age in (30, 10, 1):
        made[age] = planted.base(timedelta(days=age))
        for _ in range(2):
            planted.grow(SIZE)
    assert planted.run().status == 0
    whole = sorted(planted.there("wal"))
    top = disk_host.elsewhere.directory / HOST
    shutil.rmtree(planted.path / "base" / made[30])  # as it has expired here
    for path in [*(planted.path / "wal").iterdir()][:]:
        if path.name.removesuffix(".gz") in [name.partition(".")[0].rpartition("/")[2] for name in whole[:2]]:
            path.unlink()
    for path in [*(top / "wal").rglob("*.age"), *(top / "base").rglob("*.age")]:
        age = next((age for age, name in made.items() if name in path.parts), 30)
        os.utime(path, (time.time() - age * 86400,) * 2)
    words = ["--expire", "--to", "disk", "--credential", credential(tmp_path)]
    dry = disk_host.run(*words, "--dry-run", **RULE)
    assert dry.status == 0, dry.stderr
    (line,) = [line for line in dry.stdout.splitlines() if f"wal/{DIRECTORY}/" in line]
    assert " 2 objects, " in line and "no base backup that stays needs it" in line
    assert sorted(planted.there("wal")) == whole
    ended = disk_host.run(*words, "--yes", "--json", **RULE)
    assert ended.status == 0, ended.stderr
    assert {path.name for path in (top / "base").glob("*/*/*") if [*path.iterdir()]} == {made[10], made[1]}
    assert sorted(planted.there("wal")) == whole[2:]
    again = disk_host.run(*words, "--yes", **RULE)
    assert again.status == 0 and "deleted 0, " in again.stdout
    seen = disk_host.run("--at", "disk", script="verify-backups.sh")
    assert seen.status == 0, seen.stderr
    assert disk_host.run("--json").document["places"][0]["archived_objects"] == 0, "what has expired does not go again"
