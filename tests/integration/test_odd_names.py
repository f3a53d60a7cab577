"""Names that look like keywords or functions: what PostgreSQL lets people call their things comes back equal."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import embedded, restores
from tests.support.effort import chosen
from tests.support.restores import Lab


@pytest.fixture(scope="module", params=chosen([18], [16, 18]))
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with embedded.running(["auth_user"], major=request.param) as (server,):
        yield restores.direct(server, tmp_path_factory.mktemp("names"))


def made(lab: Lab, sql: str) -> None:
    """Make the database anew from these statements."""
    for name in lab.databases():
        lab.sql(f"DROP DATABASE {restores.quoted(name)} WITH (FORCE)")
    lab.sql(f'CREATE DATABASE "{lab.database}"')
    lab.sql(sql, lab.database)


def dumped(lab: Lab, database: str, *options: str) -> bytes:
    programs = Path(lab.source.values["PROGRAMS"])
    command = [str(programs / "pg_dump"), *options, "--dbname", lab.dsn(database)]
    return restores.plain(subprocess.run(command, capture_output=True, check=True).stdout)


def comes_back(lab: Lab, file: str = "auth_db_LATEST.sql.gz") -> None:
    before = dumped(lab, lab.database)
    ended = lab.restore("--yes", "--into", "looked_at", file)
    assert ended.status == 0, ended.stderr
    assert dumped(lab, "looked_at") == before
    lab.sql("DROP DATABASE looked_at")


SETTERS = """
CREATE TABLE asset_config (id serial PRIMARY KEY, v text);
CREATE TABLE "Set_Config" (id int GENERATED ALWAYS AS IDENTITY, "set_config" text);
CREATE TABLE set_config (set_config int, "from" text, "to" text, stdin text, program text);
CREATE TABLE stdin (system int, database int, role text);
CREATE SEQUENCE "pg_catalog.set_config('a', 'b', false);";
CREATE FUNCTION setter() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT set_config('a.b', 'c', true); END;
CREATE VIEW setting AS SELECT set_config('a.b', 'c', true);
INSERT INTO asset_config (v) VALUES ('a'), ('set_config');
INSERT INTO "Set_Config" (set_config) SELECT n FROM generate_series(1, 3) AS n;
INSERT INTO set_config VALUES (1, 'from', 'stdin', 'to', 'program');
INSERT INTO stdin VALUES (1, 2, 'x');
SELECT nextval('"pg_catalog.set_config(''a'', ''b'', false);"');
ANALYZE
"""
BEGINS = """
CREATE SCHEMA begin;
CREATE TABLE ev (begin date, "end" date, "case" int);
CREATE TABLE begin (a int);
INSERT INTO ev VALUES ('2024-01-01', '2024-01-02', 1), ('2024-02-01', NULL, 2);
INSERT INTO begin VALUES (1), (2);
CREATE FUNCTION of_column() RETURNS SETOF date LANGUAGE sql BEGIN ATOMIC SELECT begin FROM ev; END;
CREATE FUNCTION of_case() RETURNS SETOF date LANGUAGE sql BEGIN ATOMIC
  SELECT CASE WHEN "case" = 1 THEN begin ELSE "end" END AS begin FROM ev ORDER BY begin;
  SELECT begin.begin FROM ev begin; SELECT "end" AS "end" FROM ev; END;
CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION begin(begin int) RETURNS int LANGUAGE plpgsql AS 'begin return begin; end';
CREATE FUNCTION of_parameter(begin int) RETURNS int LANGUAGE sql RETURN begin;
CREATE FUNCTION of_type() RETURNS begin LANGUAGE sql BEGIN ATOMIC SELECT * FROM begin; END;
CREATE FUNCTION of_alias() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM begin atomic; END;
CREATE PROCEDURE change(begin int) LANGUAGE sql BEGIN ATOMIC
  INSERT INTO ev (begin) VALUES (now()); DELETE FROM ev WHERE begin IS NULL; UPDATE ev SET begin = begin + 1; END;
CREATE FUNCTION begin.x() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TRIGGER begin AFTER INSERT ON ev EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE FUNCTION plain(begin int, "end" int) RETURNS int LANGUAGE sql BEGIN ATOMIC
  SELECT CASE WHEN (begin > 1) THEN 1 ELSE 2 END; END
"""


@pytest.mark.fault(83, "names that contain set_config or keywords")
def test_what_is_called_like_set_config_or_a_keyword_comes_back(lab: Lab) -> None:
    made(lab, SETTERS)
    lab.backup()
    comes_back(lab)


@pytest.mark.fault(83, "names that contain set_config, in statistics")
def test_a_dump_with_statistics_of_what_is_called_like_set_config_comes_back(lab: Lab) -> None:
    """Written since 18; the names stand in calls of pg_restore_relation_stats there."""
    made(lab, SETTERS)
    if int(str(lab.sql("SHOW server_version_num")[0][0])) < 180000:
        pytest.skip("this release dumps no statistics")
    file = lab.directory / "auth_db_manual_20240101_000000.sql.gz"
    file.write_bytes(gzip.compress(dumped(lab, lab.database, "--statistics")))
    comes_back(lab, file.name)


@pytest.mark.fault(84, "functions whose text psql misreads")
def test_functions_whose_text_psql_misreads_come_back_and_the_backup_says_so(lab: Lab) -> None:
    """psql takes the name for the BEGIN of a body and the rest of the dump for the function's text."""
    made(lab, BEGINS)
    ended = lab.place.run(lab.source.name)
    assert ended.status == 0, ended.stderr
    assert "psql alone cannot read this dump" in ended.stderr
    assert "public.of_column" in ended.stderr or "begin.x" in ended.stderr
    assert any("event=backup.misread" in line for line in ended.log)
    comes_back(lab)


def test_ordinary_functions_are_not_warned_of(lab: Lab) -> None:
    made(lab, "CREATE TABLE ev (begin date); CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END")
    ended = lab.place.run(lab.source.name)
    assert ended.status == 0, ended.stderr
    assert "psql alone" not in ended.stderr
    comes_back(lab)


@pytest.mark.fault(84, "a backup that a restore will refuse")
def test_a_backup_warns_of_what_a_restore_would_refuse(lab: Lab, tmp_path: Path) -> None:
    """What is dumped is kept all the same; that it needs a look is known the same night."""
    made(lab, "CREATE TABLE ev (id int)")
    programs = Path(lab.source.values["PROGRAMS"])
    change = "s/^SET row_security = off;/&\\nLOAD 'x';/"
    (tmp_path / "pg_dump").write_text(f'#!/bin/sh\n"{programs}/pg_dump" "$@" | sed "{change}"\n')
    (tmp_path / "pg_dump").chmod(0o755)
    ended = lab.place.run(lab.source.name, PATH=f"{tmp_path}:{lab.place.environment['PATH']}")
    assert ended.status == 0, ended.stderr
    assert "a restore will refuse this dump" in ended.stderr
    assert "loads a library" in ended.stderr
    assert any("event=backup.refused" in line for line in ended.log)
    refused = lab.restore("--yes", "--into", "looked_at", "auth_db_LATEST.sql.gz")
    assert refused.status == 65
    assert "loads a library" in refused.stderr
    assert lab.scratch() == []
