"""After a loss of `.env` the backups are still there: they are named, with the settings that they tell of."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pgbackup.cli import main, options
from pgbackup.commands import lost_settings
from pgbackup.commands.job import Job
from pgbackup.commands.loading.record import Record
from pgbackup.commands.recover import window
from pgbackup.commands.restore import frame, listing
from pgbackup.commands.verify import backups
from pgbackup.errors import NoBackup, SuiteError, Unavailable
from pgbackup.formats import names
from pgbackup.settings import config
from pgbackup.settings.config import Settings
from pgbackup.store import folder, unclaimed
from pgbackup.store.unclaimed import Unclaimed
from pgbackup.store.wal import archive

from tests.support import backup_files

SHOP = {"target": "shop", "container": "pg15", "database": "webshop"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Those of no `.env` at all."""
    tmp_path.chmod(0o700)
    return config.load({}, tmp_path / "absent", {"BACKUP_DIR": str(tmp_path)})


def put(place: Path, directory: str, name: str, **said: str) -> None:
    """A good backup, whose manifest says that; one made by hand where nothing is said."""
    (place / directory).mkdir(0o700, exist_ok=True)
    text = backup_files.dump()
    data = backup_files.contents(text, **said) if said else backup_files.by_hand(text)  # type: ignore[arg-type]
    backup_files.place(place / directory, data=data, name=name)


def look(place: Path, *claimed: tuple[str, str]) -> list[Unclaimed]:
    with folder.opened(place, create=False, top=True) as top:
        return unclaimed.find(top, claimed)


def test_what_no_setting_names_is_found_by_database(tmp_path: Path, settings: Settings) -> None:
    for day in (14, 15):
        put(tmp_path, "pg15", f"webshop_202401{day}_020000.sql.gz", **SHOP)
    put(tmp_path, "pg15", "app_manual_20240115_020000.sql.gz")
    put(tmp_path, "pg15", "app_LATEST.sql.gz")
    put(tmp_path, "pg15", "notes_20241315_020000.sql.gz")
    (tmp_path / "backup.log").write_text("")
    (tmp_path / "link").symlink_to("pg15")
    shop = Unclaimed("pg15", "webshop", 2, "webshop_20240115_020000.sql.gz", "shop", "pg15")
    app = Unclaimed("pg15", "app", 1, "app_manual_20240115_020000.sql.gz")
    assert look(tmp_path) == [app, shop]
    assert look(tmp_path, ("pg15", "webshop")) == [app]
    assert look(tmp_path, ("pg15", "webshop"), ("pg15", "app")) == []
    assert look(tmp_path, ("elsewhere", "webshop")) == [app, shop]


@pytest.mark.parametrize("database", ["app", "app_1", "ünï", "../x y", ".hidden", "a%b", "app_20240101_000000"])
def test_the_database_in_a_name_is_the_one_it_was_made_of(database: str) -> None:
    name = f"{names.stem(database)}_20240115_020000.sql.gz"
    assert names.database_in(name) == database


def test_no_backup_of_a_database_in_the_settings_is_ever_one(tmp_path: Path) -> None:
    """What app_manual's own are called looks made by hand to app: known as either."""
    put(tmp_path, "d", "app_manual_20240115_020000.sql.gz")
    assert look(tmp_path, ("d", "app_manual")) == []
    assert look(tmp_path, ("d", "app")) == []


@pytest.mark.parametrize("empty_directory", [True, False])
def test_verify_and_list_name_them_with_the_settings_to_write(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str], empty_directory: bool
) -> None:
    put(tmp_path, "pg15", "webshop_20240115_020000.sql.gz", **SHOP)
    if empty_directory:
        (tmp_path / "postgres-a").mkdir(0o700)
    result = backups.run(settings, settings.targets, max_age=timedelta(hours=24), quiet=True)
    listed = listing.listing(settings, settings.targets[0])
    assert (result.status, listed.status) == (66, 66)
    for said in (capsys.readouterr().err, "\n".join(listed.lines)):
        assert f"a backup of the database 'webshop' lies in '{tmp_path}/pg15'" in said
        for line in ('DATABASES="shop"', "SHOP_CONTAINER=pg15", "SHOP_DATABASE=webshop"):
            assert f"\n  {line}\n" in said
        assert "make a new backup now" not in said
    for document in (result.document, listed.document):
        assert [one["database"] for one in document["unclaimed"]] == ["webshop"]


def test_what_the_hint_says_are_settings_under_which_they_are_found(tmp_path: Path, settings: Settings) -> None:
    put(tmp_path, "elsewhere", "webshop_20240115_020000.sql.gz", **SHOP)
    hint = lost_settings.hint(look(tmp_path))
    (tmp_path / ".env").write_text("\n".join(line.strip() for line in hint.splitlines()[1:-1]))
    known = config.load({}, tmp_path / ".env", {"BACKUP_DIR": str(tmp_path)})
    assert listing.listing(known, known.targets[0]).document["files"]
    assert look(tmp_path, *((target.directory, target.database) for target in known.targets)) == []


@pytest.mark.parametrize("verb", ["verify", "backup", "restore"])
def test_a_name_that_only_the_lost_settings_had_is_answered_with_them(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    put(tmp_path, "pg15", "webshop_20240115_020000.sql.gz", **SHOP)
    for key in [key for key in os.environ if key.startswith(("DATABASES", "AUTH_", "PAYMENT_"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("BACKUP_DIR", str(tmp_path))
    monkeypatch.setattr(options, "ROOT", tmp_path)
    assert main.main([verb, "shop", *(["--list"] if verb == "restore" else [])]) == 64
    said = capsys.readouterr().err
    assert "there is no database 'shop' in DATABASES" in said and "\n  SHOP_CONTAINER=pg15\n" in said


def test_a_restore_that_finds_neither_container_nor_backup_names_what_lies_there(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "pg15", "webshop_20240115_020000.sql.gz", **SHOP)

    def fails(error: SuiteError) -> Callable[[Job, Record], object]:
        def work(_job: Job, _record: Record) -> object:
            raise error

        return work

    auth = settings.targets[0]
    for error in (Unavailable("container 'postgres-a' is not there"), NoBackup("there is no file 'x'")):
        result = frame.run(settings, auth, "restore", fails(error), quiet=True, dry=False)
        assert result.status == error.status
        assert error.message in capsys.readouterr().err
        assert "'webshop' lies in" in result.document["outcome"] and "SHOP_CONTAINER=pg15" in result.document["hint"]
    put(tmp_path, "postgres-a", "auth_db_20240115_020000.sql.gz")
    result = frame.run(settings, auth, "restore", fails(NoBackup("there is no file 'x'")), quiet=True, dry=False)
    assert result.document["outcome"] == "there is no file 'x'"


def test_a_wal_archive_that_is_not_there_is_told_with_those_that_are(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(NoBackup) as caught:
        window.show(settings, settings.targets[0], "postgres-a")
    assert caught.value.hint == archive.SET_UP
    (tmp_path / "pitr" / "pg15").mkdir(parents=True)
    with pytest.raises(NoBackup) as caught:
        window.show(settings, settings.targets[0], "postgres-a")
    assert "there are archives: pg15; use one with --archive NAME" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "said",
    [
        {**SHOP, "target": "x\nRETENTION_DAYS=1"},
        {**SHOP, "container": "--help"},
        {**SHOP, "container": "$(id)"},
        {**SHOP, "target": ""},
        {},
    ],
)
def test_a_manifest_that_is_no_settings_is_not_repeated_as_such(tmp_path: Path, said: dict[str, str]) -> None:
    put(tmp_path, "d", "webshop_20240115_020000.sql.gz", **said)
    hint = lost_settings.hint(look(tmp_path))
    assert "docs/configuration.md" in hint and "\n" not in hint


def test_where_a_database_has_backups_others_are_only_named(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "pg15", "webshop_20240115_020000.sql.gz", **SHOP)
    put(tmp_path, "postgres-a", "auth_db_20240115_020000.sql.gz")
    auth = settings.targets[0]
    result = backups.run(settings, [auth], max_age=timedelta(hours=1e5), quiet=True)
    assert result.status == 0
    said = capsys.readouterr().err
    assert "nobody verifies or expires them" in said and "Hint: " not in said
    with folder.opened(tmp_path, create=False, top=True) as top:
        assert lost_settings.instead_of(settings, auth, top) == []
        assert lost_settings.instead_of(settings, settings.targets[1], top) != []


def test_many_do_not_fill_the_screen(tmp_path: Path) -> None:
    some = [Unclaimed(f"d{number}", "x", 1, "x_20240115_020000.sql.gz") for number in range(50)]
    with folder.opened(tmp_path, create=False, top=True) as top:
        assert len(lost_settings.told(top, some)) == 11
