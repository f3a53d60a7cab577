"""drill-backups.sh and the drill after a backup: what passes, what fails and is told, and what is left: nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import servers as demo_servers
from tests.support import backups, drills, restores, servers
from tests.support.embedded import AUTH_SQL
from tests.support.restores import Lab
from tests.support.servers import Server, docker

NIGHTLY = {"DRILL_AFTER_BACKUP": "yes"}


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[Server]:
    """PostgreSQL 15 with auth_db of auth_user."""
    with servers.running(15, name="pgbackup-test-drills-", database="auth_db", user="auth_user") as started:
        yield started


@pytest.mark.fault(161, "production is down")
def test_a_drill_passes_with_production_down_and_its_word_stands_beside_the_backup(
    server: Server, tmp_path: Path
) -> None:
    lab = restores.in_container(server, tmp_path, "auto")
    file, _, _ = lab.reset()
    docker("stop", "-t", "20", server.name)
    try:
        ended = drills.drill(lab, "--json")
        made = drills.told(ended)
        assert (ended.status, made["verdict"], made["rows"]) == (0, "passed", 2 * restores.ROWS + 3), ended.stderr
    finally:
        docker("start", server.name)
        server.wait()
    wanted = "rows, content, objects, sequences, large objects, pg_amcheck, indexes, constraints"
    assert ", ".join(made["steps"]) == wanted
    assert {"server", "load", "finish", "compare"} <= made["seconds"].keys()
    assert [(entry["drilled"] is None, entry["drill_failed"]) for entry in drills.listed(lab)] == [(False, None)]
    assert re.search(rf"{file.name} .* \d{{4}}-\d\d-\d\d  good", drills.run(lab, "scripts/verify-backups.sh").stdout)
    assert re.search(r"drill +passed", lab.restore("--history").stdout)
    assert drills.nothing_left(lab) == []
    changed = file.read_bytes()
    file.write_bytes(changed[:-1] + bytes([changed[-1] ^ 1]))
    assert [entry["drilled"] for entry in drills.listed(lab)] == [None]


@pytest.mark.fault(160, "a migration that breaks the restore")
def test_a_migration_that_breaks_the_restore_is_told_the_same_night(server: Server, tmp_path: Path) -> None:
    lab = restores.in_container(server, tmp_path, "sidecar", **NIGHTLY)
    lab.reset()
    good = drills.listed(lab)[0]
    assert good["drilled"]
    lab.sql(drills.CANNOT_BE_LOADED, lab.database)
    ended = drills.run(lab, "scripts/backup-postgres.sh")
    assert ended.status == 65, ended.stderr
    assert "the backup is published, but it cannot be restored: the dump could not be loaded: " in ended.stderr
    assert "TABLE DATA prices in schema public" in ended.stderr
    assert "function helper(integer) does not exist" in ended.stderr
    assert any("event=drill.failed" in line for line in ended.log)
    newest, older = drills.listed(lab)
    assert newest["state"] == "verified"
    assert newest["drilled"] is None
    assert "helper" in newest["drill_failed"]
    assert older["drilled"] == good["drilled"]
    assert drills.nothing_left(lab) == []


def test_a_larger_database_is_drilled_when_its_schema_is_new(lab: Lab) -> None:
    lab.place.environment |= {**NIGHTLY, "DRILL_AFTER_BACKUP_MEGABYTES": "0"}
    restores.remade(lab, 10)

    def night() -> str:
        ended = drills.run(lab, "scripts/backup-postgres.sh", "--json")
        assert ended.status == 0, ended.stderr
        return str(json.loads(ended.stdout)["databases"][0]["drill"])

    assert night() == "passed"
    lab.sql("DELETE FROM orders", lab.database)
    assert night() == ""
    lab.sql("ALTER TABLE orders ADD paid timestamptz", lab.database)
    assert night() == "passed"
    assert night() == ""


@pytest.mark.fault(162, "a database that is rightly empty")
def test_a_database_that_is_rightly_empty_passes(lab: Lab) -> None:
    lab.sql(f"DROP DATABASE IF EXISTS {lab.database}")
    lab.sql(f"CREATE DATABASE {lab.database}")
    lab.backup()
    ended = drills.drill(lab, "--json")
    assert (ended.status, drills.told(ended)["verdict"], drills.told(ended)["tables"]) == (0, "passed", 0), ended.stderr


@pytest.mark.fault(163, "a file that is cut, changed, another database's or not there")
@pytest.mark.parametrize("fault", ["cut", "flipped", "of another database", "absent", "no backup"])
def test_a_file_that_is_none_is_never_green(lab: Lab, fault: str) -> None:
    restores.remade(lab, 10)
    file = lab.backup()
    data = file.read_bytes()
    if fault == "cut":
        file.write_bytes(data[:-200])
    elif fault == "flipped":
        file.write_bytes(data[:300] + bytes([data[300] ^ 4]) + data[301:])
    elif fault == "of another database":
        lab.sql("DROP DATABASE IF EXISTS other_db")
        lab.sql("CREATE DATABASE other_db")
        other = {"AUTH_DATABASE": "other_db", "AUTH_URL": lab.dsn("other_db")}
        lab.place.environment |= other
    elif fault == "absent":
        file = file.with_name("auth_db_20010101_000000.sql.gz")
    if fault == "no backup":
        file.unlink()
        ended = drills.drill(lab, "auth", "--json")
    else:
        ended = drills.drill(lab, "auth", "--file", file.name, "--json")
    verdict, status = {"absent": ("not done", 66), "no backup": ("not done", 66)}.get(fault, ("failed", 65))
    assert (drills.told(ended)["verdict"], ended.status) == (verdict, status), ended.stderr
    assert file.name in ended.stderr or fault == "no backup"
    assert drills.nothing_left(lab) == []


@pytest.mark.fault(164, "an assertion of the operator's is not true, or its file is gone")
def test_what_the_operator_asserts_is_a_part_of_the_drill(lab: Lab, tmp_path: Path) -> None:
    restores.remade(lab, 10)
    lab.backup()
    queries = tmp_path / "assertions.sql"
    queries.write_text("SELECT count(*) = 10 FROM users;\nSELECT count(*) > 10 FROM orders;\n")
    lab.place.environment["AUTH_DRILL_SQL"] = str(queries)
    ended = drills.drill(lab, "--json")
    assert (drills.told(ended)["verdict"], ended.status) == ("failed", 65)
    assert "'SELECT count(*) > 10 FROM orders' answered 'f'" in ended.stderr
    queries.write_text("SELECT count(*) = 10 FROM users;\n")
    assert "1 of DRILL_SQL" in drills.told(drills.drill(lab, "--json"))["steps"]
    queries.unlink()
    ended = drills.drill(lab, "--json")
    assert (drills.told(ended)["verdict"], ended.status) == ("not done", 78)


def test_the_pages_own_assertions_are_true_of_the_guides_database(
    embedded: demo_servers.Server, lab: Lab, tmp_path: Path
) -> None:
    lab.sql(f"DROP DATABASE IF EXISTS {lab.database}")
    embedded.load(lab.database, AUTH_SQL, 40)
    lab.backup()
    page = (backups.ROOT / "docs/drill.md").read_text(encoding="utf-8")
    (queries,) = re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    file = tmp_path / "auth.drill.sql"
    file.write_text(queries)
    ended = drills.drill(lab, "--json", AUTH_DRILL_SQL=str(file))
    assert (ended.status, drills.told(ended)["steps"][-1]) == (0, "3 of DRILL_SQL"), ended.stderr
    lab.sql("DELETE FROM users", lab.database)
    lab.backup()
    ended = drills.drill(lab, AUTH_DRILL_SQL=str(file))
    assert ended.status == 65 and "count(*) > 0" in ended.stderr


@pytest.mark.fault(167, "the newest backup that was drilled would expire")
def test_the_newest_backup_that_was_drilled_never_expires_before_another_was(lab: Lab) -> None:
    restores.remade(lab, 10)
    drilled = lab.backup()
    assert drills.drill(lab).status == 0
    for _ in range(3):
        lab.backup()
    shown = drills.run(lab, "scripts/backup-postgres.sh", "--dry-run", "--min-backups", "1", "--retention-days", "1")
    assert shown.status == 0, shown.stderr
    ended = backups.run_at(lab.place, "+40d", MIN_BACKUPS="1", RETENTION_DAYS="1")
    assert ended.status == 0, ended.stderr
    assert drilled in lab.files()
    assert len(lab.files()) == 2
