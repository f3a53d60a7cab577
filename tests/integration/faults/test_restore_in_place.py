"""--in-place must never end without a database, and where it has to for a while, everybody goes on bringing it back."""

from __future__ import annotations

import gzip
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pgbackup.formats import names

from demo import servers as demo_servers
from tests.support import backups, restores, servers
from tests.support.effort import wide
from tests.support.restores import Lab, Writers
from tests.support.runs import soon


@pytest.fixture
def lab(embedded: demo_servers.Server, tmp_path: Path) -> Lab:
    """The direct client cannot see how much room there is: the live database is dropped before the new one comes."""
    lab = restores.direct(embedded, tmp_path)
    programs = lab.source.values["PROGRAMS"]
    lab.place.environment["PATH"] = f"{programs}:{lab.place.environment['PATH']}"
    return lab


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[servers.Server]:
    with servers.running(15, name="pgbackup-test-restore-", database="auth_db", user="auth_user") as started:
        yield started


# A dump that is whole, and cannot be loaded: with an empty search_path the function does not find its table.
NOT_LOADABLE = """
CREATE TABLE n (id int);
CREATE FUNCTION c() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM n';
CREATE MATERIALIZED VIEW v AS SELECT c();
"""
# The same, for reasons that only rows have: a check that looks into a table that is loaded later, broken uniqueness.
WITH_ROWS = {
    "a check that looks elsewhere": """
        CREATE TABLE zz (k text PRIMARY KEY);
        CREATE FUNCTION known(text) RETURNS boolean LANGUAGE sql STABLE
          AS 'SELECT EXISTS (SELECT FROM public.zz WHERE k = $1)';
        CREATE TABLE aa (k text CHECK (public.known(k))); INSERT INTO zz VALUES ('a'); INSERT INTO aa VALUES ('a')""",
    "a broken index": """
        CREATE TABLE u (email text CONSTRAINT u_email UNIQUE); INSERT INTO u VALUES ('a');
        UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = 'u_email'::regclass;
        INSERT INTO u VALUES ('a');
        UPDATE pg_index SET indisready = true, indisvalid = true WHERE indexrelid = 'u_email'::regclass""",
}


def nobody_was_stopped(lab: Lab, ended: backups.Ended) -> None:
    assert "--in-place is refused" in ended.stderr
    assert "nothing was touched" in ended.stderr
    assert "safety" not in ended.stdout
    assert len(lab.files()) == 1


@pytest.mark.fault(102, "--in-place of what cannot be loaded, the live database not loadable")
@pytest.mark.parametrize("what", ["the file", "the live database"])
def test_what_the_server_does_not_take_is_found_before_anything_is_touched(lab: Lab, what: str) -> None:
    file, _, old = lab.reset()
    if what == "the file":
        lab.sql(NOT_LOADABLE, lab.database)
        file.unlink()
        file = lab.backup()
        lab.sql("DROP MATERIALIZED VIEW v; DROP FUNCTION c; DROP TABLE n", lab.database)
    else:
        lab.sql(NOT_LOADABLE, lab.database)
        old = lab.content()
    ended = lab.restore("--yes", "--in-place", file.name)
    assert not restores.failed(lab, ended, 65 if what == "the file" else 78, old)
    nobody_was_stopped(lab, ended)


@pytest.mark.fault(102, "--in-place of what cannot be loaded, for its rows")
@pytest.mark.parametrize("how", WITH_ROWS)
def test_what_cannot_be_loaded_beside_the_live_one_is_not_missing_it(
    server: servers.Server, tmp_path: Path, how: str
) -> None:
    """There is room here: the live database waits under another name until the new one is loaded."""
    lab = restores.in_container(server, tmp_path)
    lab.reset(20)
    lab.sql(WITH_ROWS[how], lab.database)
    old = lab.content()
    file = lab.backup()
    ended = lab.restore("--yes", "--in-place", file.name)
    assert not restores.failed(lab, ended, 65, old)
    assert "THERE IS NO DATABASE" not in ended.stderr


@pytest.mark.fault(103, "--in-place: neither loads, for its rows")
@pytest.mark.parametrize("how", WITH_ROWS)
def test_a_live_database_that_breaks_its_own_rules_is_brought_back_with_all_its_rows(lab: Lab, how: str) -> None:
    lab.reset(20)
    lab.sql(WITH_ROWS[how], lab.database)
    old = lab.content()
    file = lab.backup()
    latest = lab.directory / names.latest(lab.database)
    ended = lab.restore("--yes", "--in-place", "--keep-failed", file.name)
    assert not restores.failed(lab, ended, 65, old)
    assert f"bringing '{lab.database}' back from" in ended.stderr
    assert ("is back, but not everything is as it was" in ended.stderr) == ("index" in how)
    assert "is kept in the database" not in ended.stderr
    assert latest.readlink().name == file.name, "the safety backup holds the bad state"


def with_a_bad_row(lab: Lab, file: Path) -> Path:
    """The same dump with a row at its end that cannot be loaded."""
    bad = lab.directory / f"{lab.database}_manual_20240101_000000.sql.gz"
    text = restores.plain(gzip.decompress(file.read_bytes()))
    end = text.rindex(b"\n--\n-- PostgreSQL database dump complete")
    row = b"\nCOPY public.orders (id) FROM stdin;\nx\n\\.\n"
    bad.write_bytes(gzip.compress(text[:end] + row + text[end:]))
    return bad


@contextmanager
def no_new_database(lab: Lab) -> Iterator[None]:
    """Nobody can make a database: what all are made from is not there."""
    lab.sql("ALTER DATABASE template0 RENAME TO away")
    try:
        yield
    finally:
        lab.sql("ALTER DATABASE away RENAME TO template0")


def lost(lab: Lab, ended: backups.Ended) -> str:
    """The safety backup's path, of a command that has found or left no database and says so at its end."""
    assert ended.status, ended.stderr
    assert lab.database not in lab.databases()
    told = rf"THERE IS NO DATABASE '{lab.database}' NOW; everything that was in it is in '(.*?)'"
    found = re.search(told, ended.stderr)
    assert found, ended.stderr
    return found[1]


Gone = tuple[Path, backups.Ended, restores.Content, restores.Content]


@pytest.fixture
def gone(lab: Lab) -> Gone:
    """A restore has failed, and bringing the live database back as well."""
    file, new, old = lab.reset(20)
    process = lab.start("--yes", "--in-place", with_a_bad_row(lab, file).name)
    assert soon(lambda: bool(lab.scratch()) and lab.database not in lab.databases() and not lab.kept(), 60)
    process.send_signal(signal.SIGSTOP)
    with no_new_database(lab):
        process.send_signal(signal.SIGCONT)
        ended = lab.place.end(process)
    return file, ended, new, old


@pytest.mark.fault(103, "--in-place: bringing back fails, the next commands, by hand")
def test_where_there_is_no_database_each_command_tries_again_and_the_hand_can(lab: Lab, gone: Gone) -> None:
    _, ended, _, old = gone
    safety = lost(lab, ended)
    with no_new_database(lab):
        for again in (lab.place.run("-q", lab.source.name), lab.restore("--rollback", "--yes")):
            assert lost(lab, again) == safety
            assert list(lab.directory.glob(".pgbackup-*.journal"))
    for command in [line.strip() for line in ended.stderr.split("by hand")[1].splitlines()[1:3]]:
        subprocess.run(["sh", "-c", command], env=lab.place.environment, capture_output=True, check=True)
    assert lab.content() == old
    assert not restores.after(lab, old, old)


@pytest.mark.fault(103, "--in-place: bringing back fails, the next backup brings back")
def test_the_next_backup_brings_back_what_there_is_no_database_of(lab: Lab, gone: Gone) -> None:
    _, ended, _, old = gone
    lost(lab, ended)
    assert not restores.after(lab, old, old)


@pytest.mark.fault(103, "--in-place: bringing back fails, another file is restored")
def test_another_file_can_be_restored_where_there_is_no_database(lab: Lab, gone: Gone) -> None:
    file, ended, new, _ = gone
    safety = Path(lost(lab, ended))
    with no_new_database(lab):
        assert lost(lab, lab.restore("--yes", file.name)) == str(safety), "this one could not be loaded either"
    safety.rename(safety.with_suffix(".aside"))
    ended = lab.restore("--yes", file.name)
    safety.with_suffix(".aside").rename(safety)
    assert ended.status == 0, ended.stderr
    assert lab.content() == new
    assert not restores.leftovers(lab)


@pytest.mark.fault(103, "--in-place: the bringing back differs from the backup")
def test_bringing_back_is_not_refused_for_a_difference(lab: Lab, tmp_path: Path) -> None:
    """A dump's trigger swallows a row of the live database's, and a setting of it is unknown: it comes back."""
    file, _, _ = lab.reset(20)
    bad = with_a_bad_row(lab, file)
    lab.sql(
        "CREATE TABLE b (id int); INSERT INTO b VALUES (1), (2);"
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.b; RETURN NULL; END';"
        "CREATE MATERIALIZED VIEW z AS SELECT 1 AS one;"
        "CREATE FUNCTION dropping() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
        lab.database,
    )
    old = lab.content()
    ended = lab.restore("--yes", "--in-place", bad.name)
    assert not restores.failed(lab, ended, 65, old)
    assert "bringing 'auth_db' back from" in ended.stderr


@pytest.mark.fault(104, "--in-place: the container restarts in mid-load, while it is brought back")
@wide("kind", ["exec"], ["sidecar", "exec"])
def test_a_container_that_restarts_ends_with_a_database(server: servers.Server, tmp_path: Path, kind: str) -> None:
    lab = restores.in_container(server, tmp_path, kind)
    file, new, old = lab.reset(20)
    process = lab.start("--yes", "--in-place", file.name)
    assert soon(lambda: bool(lab.scratch()) or process.poll() is not None, 60)
    process.send_signal(signal.SIGSTOP)
    servers.docker("restart", "--time", "1", server.name)
    process.send_signal(signal.SIGCONT)
    ended = lab.place.end(process)
    assert ended.status in (0, 69), ended.stderr
    assert soon(lambda: restores.answers(lab), 60)
    assert not restores.problems(lab, old, new), "it waited for the server"
    assert not restores.after(lab, new if not ended.status else old, old)


@pytest.mark.fault(105, "--in-place: commits of clients that are no service")
def test_no_acknowledged_commit_is_in_neither_of_the_two(lab: Lab) -> None:
    file, _, _ = lab.reset(20)
    with Writers(lab, stay=True) as writers:
        assert soon(lambda: len(writers.acknowledged) > 50, 30)
        ended = lab.restore("--yes", "--in-place", "--json", file.name)
    assert ended.status == 0, ended.stderr
    (safety,) = set(lab.files()) - {file}
    assert lab.restore("--yes", "--into", "as_it_was", safety.name).status == 0
    found = {
        int(str(row[0])) for name in (lab.database, "as_it_was") for row in lab.sql("SELECT id FROM arrivals", name)
    }
    lab.sql("DROP DATABASE as_it_was")
    assert writers.acknowledged - found == set()
