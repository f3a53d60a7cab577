"""Roles with passwords, memberships and settings leave the cluster and come back, so that an application logs in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from pgbackup.commands import job
from pgbackup.commands.job import Job
from pgbackup.database import pg_dumpall
from pgbackup.database.clients.client import Client
from pgbackup.errors import PermissionDenied, SuiteError
from pgbackup.report.events import Events
from pgbackup.report.progress import reporting
from pgbackup.settings import config
from pgbackup.sql import cluster
from pgbackup.store import folder

from tests.support.effort import each_value
from tests.support.servers import Server

ROLES = """
CREATE ROLE app LOGIN PASSWORD 'geheim' CONNECTION LIMIT 7 VALID UNTIL '2100-01-01';
CREATE ROLE "Odd one" SUPERUSER;
CREATE ROLE readers NOLOGIN;
GRANT readers TO app WITH ADMIN OPTION;
GRANT pg_monitor TO app;
ALTER ROLE app SET search_path TO shop, public;
ALTER ROLE app SET work_mem TO '7MB';
COMMENT ON ROLE readers IS 'who reads; it''s "all"';
"""
GONE = 'DROP ROLE IF EXISTS app; DROP ROLE IF EXISTS "Odd one"; DROP ROLE IF EXISTS readers'
SEEN = """
SELECT json_agg(row_to_json(x) ORDER BY x.rolname) FROM (
  SELECT a.rolname, to_jsonb(a) - 'oid', r.rolconfig, shobj_description(a.oid, 'pg_authid') AS said,
    (SELECT array_agg(m.roleid::regrole::text || m.admin_option ORDER BY m.roleid::regrole::text)
     FROM pg_auth_members m WHERE m.member = a.oid)
  FROM pg_authid a JOIN pg_roles r USING (rolname) WHERE a.rolname IN ('app', 'Odd one', 'readers')) x
"""


@contextmanager
def connected(place: Path, **environment: str) -> Iterator[Client]:
    settings = config.load(environment, place / "absent", {"BACKUP_DIR": str(place)})
    target = settings.targets[0]
    (place / target.directory).mkdir(mode=0o700, exist_ok=True)
    with folder.opened(place / target.directory, create=False) as there, reporting(quiet=True) as reporter:
        working = Job(target, settings, there, job.identity(target, there), Events(()), reporter)
        with working.client() as client:
            yield client


@each_value(kind=["sidecar", "exec"], major=[15, 18])
def test_a_role_that_was_lost_logs_in_again(
    server: Callable[..., Server], tmp_path: Path, kind: str, major: int
) -> None:
    tmp_path.chmod(0o755)
    here = server(major, database="auth_db", user="auth_user")
    here.sql(ROLES)
    there = {"DATABASES": "auth", "AUTH_CONTAINER": here.name, "AUTH_CLIENT": kind}
    before = here.sql(SEEN)
    with connected(tmp_path, **there) as client:
        text, lacking = pg_dumpall.dumped(client)
        assert lacking == [] and b"geheim" not in text and b"SCRAM-SHA-256$" in text
        found = cluster.read(text.decode())
        here.sql(GONE)
        assert set(pg_dumpall.missing(found, ["auth_user"])) == {"app", "Odd one", "readers"}
        assert any("SUPERUSER" in line for line in pg_dumpall.told(found, ["Odd one"]))
        assert pg_dumpall.bring_back(client, found) == []
        assert here.sql(SEEN) == before
        # Who is there stays, whatever the globals say.
        here.sql("ALTER ROLE app PASSWORD 'another' NOLOGIN; REVOKE readers FROM app")
        changed = here.sql(SEEN)
        (left,) = pg_dumpall.bring_back(client, found)
        assert "'app' is no longer a member of 'readers'" in left
        assert here.sql(SEEN) == changed
    assert "SCRAM" not in here.logs() and "geheim" not in here.logs().replace("PASSWORD 'geheim'", "")


def test_the_password_that_came_back_is_the_right_one(server: Callable[..., Server], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    here = server(15, database="auth_db", user="auth_user")
    here.sql(ROLES)
    with connected(tmp_path, DATABASES="auth", AUTH_CONTAINER=here.name) as client:
        found = cluster.read(pg_dumpall.dumped(client)[0].decode())
        here.sql(GONE)
        pg_dumpall.bring_back(client, found)
    with psycopg.connect(here.dsn(user="app"), password="geheim") as session:
        assert session.execute("SHOW work_mem").fetchone() == ("7MB",)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(here.dsn(user="app"), password="wrong")


def test_all_roles_come_back_or_none(server: Callable[..., Server], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    here = server(15, database="auth_db", user="auth_user")
    with connected(tmp_path, DATABASES="auth", AUTH_CONTAINER=here.name) as client:
        good = cluster.Role(("LOGIN",), password="md5" + "0" * 32)
        found = cluster.Globals({"app": good, "readers": cluster.Role(until="never in this life")})
        with pytest.raises(SuiteError, match="could not be brought back") as told:
            pg_dumpall.bring_back(client, found)
        assert "md5000" not in f"{told.value.message}{told.value.hint}"
        assert here.sql("SELECT count(*) FROM pg_roles WHERE rolname IN ('app', 'readers')") == [(0,)]


def test_a_role_that_may_not_read_passwords_gets_the_rest(server: Callable[..., Server], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    here = server(15, database="auth_db", user="auth_user")
    here.sql(ROLES + "CREATE ROLE modest LOGIN")
    there = {"DATABASES": "auth", "AUTH_CONTAINER": here.name, "AUTH_USER": "modest"}
    with connected(tmp_path, **there) as client:
        text, (lacking,) = pg_dumpall.dumped(client)
        assert "'modest' may not read passwords" in lacking and b"SCRAM" not in text
        found = cluster.read(text.decode())
        assert found.roles["app"].limit == 7
        here.sql(GONE)
        with pytest.raises(PermissionDenied):
            pg_dumpall.bring_back(client, found)
