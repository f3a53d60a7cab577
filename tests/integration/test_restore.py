"""restore-postgres.sh where nothing goes wrong: every way to ask for it, and what is there afterwards."""

from __future__ import annotations

import fcntl
import gzip
import json
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo import servers as demo_servers
from tests.support import backups, restores, round_trip, servers
from tests.support.effort import chosen, each_value, wide
from tests.support.restores import Lab
from tests.support.servers import Server


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[Server]:
    """PostgreSQL 15 with auth_db of auth_user."""
    with servers.running(15, name="pgbackup-test-restore-", database="auth_db", user="auth_user") as started:
        yield started


@pytest.fixture(scope="module")
def embedded() -> Iterator[demo_servers.Server]:
    """The same without Docker, much faster."""
    with restores.embedded_server() as started:
        started.psql("postgres", "-c", "CREATE ROLE clerk LOGIN; CREATE ROLE owner_of_it")
        yield started


def good(lab: Lab, ended: backups.Ended) -> None:
    assert ended.status == 0, ended.stderr
    assert restores.leftovers(lab) == []


@wide("kind", ["sidecar"], ["sidecar", "exec", "auto"])
def test_restored_is_what_the_backup_holds_and_the_old_one_is_kept_closed(
    server: Server, tmp_path: Path, kind: str
) -> None:
    lab = restores.in_container(server, tmp_path, kind)
    file, new, old = lab.reset()
    assert new != old
    ended = lab.restore("--yes", file.name)
    good(lab, ended)
    assert lab.content() == new
    assert restores.problems(lab, old, new) == []
    (kept,) = lab.kept()
    assert kept in ended.stdout
    assert "--rollback" in ended.stdout
    assert lab.sql(f"SELECT datallowconn FROM pg_database WHERE datname = '{kept}'") == [(False,)]


def test_a_dump_of_15_goes_into_18_and_one_of_18_is_refused_by_15(server: Server, engine: str, tmp_path: Path) -> None:
    lab = restores.in_container(server, tmp_path / "15")
    file, new, old = lab.reset()
    with servers.running(18, name="pgbackup-test-restore-", database="auth_db", user="auth_user") as newer:
        there = restores.in_container(newer, tmp_path / "18")
        good(there, there.restore("--yes", str(file)))
        assert there.content() == new
        good(there, there.restore("--yes", there.backup().name))
        assert there.content() == new
        refused = lab.restore("--yes", str(there.files()[0]))
    assert refused.status == 78, refused.stderr
    assert "the dump is from PostgreSQL 18, but the server is 15" in refused.stderr
    assert restores.problems(lab, old, old) == []


def test_file_is_a_path_a_bare_name_or_the_link_to_the_latest(lab: Lab, tmp_path: Path) -> None:
    file, new, _ = lab.reset()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copied = Path(shutil.copy(file, elsewhere))
    typed_ways = (str(copied), f"{lab.database}_LATEST.sql.gz", str(file), file.name)
    for typed in typed_ways[: chosen(2, 4)]:
        lab.lose()
        good(lab, lab.restore("--yes", typed))
        assert lab.content() == new, typed


def test_a_dump_made_by_hand_as_in_the_guide_is_restored_and_said_to_have_no_manifest(
    server: Server, tmp_path: Path
) -> None:
    lab = restores.in_container(server, tmp_path)
    _, new, old = lab.reset()
    by_hand = lab.directory / f"{lab.database}_manual_20240115_143000.sql.gz"
    guide = 'docker exec "$1" pg_dump -U "$2" "$3" | gzip > "$4"'
    words = [server.name, server.user, lab.database, str(by_hand)]
    subprocess.run(["sh", "-c", guide, "sh", *words], check=True)
    assert new != old
    lab.sql("DELETE FROM orders", lab.database)
    ended = lab.restore("--yes", by_hand.name)
    good(lab, ended)
    assert "no manifest" in ended.stderr
    assert lab.content() == old


def test_a_large_backup_whose_rows_are_followed_by_an_index_at_once_is_restored(lab: Lab) -> None:
    """No key, no sequence between: more than 64 MiB of rows, then CREATE INDEX, in sessions of their own."""
    restores.remade(lab, rows=1)
    lab.sql('DROP TABLE orders, users, arrivals; DROP TABLE "odd ""name"", with a\nnewline"', lab.database)
    lab.sql(
        "CREATE TABLE events (n int, note text);"
        " CREATE INDEX first ON events (n); CREATE INDEX second ON events (n DESC);"
        " INSERT INTO events SELECT n, repeat(md5(n::text), 30000) FROM generate_series(1, 72) AS n",
        lab.database,
    )
    file, new = lab.backup(), lab.content()
    assert round_trip.manifest(file)["sql_bytes"] > 64 << 20
    good(lab, lab.restore("--yes", "--into", "looked_at", file.name))
    assert lab.content("looked_at") == new
    indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 'events'"
    assert lab.sql(indexes, "looked_at") == [(2,)]


def test_the_manifest_has_the_checksum_of_what_copy_writes_of_each_restored_table(lab: Lab) -> None:
    file, _, _ = lab.reset(rows=300)
    good(lab, lab.restore("--yes", "--into", "looked_at", file.name))
    content = round_trip.manifest(file)["content"]
    assert len(content) == 4
    with psycopg.connect(lab.dsn("looked_at")) as session:
        for table, checksum in content.items():
            with session.cursor().copy(f"COPY {table} TO STDOUT".encode()) as rows:
                text = b"".join(rows)
            assert checksum == f"{len(text)}-{zlib.crc32(text):08x}-{zlib.adler32(text):08x}"


def test_into_makes_another_database_and_leaves_the_live_one_alone(lab: Lab) -> None:
    file, new, old = lab.reset()
    good(lab, lab.restore("--yes", "--into", 'a "copy"', file.name))
    assert lab.content('a "copy"') == new
    assert lab.content() == old
    again = lab.restore("--yes", "--into", 'a "copy"', file.name)
    assert again.status == 78, again.stderr
    assert "already" in again.stderr
    too_long = lab.restore("--yes", "--into", "n" * 64, file.name)
    assert too_long.status == 78, too_long.stderr
    assert lab.content('a "copy"') == new


def test_rollback_brings_the_old_one_back_and_again_the_new_one(lab: Lab) -> None:
    file, new, old = lab.reset()
    good(lab, lab.restore("--yes", file.name))
    for expected in (old, new, old)[: chosen(2, 3)]:
        good(lab, lab.restore("--rollback", "--yes"))
        assert lab.content() == expected
        assert len(lab.kept()) == 1


def test_drop_old_removes_every_kept_database_and_nothing_else(lab: Lab) -> None:
    file, new, _ = lab.reset()
    assert lab.restore("--drop-old", "--yes").status == 66
    lab.sql(f'CREATE DATABASE "{lab.database}_before_restore_of_mine"')
    lab.sql(f'CREATE DATABASE "{lab.database}_2_before_restore_20240101_000000"')
    good(lab, lab.restore("--yes", file.name))
    good(lab, lab.restore("--yes", file.name))
    assert len(lab.kept()) == 3
    assert lab.restore("--drop-old", "--yes", "--dry-run").status == 0
    assert len(lab.kept()) == 3
    good(lab, lab.restore("--drop-old", "--yes"))
    assert lab.kept() == [f"{lab.database}_before_restore_of_mine"]
    assert f"{lab.database}_2_before_restore_20240101_000000" in lab.databases()
    assert lab.content() == new
    assert lab.restore("--rollback", "--yes").status == 66


def test_while_another_run_has_the_lock_nothing_is_written_and_dry_runs_only_look(lab: Lab) -> None:
    file, new, _ = lab.reset()
    good(lab, lab.restore("--yes", file.name))
    kept = lab.kept()
    with (lab.place.directory() / f".{lab.database}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for words in ([file.name], ["--rollback"], ["--drop-old"]):
            ended = lab.restore("--yes", *words)
            assert ended.status == 75, ended.stderr
            assert lab.restore("--dry-run", *words).status == 0
    assert (lab.content(), lab.kept()) == (new, kept)


def test_dry_run_checks_all_and_changes_nothing(lab: Lab) -> None:
    file, _, old = lab.reset()
    before = {path: path.stat().st_mtime_ns for path in lab.place.path.rglob("*")}
    ended = lab.restore("--dry-run", file.name)
    good(lab, ended)
    assert "WILL BE LOST" in ended.stderr
    assert lab.content() == old
    assert lab.databases() == [lab.database]
    assert {path: path.stat().st_mtime_ns for path in lab.place.path.rglob("*")} == before
    lab.sql("CREATE TABLE goes_on (id int)", lab.database)
    bad = lab.directory / f"{lab.database}_20240101_000000.sql.gz"
    bad.write_bytes(file.read_bytes()[:-100])
    assert lab.restore("--dry-run", bad.name).status == 65


@pytest.mark.fault(128, "an old backup that lacks most of what is there now")
def test_the_question_shows_what_only_the_live_database_has(lab: Lab) -> None:
    lab.reset(50)
    lab.sql("DROP TABLE orders; ANALYZE", lab.database)
    file = lab.backup()
    lab.sql("CREATE TABLE orders AS SELECT generate_series(1, 40000) AS id", lab.database)
    lab.sql('CREATE TABLE "in voices" AS SELECT generate_series(1, 777) AS id; DELETE FROM arrivals', lab.database)
    lab.sql("INSERT INTO users SELECT n, n::text FROM generate_series(1000, 1004) n", lab.database)
    with psycopg.connect(lab.dsn(lab.database)) as session:
        session.execute('LOCK TABLE "in voices" IN ACCESS EXCLUSIVE MODE')
        ended = lab.restore("--dry-run", "--json", file.name)
    assert ended.status == 0, ended.stderr
    said = ended.stderr.splitlines()
    first = next(number for number, line in enumerate(said) if "public.orders" in line)
    assert re.search(r"public\.orders +- +40,000 +ALL LOST", said[first])
    assert re.search(r'public\."in voices" +- +~\d+', said[first + 1]), "it was locked, so it is estimated"
    assert re.search(r"public\.users +\S+ +\S+ +5 lost", ended.stderr)
    known = {each["table"]: each for each in documents(ended)["compared"]}
    assert (known["public.orders"]["backup"], known["public.orders"]["now"]) == (None, 40000)
    assert not known['public."in voices"']["exact"]
    lab.sql("DROP TABLE orders", lab.database)
    again = lab.restore("--dry-run", file.name)
    assert "orders" not in again.stderr


def test_in_place_restores_where_two_do_not_fit_and_keeps_a_backup_of_what_was_there(lab: Lab) -> None:
    file, new, old = lab.reset()
    backups = set(lab.files())
    ended = lab.restore("--yes", "--in-place", file.name)
    good(lab, ended)
    assert lab.content() == new
    assert lab.kept() == []
    (safety,) = set(lab.files()) - backups
    assert safety.name in ended.stdout
    good(lab, lab.restore("--yes", safety.name))
    assert lab.content() == old


@each_value(how=["dropped", "invalid"], options=[[], ["--in-place"]])
def test_a_live_database_that_is_gone_or_invalid_comes_back(lab: Lab, how: str, options: list[str]) -> None:
    file, new, _ = lab.reset()
    if how == "dropped":
        lab.sql(f'DROP DATABASE "{lab.database}" WITH (FORCE)')
    else:
        lab.sql(f"UPDATE pg_database SET datconnlimit = -2 WHERE datname = '{lab.database}'")
    ended = lab.restore("--yes", *options, file.name)
    good(lab, ended)
    assert lab.content() == new
    assert lab.databases() == [lab.database]


def test_a_live_database_that_is_closed_comes_back_open(lab: Lab) -> None:
    file, new, _ = lab.reset()
    lab.sql(f'ALTER DATABASE "{lab.database}" ALLOW_CONNECTIONS false')
    good(lab, lab.restore("--yes", file.name))
    assert lab.content() == new


PROPERTIES = """
SELECT pg_get_userbyid(datdba), (SELECT array_agg(one ORDER BY one::text) FROM unnest(datacl) AS one)::text,
  datconnlimit, pg_encoding_to_char(encoding), datcollate,
  shobj_description(oid, 'pg_database'),
  (SELECT json_agg(json_build_array(setrole::regrole, setconfig) ORDER BY setrole)::text FROM pg_db_role_setting
   WHERE setdatabase = d.oid)
FROM pg_database d WHERE datname = 'auth_db'
"""


def test_what_pg_dump_does_not_write_is_put_back(lab: Lab) -> None:
    lab.reset()
    for statement in (
        "ALTER DATABASE auth_db OWNER TO owner_of_it",
        "ALTER DATABASE auth_db CONNECTION LIMIT 17",
        "COMMENT ON DATABASE auth_db IS E'it''s\\na \"comment\" 🐘 \\\\'",
        "REVOKE TEMPORARY ON DATABASE auth_db FROM PUBLIC",
        "GRANT CREATE ON DATABASE auth_db TO clerk WITH GRANT OPTION",
        'ALTER DATABASE auth_db SET search_path = "$user", public, \'odd "one"\'',
        "ALTER DATABASE auth_db SET default_transaction_read_only = on",
        "ALTER DATABASE auth_db SET statement_timeout = '5s'",
        "ALTER DATABASE auth_db SET my.own = 'it''s \\ so'",
        "ALTER ROLE clerk IN DATABASE auth_db SET work_mem = '7MB'",
    ):
        lab.sql(statement)
    before = lab.sql(PROPERTIES)
    file = lab.backup()
    good(lab, lab.restore("--yes", file.name))
    assert lab.sql(PROPERTIES) == before
    lab.sql('DROP DATABASE "auth_db" WITH (FORCE)')
    good(lab, lab.restore("--yes", file.name))
    assert lab.sql(PROPERTIES) == before


def test_create_roles_makes_missing_ones_without_password_and_without_power(lab: Lab) -> None:
    lab.reset()
    lab.sql("CREATE ROLE gone LOGIN CREATEDB PASSWORD 'geheim'; CREATE ROLE boss SUPERUSER")
    lab.sql("ALTER TABLE orders OWNER TO gone; ALTER TABLE users OWNER TO boss", lab.database)
    file = lab.backup()
    lab.sql("ALTER TABLE orders OWNER TO auth_user; ALTER TABLE users OWNER TO auth_user", lab.database)
    lab.sql("DROP ROLE gone; DROP ROLE boss")
    try:
        refused = lab.restore("--yes", file.name)
        assert refused.status == 78, refused.stderr
        assert "gone" in refused.stderr
        assert "--create-roles" in refused.stderr
        ended = lab.restore("--yes", "--create-roles", file.name)
        good(lab, ended)
        assert "'gone' was made without a password" in ended.stderr
        assert "'boss' was SUPERUSER but is not now" in ended.stderr
        roles = "SELECT rolname, rolsuper, rolcanlogin, rolcreatedb, rolpassword FROM pg_authid WHERE rolname IN"
        found = lab.sql(f"{roles} ('gone', 'boss') ORDER BY 1")
        assert found == [("boss", False, False, False, None), ("gone", False, True, True, None)]
    finally:
        restores.remade(lab)
        lab.sql("DROP ROLE IF EXISTS gone; DROP ROLE IF EXISTS boss")


def documents(ended: backups.Ended) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(ended.stdout)  # which refuses a second one
    return document


def test_json_is_one_document_for_success_and_failure(lab: Lab) -> None:
    file, _, _ = lab.reset()
    done = documents(lab.restore("--json", "--yes", file.name))
    assert (done["command"], done["status"], done["rows"]) == ("restore", 0, restores.ROWS * 2 + 3)
    assert done["replaced"] == lab.kept()[0]
    assert {"verify", "load", "compare", "swap"} <= done["seconds"].keys()
    refused = lab.restore("--json", "--yes", "no_such_file")
    assert refused.status == documents(refused)["status"] == 66
    assert documents(lab.restore("--json"))["status"] == 64
    assert documents(lab.restore("--json", "--list"))["files"][0]["file"] == str(file)
    assert len(documents(lab.restore("--json", "--history"))["restores"]) == 1
    assert documents(lab.restore("--json", "--rollback", "--yes"))["status"] == 0


def test_list_shows_age_size_rows_and_state_of_each(lab: Lab) -> None:
    file, _, _ = lab.reset()
    bad = lab.directory / f"{lab.database}_20240101_000000.sql.gz"
    bad.write_bytes(file.read_bytes()[:-100])
    ended = lab.restore("--list")
    assert ended.status == 0
    _, first, second = ended.stdout.splitlines()
    assert re.search(rf"{file.name}\s+\d+ \w+\s+.*B\s+4,003\s+verified$", first)
    assert f"{bad.name}" in second
    assert "BAD" in second
    file.unlink()
    assert lab.restore("--list").status == 66


def test_history_tells_who_what_how_long_and_the_outcome_newest_first(lab: Lab) -> None:
    file, _, _ = lab.reset()
    good(lab, lab.restore("--yes", file.name, SUDO_USER="alice"))
    lab.restore("--yes", "no_such_file")
    good(lab, lab.restore("--rollback", "--yes"))
    heads, rollback, restore = lab.restore("--history").stdout.splitlines()
    assert heads.split()[:2] == ["started", "(UTC)"]
    assert "rollback" in rollback
    assert "done" in rollback
    assert "alice" in restore
    assert file.name in restore
    lines = (lab.place.path / "restore-history.jsonl").read_text().splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["restore", "rollback"]


def test_keep_failed_keeps_what_was_loaded_for_inspection(lab: Lab) -> None:
    _, _, old = lab.reset()
    bad = lab.directory / f"{lab.database}_manual_20240101_000000.sql.gz"
    text = gzip.decompress(max(lab.files()).read_bytes())
    plain = restores.plain(text).replace(b"COPY public.orders", b"COPY public.no_such_table", 1)
    bad.write_bytes(gzip.compress(plain))
    ended = lab.restore("--yes", "--keep-failed", bad.name)
    assert ended.status == 65, ended.stderr
    (scratch,) = lab.scratch()
    assert scratch in ended.stderr
    assert lab.content() == old
    assert lab.restore("--yes", bad.name).status == 65
    assert lab.scratch() == [scratch], "and only that one"
