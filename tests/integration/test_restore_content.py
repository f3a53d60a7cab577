"""Everything that a database can hold, restored by restore-postgres.sh in its own place, equals what was there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.test_round_trip import ENCODINGS, LOCALES
from tests.support import equality, round_trip, servers, side_by_side
from tests.support.effort import wide
from tests.support.servers import Server

ROOT = Path(__file__).parents[2]
PROPERTIES = """
SELECT pg_get_userbyid(datdba), (SELECT array_agg(one::text ORDER BY one::text) FROM unnest(datacl) AS one),
  datconnlimit, pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider, daticulocale_or_so,
  shobj_description(oid, 'pg_database'), (SELECT array_agg(setrole::regrole || setconfig::text ORDER BY setrole)
    FROM pg_db_role_setting WHERE setdatabase = d.oid)
FROM pg_database d WHERE datname = '{name}'
"""


@pytest.fixture(scope="module")
def server_with_content(engine: str) -> Iterator[Callable[[int], Server]]:
    """A function: major version -> a server whose database `content` holds everything."""
    started: dict[int, Server] = {}
    with ExitStack() as stack:

        def of(major: int) -> Server:
            if major not in started:
                name = f"pgbackup-test-restore{major}-"
                settings = {"wal_level": "logical", "max_wal_size": "4GB"}
                running = servers.running(major, name=name, database="content", user="content_user", settings=settings)
                started[major] = stack.enter_context(running)
                round_trip.fill(started[major])
            return started[major]

        yield of


def restore(place: Path, name: str, settings: Mapping[str, str], root: Path = ROOT) -> str:
    """Run the script on the latest backup and return what it said; fail the test unless it succeeds."""
    environment = {key: os.environ[key] for key in ("HOME", "PATH", "DOCKER_HOST") if key in os.environ}
    environment |= {f"{name.upper()}_{key}": value for key, value in settings.items()}
    environment |= {"BACKUP_DIR": str(place), "DATABASES": name}
    command = [str(root / "scripts/restore-postgres.sh"), name, "--yes", f"{settings['DATABASE']}_LATEST.sql.gz"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def properties(server: Server, name: str) -> tuple[object, ...]:
    locale = {15: "daticulocale", 16: "daticulocale || daticurules"}.get(server.major, "datlocale || daticurules")
    query = PROPERTIES.replace("daticulocale_or_so", locale).replace("{name}", name)
    with equality.connected((server, name)) as session:
        return session.execute(query.encode()).fetchall()[0]


def equal_to_the_old_one(server: Server, name: str) -> None:
    """Compare the restored database with the one that was kept."""
    ((kept,),) = server.sql(f"SELECT datname FROM pg_database WHERE datname LIKE '{name}_before_restore_%'", "postgres")
    server.sql(f'ALTER DATABASE "{kept}" ALLOW_CONNECTIONS true', "postgres")
    found = equality.differences((server, kept), (server, name))
    assert not found, "\n".join(found)
    server.sql(f'DROP DATABASE "{kept}"', "postgres")


@wide(
    "major, client, size",
    [(18, "exec", "large")],
    [(15, "sidecar", "small"), (15, "sidecar", "large"), (18, "exec", "large")],
)
def test_all_content_comes_back_equal_in_its_own_place(
    server_with_content: Callable[[int], Server], tmp_path: Path, major: int, client: str, size: str
) -> None:
    """A large backup is loaded by several sessions."""
    root = side_by_side.copied(tmp_path / "copy") if size == "large" else ROOT
    server = server_with_content(major)
    target = round_trip.target(server, "content", client)
    before = properties(server, "content")
    round_trip.back_up(tmp_path, {"content": target}, drilled=major == 18)  # 15 has an extension that its image lacks
    said = restore(tmp_path, "content", target, root)
    assert "all equal to the backup" in said
    assert properties(server, "content") == before
    equal_to_the_old_one(server, "content")


@wide("name", ["latin1", "sql_ascii"], ENCODINGS)
def test_every_encoding_and_an_empty_database_come_back_equal(
    server_with_content: Callable[[int], Server], tmp_path: Path, name: str
) -> None:
    server, options = server_with_content(15), ENCODINGS[name]
    if LOCALES.get(name) in server.exec(["locale", "-a"]).stdout.split():
        options = options.replace("'C'", f"'{LOCALES[name]}'")
    server.sql(f"CREATE DATABASE in_{name} TEMPLATE template0 {options}", "postgres")
    if name != "empty":
        round_trip.load(server, f"in_{name}", round_trip.CONTENT / "encodings" / f"{name}.sql")
    target = round_trip.target(server, f"in_{name}", "exec")
    before = properties(server, f"in_{name}")
    round_trip.back_up(tmp_path, {name: target})
    restore(tmp_path, name, target, side_by_side.copied(tmp_path / "copy"))
    if name != "sql_ascii":  # its comment is no text in any encoding, and the manifest is text
        assert properties(server, f"in_{name}") == before
    equal_to_the_old_one(server, f"in_{name}")
