"""The pages and `.env.example` say what the code does, because they are written from it."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pgbackup.commands import dump
from pgbackup.errors import EXIT_STATUSES
from pgbackup.formats import dumpfile
from pgbackup.settings import config
from pgbackup.settings.named_table import PLACE_SETTINGS, TARGET_SETTINGS
from pgbackup.settings.setting import Setting
from pgbackup.settings.table import GLOBAL_SETTINGS

from docs import generate
from tests.host import runbook

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = (".env.example", "docs/configuration.md", "docs/exit-codes.md", "docs/architecture.md", "docs/monitoring.md")
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *(path for path in ROOT.glob("*.md"))]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    for name in WRITTEN:
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_pages_are_as_the_code_says() -> None:
    assert "".join(generate.differences(ROOT)) == "", "run: make docs"


def drop_a_line(text: str) -> str:
    return (
        text.replace("| `MIN_BACKUPS`", "| `MAX_BACKUPS`")
        .replace("#MIN_BACKUPS=7\n", "")
        .replace("| `75` |", "| `76` |")
        .replace("| `sql/` |", "| `tables/` |")
        .replace("| `pgbackup_info` |", "| `pgbackup_about` |")
    )


def change_a_default(text: str) -> str:
    return (
        text.replace("36500", "36501")
        .replace("`128+n`", "`129+n`")
        .replace("pg_dump, pg_dumpall", "pg_dump")
        .replace("0 for never", "1 for never")
    )


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("damage", [drop_a_line, change_a_default])
def test_a_page_that_differs_is_found_shown_and_mended(
    copy: Path, name: str, damage: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    right = (copy / name).read_text()
    (copy / name).write_text(damage(right))
    assert (copy / name).read_text() != right
    assert generate.main(["--check"], copy) == 1
    assert name in capsys.readouterr().out
    assert (copy / name).read_text() == damage(right), "--check has written"
    assert generate.main([], copy) == 0
    assert (copy / name).read_text() == right
    assert generate.main(["--check"], copy) == 0


def test_what_people_wrote_around_a_table_is_kept(copy: Path) -> None:
    page = copy / "docs/exit-codes.md"
    page.write_text("before\n" + generate.BEGIN + "old\n" + generate.END + "after\n")
    generate.main([], copy)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "`78`" in text


def test_a_page_without_its_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="one pair"):
        generate.with_table("no marks here\n", "table")


def in_force(text: str) -> str:
    """`.env.example` with every line of it in force, but for the third database."""
    return re.sub(r"^#(?!SHOP_|S3_)([A-Z_]+=)", r"\1", text, flags=re.MULTILINE)


def test_no_line_of_env_example_is_in_force() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_every_line_of_env_example_shows_the_default(tmp_path: Path) -> None:
    mine = tmp_path / ".env"
    mine.write_text(in_force((ROOT / ".env.example").read_text()))
    assert config.load({}, mine, {}) == config.load({}, tmp_path / "absent", {})


def test_env_example_with_every_line_in_force_is_still_read_key_by_key(tmp_path: Path) -> None:
    """A test of the test above: one changed value of `.env.example` is seen."""
    for key in ("RETENTION_DAYS=7", "AUTH_CONTAINER=postgres-a", "PAYMENT_USER=payment_user"):
        text = in_force((ROOT / ".env.example").read_text())
        assert f"\n{key}\n" in text
        changed = tmp_path / "changed"
        changed.write_text(text.replace(f"\n{key}\n", f"\n{key}1\n"))
        assert config.load({}, changed, {}) != config.load({}, tmp_path / "absent", {})


def test_env_example_has_every_setting_of_every_default_database() -> None:
    keys = set(re.findall(r"^([A-Z_]+)=", in_force((ROOT / ".env.example").read_text()), re.MULTILINE))
    expected = {row.key for row in GLOBAL_SETTINGS}
    expected |= {f"{name}_{row.key}" for name in ("AUTH", "PAYMENT") for row in TARGET_SETTINGS}
    assert keys == expected


@pytest.mark.parametrize("names", ["shop", "auth payment shop"])
def test_a_copy_of_env_example_with_one_more_database_works(tmp_path: Path, names: str) -> None:
    """The first thing that a new user does: a name, and the three lines that are shown for it."""
    text = re.sub("^#SHOP_", "SHOP_", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    mine = tmp_path / ".env"
    mine.write_text(text.replace('#DATABASES="auth payment"', f'DATABASES="{names}"'))
    *_, shop = config.load({}, mine, {}).targets
    assert (shop.name, shop.container, shop.database, shop.user) == ("shop", "postgres-c", "shop_db", "shop_user")
    assert shop.directory == "postgres-c"
    assert [target.name for target in config.load({}, mine, {}).targets] == names.split()


def test_a_copy_of_env_example_with_a_place_elsewhere_works(tmp_path: Path) -> None:
    text = re.sub("^#S3_", "S3_", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    mine = tmp_path / ".env"
    mine.write_text(text.replace("#OFFSITE=\n", "OFFSITE=s3\n"))
    (place,) = config.load({}, mine, {}).offsite
    assert (place.name, place.remote, place.required, place.encrypted) == ("s3", "s3:backups", True, True)


@pytest.mark.parametrize("row", [*GLOBAL_SETTINGS, *TARGET_SETTINGS, *PLACE_SETTINGS], ids=lambda row: row.key)
def test_every_setting_has_meaning_unit_allowed_values_and_default(row: Setting) -> None:
    key = row.key if row in GLOBAL_SETTINGS else f"<{'NAME' if row in TARGET_SETTINGS else 'PLACE'}>_{row.key}"
    (line,) = (
        line for line in (ROOT / "docs/configuration.md").read_text().splitlines() if line.startswith(f"| `{key}` |")
    )
    cells = [cell.strip() for cell in line.strip("|").split(" | ")]
    assert len(cells) == 5 and all(cells)
    assert row.meaning and row.kind.allowed and row.kind.unit
    row.kind.parse(row.default_for("auth"))
    if "whole number" in row.kind.allowed:
        assert row.kind.unit != "none"


def test_every_exit_status_is_explained_with_what_to_do() -> None:
    text = (ROOT / "docs/exit-codes.md").read_text()
    advised = set(re.findall(r"^\| ([0-9]+(?:\+n)?) \|", text, re.MULTILINE))
    assert advised == {status for status, _ in EXIT_STATUSES} - {"0"}


@pytest.mark.parametrize("tables", [1, 9000])
def test_the_commands_of_file_layout_read_a_backup(tmp_path: Path, tables: int) -> None:
    rows = {f"public.table_{number}": number for number in range(tables)}
    digest = write_backup(tmp_path / "auth_db_20240115_020000.sql.gz", rows)
    (tmp_path / "auth_db_LATEST.sql.gz").symlink_to("auth_db_20240115_020000.sql.gz")
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/file-layout.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    shown, checked = (
        subprocess.run(["sh", "-ec", block], cwd=tmp_path, capture_output=True, check=True).stdout for block in blocks
    )
    assert f'"public.table_{tables - 1}": {tables - 1}\n'.encode() in shown
    assert checked.count(digest.encode()) == 2, "once counted, once from the manifest"
    assert json.loads((tmp_path / "manifest.json").read_text())["rows"] == rows


def write_backup(path: Path, rows: dict[str, int]) -> str:
    """A backup file as far as its form goes, of a dump with one table; return the hash in its manifest."""
    with path.open("xb") as file:
        written = dumpfile.write_dump(file.fileno(), [b"CREATE TABLE public.t (a integer);\n"], lambda _bytes: None)
        facts = {"format": 1, "gzip_bytes": written.gzip_bytes, "sha256": written.sha256, "rows": rows}
        dumpfile.append_manifest(file.fileno(), facts)
    return written.sha256


def test_every_field_of_the_manifest_is_explained() -> None:
    code = inspect.getsource(dump._manifest)
    fields = re.findall(r'^ +"(\w+)":', code, re.MULTILINE)
    text = (ROOT / "docs/file-layout.md").read_text().partition("## The manifest")[2].partition("In `server`")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    assert sorted(fields) == sorted(re.findall(r"`(\w+)`", " ".join(cells)))
    assert "rows" in fields


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_tells_how_much_of_the_runbook_is_run() -> None:
    page = runbook.PAGE.read_text(encoding="utf-8")
    total, left_out = len(runbook.commands(page)), runbook.not_run(page)
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"**{total - len(left_out)} of its {total} commands as written**" in readme
    assert all(f"`{command}`" in readme for command in left_out)
