"""What a role needs for a restore is said by each backup and by --dry-run, never when services are stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import restores, servers
from tests.support.effort import chosen, wide
from tests.support.restores import Lab
from tests.support.servers import Server

pytestmark = pytest.mark.fault(125, "a role that may not do what a restore needs")
FUNCTION = "FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[Server]:
    yield from _server(15)


@pytest.fixture(scope="module")
def newest(engine: str) -> Iterator[Server]:
    yield from _server(18)


def _server(major: int) -> Iterator[Server]:
    with servers.running(major, name="pgbackup-test-rights-", database="shop", user="boss") as started:
        started.sql(f"CREATE ROLE keeper LOGIN CREATEDB PASSWORD '{started.password}'; CREATE ROLE other")
        started.sql("GRANT pg_read_all_data TO keeper")
        yield started


@pytest.fixture
def lab(server: Server, tmp_path: Path) -> Iterator[Lab]:
    """A database that belongs to keeper, who is no superuser, and so does all that is in it."""
    yield from _lab(server, tmp_path)


@pytest.fixture
def newest_lab(newest: Server, tmp_path: Path) -> Iterator[Lab]:
    yield from _lab(newest, tmp_path)


def _lab(server: Server, tmp_path: Path) -> Iterator[Lab]:
    made = restores.in_container(server, tmp_path, AUTH_USER="keeper")
    for name in made.databases():
        made.sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    made.sql("CREATE DATABASE shop OWNER keeper")
    made.sql("SET ROLE keeper; CREATE TABLE t AS SELECT 1 AS id; CREATE VIEW v AS SELECT * FROM t", "shop")
    yield made
    made.sql("ALTER ROLE keeper CREATEDB INHERIT NOSUPERUSER; REVOKE other FROM keeper")


def refused(lab: Lab, *words: str) -> None:
    """By the backup as a warning, by the dry run and the restore with 78, naming all of that; nothing was touched."""
    backup = lab.place.run(lab.source.name)
    assert backup.status == 0, backup.stderr
    dry = lab.restore("--dry-run", "shop_LATEST.sql.gz")
    assert dry.status == 78, dry.stderr
    for word in words:
        assert word in dry.stderr
        assert word in backup.stderr, "the backup did not warn"


def restored(lab: Lab) -> None:
    backup = lab.place.run(lab.source.name)
    assert backup.status == 0, backup.stderr
    assert "would be refused" not in backup.stderr
    before = lab.content()
    ended = lab.restore("--yes", "shop_LATEST.sql.gz")
    assert ended.status == 0, ended.stderr
    assert lab.content() == before
    assert lab.restore("--yes", "--drop-old").status == 0


def test_an_owner_who_may_create_databases_restores_without_being_superuser(lab: Lab) -> None:
    restored(lab)


def test_a_superuser_restores_what_belongs_to_anybody(server: Server, tmp_path: Path, lab: Lab) -> None:
    lab.sql("CREATE TABLE of_other (id int); ALTER TABLE of_other OWNER TO other", "shop")
    restored(restores.in_container(server, tmp_path / "boss"))


def test_a_table_of_a_role_that_keeper_is_no_member_of(lab: Lab) -> None:
    lab.sql("CREATE TABLE of_other (id int); ALTER TABLE of_other OWNER TO other", "shop")
    refused(lab, "other", "GRANT other TO keeper")


@wide("what", [FUNCTION], [FUNCTION, "TYPE y AS ENUM ('a')"])
def test_what_belongs_to_another_may_be_no_table(lab: Lab, what: str) -> None:
    lab.sql(f"CREATE SCHEMA s AUTHORIZATION other; CREATE {what.replace(' ', ' s.', 1)}", "shop")
    kind, _, rest = what.partition(" ")
    lab.sql(f"ALTER {kind} s.{rest.split(' ')[0]} OWNER TO other", "shop")
    refused(lab, "other")


def test_a_member_that_does_not_inherit_and_one_that_may_not_create_there(lab: Lab) -> None:
    lab.sql("CREATE SCHEMA s AUTHORIZATION keeper; CREATE TABLE s.of_other (id int)", "shop")
    lab.sql("ALTER TABLE s.of_other OWNER TO other", "shop")
    lab.sql("GRANT other TO keeper; ALTER ROLE keeper NOINHERIT")
    lab.sql("GRANT SELECT ON s.of_other TO keeper", "shop")
    refused(lab, "INHERIT")
    lab.sql("ALTER ROLE keeper INHERIT")
    refused(lab, "other in s")
    lab.sql("ALTER SCHEMA s OWNER TO other", "shop")
    restored(lab)


def test_a_role_that_may_not_create_databases_or_does_not_own_this_one(lab: Lab) -> None:
    lab.sql("ALTER ROLE keeper NOCREATEDB")
    refused(lab, "CREATEDB")
    lab.sql("ALTER ROLE keeper CREATEDB; ALTER DATABASE shop OWNER TO other")
    refused(lab, "other")


def test_a_grant_that_is_not_inherited_or_lets_nobody_become_its_role(newest_lab: Lab) -> None:
    newest_lab.sql("CREATE SCHEMA s AUTHORIZATION other; CREATE TABLE s.t (id int)", "shop")
    newest_lab.sql("ALTER TABLE s.t OWNER TO other", "shop")
    for without in ("INHERIT FALSE", "SET FALSE"):
        newest_lab.sql(f"GRANT other TO keeper WITH {without}")
        refused(newest_lab, "other")
        newest_lab.sql("REVOKE other FROM keeper")
    newest_lab.sql("GRANT other TO keeper")
    restored(newest_lab)


def test_what_only_a_superuser_can_make(lab: Lab) -> None:
    lab.sql(
        "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        " CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION e(); ALTER FUNCTION e() OWNER TO keeper",
        "shop",
    )
    refused(lab, "event triggers")
    lab.sql("DROP EVENT TRIGGER e", "shop")
    lab.sql("CREATE EXTENSION pg_stat_statements", "shop")
    refused(lab, "pg_stat_statements")


def test_a_session_of_a_superuser_that_cannot_be_ended(lab: Lab, server: Server) -> None:
    assert lab.place.run(lab.source.name).status == 0
    with server.connect():
        for arguments in chosen([["--yes"]], [["--dry-run"], ["--yes"]]):
            ended = lab.restore(*arguments, "shop_LATEST.sql.gz")
            assert ended.status == 78, ended.stderr
            assert "boss" in ended.stderr
    restored(lab)
