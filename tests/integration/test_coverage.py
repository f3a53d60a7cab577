"""Which databases there are, and what a dump of them would miss, is found on a real server and told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from pgbackup.commands.status import probing, show
from pgbackup.commands.status.publishing import Files
from pgbackup.report.promises.facts import Finding
from pgbackup.report.promises.promise import BROKEN, COVERAGE, Promise
from pgbackup.report.promises.status import Status
from pgbackup.settings.config import Settings
from pgbackup.store.state.watch import Found, Probe

from tests.support import settings
from tests.support.servers import Server

ROOT = Path(__file__).resolve().parents[2]
ODD = 'odd; "name"\n$(id)'

WORLD = """
CREATE ROLE coverage_reader LOGIN;
CREATE DATABASE coverage;
CREATE DATABASE "shop_before_restore_20260101_020000";
\\c coverage
CREATE TABLE open (x int);
CREATE TABLE closed (x int);
CREATE TABLE ruled (x int);
ALTER TABLE ruled ENABLE ROW LEVEL SECURITY;
CREATE SCHEMA hidden;
CREATE TABLE hidden."t a" (x int);
GRANT SELECT ON open, ruled, hidden."t a" TO coverage_reader;
CREATE UNLOGGED TABLE careless (x int);
GRANT SELECT ON careless TO coverage_reader;
SELECT lo_create(4711);
SELECT lo_create(4712);
GRANT SELECT ON LARGE OBJECT 4712 TO coverage_reader;
"""


@pytest.fixture(scope="module")
def world(postgres_a: Server) -> Iterator[Server]:
    """The server, with a database that a role may only half read, and two that no job has."""
    postgres_a.psql("-f", "-", stdin=WORLD)
    odd = ODD.replace('"', '""')
    postgres_a.psql("-f", "-", stdin=f'CREATE DATABASE "{odd}";')
    yield postgres_a
    names = ["coverage", "shop_before_restore_20260101_020000", odd]
    postgres_a.psql(
        "-f", "-", stdin="".join(f'DROP DATABASE "{name}";\n' for name in names) + "DROP ROLE coverage_reader;"
    )


def loaded(top: Path, server: Server, user: str, **more: str) -> Settings:
    env = {"BACKUP_DIR": str(top), "DATABASES": "shop", "SHOP_CONTAINER": server.name, "SHOP_DATABASE": "coverage"}
    return settings.load(top, "", {**env, "SHOP_USER": user, **more})


def look(known: Settings) -> Status:
    return show.look(known, ROOT)


def of_server(status: Status, server: Server) -> list[Finding]:
    coverage = status.facts.coverage
    assert coverage is not None
    return [each for each in coverage.findings if each.container == server.name]


def covered(status: Status) -> Promise:
    return next(promise for promise in status.promises if promise.kind == COVERAGE)


@pytest.mark.fault(216, "a database that no job has; tables that the role may not read")
def test_what_nobody_backs_up_is_told_until_a_job_has_it_or_a_reason_is_given(world: Server, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    known = loaded(tmp_path, world, "coverage_reader")
    made = probing.run(known, ROOT, Files(), scheduled=True, quiet=True)
    assert made.status == 66
    found = of_server(look(known), world)
    kinds = {(each.kind, each.database): each for each in found}
    assert ("database", ODD) in kinds and ("database", world.database) in kinds
    assert not any("before_restore" in each.database or each.database == "postgres" for each in found)
    unreadable = kinds["unreadable", "coverage"]
    assert "3 tables" in unreadable.what and "closed" in unreadable.what and 'hidden."t a"' in unreadable.what
    assert "public.ruled" in unreadable.what, "a policy hides its rows"
    assert "1 large object: 4711" in kinds["large objects", "coverage"].what
    assert kinds["unlogged", "coverage"].harmless and "careless" in kinds["unlogged", "coverage"].what
    assert covered(look(known)).state == BROKEN
    status = look(loaded(tmp_path, world, "coverage_reader", IGNORE=f"{world.name}/*: of the tests; x/y: of nobody"))
    assert all(each.ignored for each in of_server(status, world))
    alone = loaded(tmp_path, world, "coverage_reader", IGNORE=f"{world.name}/{world.database}: not ours")
    assert [each.ignored for each in of_server(look(alone), world) if each.database == world.database] == ["not ours"]
    more = {"DATABASES": "shop other", "OTHER_CONTAINER": world.name, "OTHER_DATABASE": world.database}
    status = look(loaded(tmp_path, world, "coverage_reader", **more))
    assert not [each for each in of_server(status, world) if each.database == world.database], "a job has it now"


def test_of_a_server_that_does_not_answer_what_was_known_stays() -> None:
    unlisted, unlogged = Found("database", "a", "x", "no job has it"), Found("unlogged", "b", "y", "1 table", True)
    silent = Found("unreachable", "a", "", "it does not answer", True)
    before = Probe(datetime(2026, 1, 1, 0, tzinfo=timezone.utc), 2, 4, [unlisted, unlogged])
    found = Probe(datetime(2026, 1, 1, 1, tzinfo=timezone.utc), 1, 2, [silent])
    assert probing.carried(before, found).findings == [silent, unlisted], "the other one answered, and has it no more"
    assert probing.carried(None, found) == found
    assert probing.carried(probing.carried(before, found), before).findings == before.findings


def test_a_superuser_misses_nothing_and_a_schedule_looks_once_an_hour(world: Server, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    known = loaded(tmp_path, world, world.user)
    probing.run(known, ROOT, Files(), scheduled=True, quiet=True)
    first = look(known)
    kinds = {each.kind for each in of_server(first, world) if each.database == "coverage"}
    assert kinds == {"unlogged", "roles"}
    probing.run(known, ROOT, Files(), scheduled=True, quiet=True)
    coverage, again = first.facts.coverage, look(known).facts.coverage
    assert coverage and again and coverage.probed == again.probed
