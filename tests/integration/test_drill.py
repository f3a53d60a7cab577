"""drill-backups.sh and the drill after a backup: what passes, what fails and is told, and what is left: nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pgbackup.database.clients.sidecar import LABEL

from demo import servers as demo_servers
from tests.support import backups, promises, restores, servers
from tests.support.restores import Lab
from tests.support.servers import Server, docker

# pg_dump writes it down, and no psql can load it: the function finds its helper by the path of those who use it.
CANNOT_BE_LOADED = """
CREATE FUNCTION helper(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 > 0';
CREATE FUNCTION fits(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN helper($1); END';
CREATE TABLE prices (cents int CHECK (fits(cents)));
INSERT INTO prices VALUES (995)
"""
NIGHTLY = {"DRILL_AFTER_BACKUP": "yes"}


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[Server]:
    """PostgreSQL 15 with auth_db of auth_user."""
    with servers.running(15, name="pgbackup-test-drills-", database="auth_db", user="auth_user") as started:
        yield started


def drill(lab: Lab, *arguments: str, **environment: str) -> backups.Ended:
    return run(lab, "scripts/drill-backups.sh", *arguments, **environment)


def run(lab: Lab, script: str, *arguments: str, **environment: str) -> backups.Ended:
    before = len(lab.place.log())
    return lab.place.end(start(lab, script, *arguments, **environment), before=before)


def start(lab: Lab, script: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(lab.place.root / script), *arguments],
        env={**lab.place.environment, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def told(ended: backups.Ended) -> dict[str, Any]:
    """The document of a drill of one database."""
    (made,) = json.loads(ended.stdout)["drills"]
    return dict(made)


def listed(lab: Lab) -> list[dict[str, Any]]:
    ended = lab.restore("--list", "--json")
    return list(json.loads(ended.stdout)["files"])


def nothing_left(lab: Lab) -> list[str]:
    deadline = time.monotonic() + 10
    while (found := promises.leftovers(lab.place)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def test_a_drill_passes_with_production_down_and_its_word_stands_beside_the_backup(
    server: Server, tmp_path: Path
) -> None:
    lab = restores.in_container(server, tmp_path, "auto")
    file, _, _ = lab.reset()
    docker("stop", "-t", "20", server.name)
    try:
        ended = drill(lab, "--json")
        made = told(ended)
        assert (ended.status, made["verdict"], made["rows"]) == (0, "passed", 2 * restores.ROWS + 3), ended.stderr
    finally:
        docker("start", server.name)
        server.wait()
    wanted = "rows, content, objects, sequences, large objects, pg_amcheck, indexes, constraints"
    assert ", ".join(made["steps"]) == wanted
    assert {"server", "load", "finish", "compare"} <= made["seconds"].keys()
    assert [(entry["drilled"] is None, entry["drill_failed"]) for entry in listed(lab)] == [(False, None)]
    assert re.search(rf"{file.name} .* \d{{4}}-\d\d-\d\d  good", run(lab, "scripts/verify-backups.sh").stdout)
    assert re.search(r"drill +passed", lab.restore("--history").stdout)
    assert nothing_left(lab) == []
    changed = file.read_bytes()
    file.write_bytes(changed[:-1] + bytes([changed[-1] ^ 1]))
    assert [entry["drilled"] for entry in listed(lab)] == [None]


def test_a_migration_that_breaks_the_restore_is_told_the_same_night(server: Server, tmp_path: Path) -> None:
    lab = restores.in_container(server, tmp_path, "sidecar", **NIGHTLY)
    lab.reset()
    good = listed(lab)[0]
    assert good["drilled"]
    lab.sql(CANNOT_BE_LOADED, lab.database)
    ended = run(lab, "scripts/backup-postgres.sh")
    assert ended.status == 65, ended.stderr
    assert "the backup is published, but it cannot be restored: the dump could not be loaded: " in ended.stderr
    assert "TABLE DATA prices in schema public" in ended.stderr
    assert "function helper(integer) does not exist" in ended.stderr
    assert any("event=drill.failed" in line for line in ended.log)
    newest, older = listed(lab)
    assert newest["state"] == "verified"
    assert newest["drilled"] is None
    assert "helper" in newest["drill_failed"]
    assert older["drilled"] == good["drilled"]
    assert nothing_left(lab) == []


def test_a_larger_database_is_drilled_when_its_schema_is_new(lab: Lab) -> None:
    lab.place.environment |= {**NIGHTLY, "DRILL_AFTER_BACKUP_MEGABYTES": "0"}
    restores.remade(lab, 10)

    def night() -> str:
        ended = run(lab, "scripts/backup-postgres.sh", "--json")
        assert ended.status == 0, ended.stderr
        return str(json.loads(ended.stdout)["databases"][0]["drill"])

    assert night() == "passed"
    lab.sql("DELETE FROM orders", lab.database)
    assert night() == ""
    lab.sql("ALTER TABLE orders ADD paid timestamptz", lab.database)
    assert night() == "passed"
    assert night() == ""


def test_a_database_that_is_rightly_empty_passes(lab: Lab) -> None:
    lab.sql(f"DROP DATABASE IF EXISTS {lab.database}")
    lab.sql(f"CREATE DATABASE {lab.database}")
    lab.backup()
    ended = drill(lab, "--json")
    assert (ended.status, told(ended)["verdict"], told(ended)["tables"]) == (0, "passed", 0), ended.stderr


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
        ended = drill(lab, "auth", "--json")
    else:
        ended = drill(lab, "auth", "--file", file.name, "--json")
    verdict, status = {"absent": ("not done", 66), "no backup": ("not done", 66)}.get(fault, ("failed", 65))
    assert (told(ended)["verdict"], ended.status) == (verdict, status), ended.stderr
    assert file.name in ended.stderr or fault == "no backup"
    assert nothing_left(lab) == []


def test_what_the_operator_asserts_is_a_part_of_the_drill(lab: Lab, tmp_path: Path) -> None:
    restores.remade(lab, 10)
    lab.backup()
    queries = tmp_path / "assertions.sql"
    queries.write_text("SELECT count(*) = 10 FROM users;\nSELECT count(*) > 10 FROM orders;\n")
    lab.place.environment["AUTH_DRILL_SQL"] = str(queries)
    ended = drill(lab, "--json")
    assert (told(ended)["verdict"], ended.status) == ("failed", 65)
    assert "'SELECT count(*) > 10 FROM orders' answered 'f'" in ended.stderr
    queries.write_text("SELECT count(*) = 10 FROM users;\n")
    assert "1 of DRILL_SQL" in told(drill(lab, "--json"))["steps"]
    queries.unlink()
    ended = drill(lab, "--json")
    assert (told(ended)["verdict"], ended.status) == ("not done", 78)


def test_a_drill_makes_way_for_a_backup(server: Server, tmp_path: Path) -> None:
    lab = restores.in_container(server, tmp_path, "sidecar")
    restores.remade(lab, 300_000)
    lab.backup()
    running = start(lab, "scripts/drill-backups.sh")
    await_container(lab)
    ended = run(lab, "scripts/backup-postgres.sh")
    assert ended.status == 0, ended.stderr
    out, err = running.communicate(timeout=60)
    assert running.returncode == 75, (out, err)
    assert b"not done" in err
    assert b"makes way" in err
    assert nothing_left(lab) == []


@pytest.mark.parametrize("way", ["KILL", "TERM"])
def test_a_drill_that_is_killed_leaves_nothing(server: Server, tmp_path: Path, way: str) -> None:
    lab = restores.in_container(server, tmp_path, "sidecar")
    restores.remade(lab, 50_000)
    lab.backup()
    before = volumes()
    running = start(lab, "scripts/drill-backups.sh")
    await_container(lab)
    os.killpg(running.pid, signal.Signals[f"SIG{way}"])
    running.communicate(timeout=30)
    deadline = time.monotonic() + 15
    while (left := [*containers(lab), *(volumes() - before)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    ended = drill(lab)
    assert ended.status == 0, ended.stderr
    assert nothing_left(lab) == []
    assert volumes() - before == set()


def test_a_drill_on_the_host_that_is_killed_leaves_nothing_for_long(
    embedded: demo_servers.Server, tmp_path: Path
) -> None:
    lab = restores.direct(embedded, tmp_path)
    restores.remade(lab, 50_000)
    lab.backup()
    scratch = Path(tempfile.mkdtemp())  # pytest's own directories are closed to the server's account
    scratch.chmod(0o711)
    running = start(lab, "scripts/drill-backups.sh", TMPDIR=str(scratch))
    deadline = time.monotonic() + 60
    while not list(scratch.glob("*/data/postmaster.pid")) and time.monotonic() < deadline:
        time.sleep(0.02)
    postmaster = int(next(scratch.glob("*/data/postmaster.pid")).read_text().split()[0])
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate(timeout=30)
    while Path(f"/proc/{postmaster}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{postmaster}").exists()
    assert drill(lab, TMPDIR=str(scratch)).status == 0
    scratch.rmdir()


def await_container(lab: Lab) -> None:
    deadline = time.monotonic() + 60
    while not containers(lab):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def containers(lab: Lab) -> list[str]:
    """The throwaway servers of drills that run now."""
    assert lab.server is not None
    names = docker("ps", "--all", "--format", "{{.Names}} {{.Networks}}").stdout.splitlines()
    return [name for name in names if name.startswith("pgbackup-") and name.endswith(" none")]


def volumes() -> set[str]:
    """Those of this suite."""
    return set(docker("volume", "ls", "--quiet", "--filter", f"label={LABEL}").stdout.split())


def test_the_newest_backup_that_was_drilled_never_expires_before_another_was(lab: Lab) -> None:
    restores.remade(lab, 10)
    drilled = lab.backup()
    assert drill(lab).status == 0
    for _ in range(3):
        lab.backup()
    shown = run(lab, "scripts/backup-postgres.sh", "--dry-run", "--min-backups", "1", "--retention-days", "1")
    assert shown.status == 0, shown.stderr
    ended = backups.run_at(lab.place, "+40d", MIN_BACKUPS="1", RETENTION_DAYS="1")
    assert ended.status == 0, ended.stderr
    assert drilled in lab.files()
    assert len(lab.files()) == 2
