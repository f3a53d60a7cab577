"""What a copy elsewhere is called, and whether it can be what it is called."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from pgbackup.formats import copies, names
from pgbackup.formats.manifest import Manifest

TAKEN = datetime(2024, 1, 15, 2, 0, 3, tzinfo=timezone.utc)


def held(started: datetime = TAKEN, zone: str | None = "UTC +0000", database: str = "auth_db") -> Manifest:
    raw = {} if zone is None else {"time_zone": zone}
    return Manifest(database, started, 1, 1, "", 0, {}, {}, "", raw)


def test_only_what_lies_right_there_is_a_copy() -> None:
    under = copies.dumps("host", "postgres-a")
    assert under == "host/dumps/postgres-a"
    file = "auth_db_20240115_020003.sql.gz"
    assert copies.file_in(under, f"{under}/{file}.age") == file
    assert copies.file_in(under, f"{under}/{file}") == file
    for name in (f"{under}/deeper/{file}", f"other/dumps/postgres-a/{file}", file, f"{under}/", under):
        assert copies.file_in(under, name) is None


@pytest.mark.parametrize("name", ["20240115_020000.sql", "h/globals/d/20240115_020000.sql.age"])
def test_globals_are_known_by_their_name(name: str) -> None:
    assert copies.is_globals(name)
    for other in (f"{name}.gz", name.replace("_", ""), f"x{name.rpartition('/')[2]}"):
        assert not copies.is_globals(other)


@pytest.mark.parametrize("hours", [-14, -1, 0, 1, 14])
def test_a_name_is_local_time_of_a_host_whose_zone_is_not_known(hours: int) -> None:
    said = names.Named(TAKEN + timedelta(hours=hours), manual=False)
    assert copies.implausible(said, TAKEN) == ""


@pytest.mark.parametrize("days", [1, 30, 20_000])
def test_a_name_that_is_later_than_its_object_was_made_up(days: int) -> None:
    said = names.Named(TAKEN + timedelta(days=days), manual=False)
    assert "it was there on 2024-01-15 already" in copies.implausible(said, TAKEN)
    assert copies.implausible(names.Named(TAKEN - timedelta(days=days // 2), manual=False), TAKEN) == ""


@pytest.mark.parametrize(
    ("stamp", "zone"),
    [
        ("20240115_020003", "UTC +0000"),
        ("20240115_050003", "MSK +0300"),
        ("20240114_210003", "EST -0500"),
        ("20240115_073003", "IST +0530"),
        ("20240115_030003", "UTC +0000"),  # pushed on by an hour of taken names
        ("20240115_040003", "CET +0100"),  # made in summer time's last hour, told in winter time
    ],
)
def test_a_file_under_its_own_name_is_the_one(stamp: str, zone: str) -> None:
    assert copies.exchanged(f"auth_db_{stamp}.sql.gz", "auth_db", held(zone=zone)) == ""


@pytest.mark.fault(149, "an older backup, another database's, a forged newer one under a name")
@pytest.mark.parametrize("stamp", ["20240116_020003", "20240114_020003", "20240115_120003", "20990101_000000"])
def test_another_backup_under_the_name_is_seen(stamp: str) -> None:
    said = copies.exchanged(f"auth_db_{stamp}.sql.gz", "auth_db", held(zone="MSK +0300"))
    assert said == "it holds the backup of 2024-01-15 05:00:03"
    assert "of 'other'" in copies.exchanged(f"auth_db_{stamp}.sql.gz", "auth_db", held(database="other"))


@pytest.mark.parametrize("zone", [None, "", "+03", "Mars", "MSK +03:00"])
def test_a_manifest_without_a_zone_is_not_compared_by_time(zone: str | None) -> None:
    assert copies.exchanged("auth_db_20300101_000000.sql.gz", "auth_db", held(zone=zone)) == ""
