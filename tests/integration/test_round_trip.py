"""A backup made by the real script, restored with the guide's own manual commands, is equal to its source.

PGBACKUP_TEST_SCALE=256 makes the heavy run of it: 100,000 large objects, fields of 256 MB.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import equality, images, runs, servers
from tests.support.servers import Server, docker

ROOT = Path(__file__).parents[2]
CONTENT = Path(__file__).with_name("content")
SCALE = int(os.environ.get("PGBACKUP_TEST_SCALE", "1"))
VARIABLES = {"large_objects": 400 * SCALE, "big_bytes": 2**20 * SCALE}
EXTENSION = ("shop_settings.control", "shop_settings--1.0.sql")
# What a copy made by the guide's commands lacks; nothing of it may get into the way of a backup or of comparing.
OF_THE_DATABASE = r"""
ALTER DATABASE content SET DateStyle = 'German'; ALTER DATABASE content SET IntervalStyle = 'sql_standard';
ALTER DATABASE content SET TimeZone = 'Asia/Kathmandu'; ALTER DATABASE content SET bytea_output = 'escape';
ALTER DATABASE content SET extra_float_digits = -5; ALTER DATABASE content SET search_path = identifiers, types;
ALTER DATABASE content SET standard_conforming_strings = off; ALTER DATABASE content SET statement_timeout = '500ms';
ALTER DATABASE content SET client_encoding = 'LATIN1'; ALTER DATABASE content SET row_security = off;
ALTER DATABASE content SET quote_all_identifiers = on; ALTER DATABASE content SET default_transaction_read_only = on;
ALTER ROLE content_reader IN DATABASE content SET work_mem = '7MB';
ALTER DATABASE content CONNECTION LIMIT 17; COMMENT ON DATABASE content IS E'it''s\na "comment" 🐘';
REVOKE TEMPORARY ON DATABASE content FROM PUBLIC; GRANT CREATE ON DATABASE content TO content_writer
"""
WAYS = [(15, "sidecar"), (15, "exec"), (15, "direct"), (16, "exec"), (18, "sidecar")]


@pytest.fixture(scope="module")
def server_with_content(engine: str) -> Iterator[Callable[[int], Server]]:
    """A function: major version -> a server whose database `content` holds everything; leave it as it is."""
    started: dict[int, Server] = {}
    with ExitStack() as stack:

        def of(major: int) -> Server:
            if major not in started:
                settings = {"wal_level": "logical", "max_wal_size": "4GB"}
                options = {"name": f"pgbackup-test-content{major}-", "database": "content", "user": "content_user"}
                started[major] = stack.enter_context(servers.running(major, settings=settings, **options))
                fill(started[major])
            return started[major]

        yield of


def fill(server: Server) -> None:
    """Load all content that the server's version and extensions allow."""
    load(server, "postgres", CONTENT / "cluster" / "shared.sql")
    files = sorted(CONTENT.glob("*.sql"))
    if server.major >= 18:
        files += sorted((CONTENT / "18").glob("*.sql"))
    if server.sql("SELECT 1 FROM pg_available_extensions WHERE name = 'hstore'"):
        share = server.sql("SELECT setting FROM pg_config WHERE name = 'SHAREDIR'")[0][0]
        for name in EXTENSION:
            docker("cp", str(CONTENT / "contrib" / name), f"{server.id}:{share}/extension/")
        files += [CONTENT / "contrib" / "extensions.sql"]
    for file in files:
        load(server, "content", file)
    for statement in OF_THE_DATABASE.split(";"):
        server.sql(statement, "postgres")


def load(server: Server, database: str, file: Path) -> None:
    variables = [word for key, value in VARIABLES.items() for word in ("-v", f"{key}={value}")]
    server.psql(*variables, "-f", "-", database=database, stdin=file.read_bytes())


def target(server: Server, database: str, client: str = "sidecar", **more: str) -> dict[str, str]:
    """The settings of one database, without the prefix."""
    return {
        "CONTAINER": server.name,
        "DATABASE": database,
        "USER": server.user,
        "CLIENT": client,
        "SERVICES": "",
        "HEALTH_URL": "",
        **more,
    }


@contextmanager
def reached(server: Server, database: str, client: str) -> Iterator[tuple[dict[str, str], str]]:
    """The settings of one database for any client, and the PATH that they need."""
    path = os.environ["PATH"]
    if client != "direct":
        yield target(server, database, client), path
        return
    with runs.passfile(server) as passfile:
        url = f"postgresql://{server.user}@{server.address}:5432/"
        # Of a host that is kept as up to date as its servers: not newer than 16, whose dumps 15 understands.
        path = f"{images.wheel_tree(max(server.major, 16)) / 'bin'}:{path}"
        yield target(server, database, client, URL=url, PASSFILE=passfile), path


def back_up(place: Path, targets: Mapping[str, Mapping[str, str]], path: str | None = None) -> dict[str, Path]:
    """Run scripts/backup-postgres.sh on these databases and return the file of each."""
    settings = {f"{name.upper()}_{key}": value for name, of in targets.items() for key, value in of.items()}
    environment = {key: os.environ[key] for key in ("HOME", "LANG", "DOCKER_HOST") if key in os.environ}
    environment |= {"PATH": path or os.environ["PATH"], "BACKUP_DIR": str(place), "DATABASES": " ".join(targets)}
    command = [ROOT / "scripts" / "backup-postgres.sh"]
    done = subprocess.run(command, env=environment | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: place / of["CONTAINER"] / f"{of['DATABASE']}_LATEST.sql.gz" for name, of in targets.items()}


def manifest(file: Path) -> dict[str, Any]:
    """The JSON in the comment lines at the end of a backup, found as a person would."""
    tail = "gunzip -c \"$1\" | sed -n '/^-- pgbackup manifest:/,$p' | sed '1d;$d;s/^-- //'"
    return json.loads(subprocess.run(["sh", "-c", tail, "sh", file], capture_output=True, check=True).stdout)


def guide(command: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the guide, as it stands there, with "$1" … for its names."""
    return subprocess.run(["sh", "-c", command, "sh", *arguments], capture_output=True, check=False)


def restore(server: Server, file: Path, database: str, create: str = 'CREATE DATABASE "{0}" OWNER "{1}";') -> None:
    """Follow the guide's manual restore, from terminating sessions to the last line of the dump."""
    psql = 'docker exec "$1" psql -U "$2" -d postgres -c "$3"'
    for statement in (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'",
        f'DROP DATABASE "{database}";',
        create.format(database, server.user),
    ):
        done = guide(psql, server.name, server.user, statement)
        assert done.returncode == 0, done.stderr
    load_it = 'gunzip -c "$4" | docker exec -i "$1" psql -U "$2" -d "$3"'
    done = guide(load_it, server.name, server.user, database, file)
    assert done.returncode == 0, done.stderr
    assert b"ERROR" not in done.stderr, done.stderr.decode(errors="replace")


@contextmanager
def restored(server: Server, file: Path, **options: str) -> Iterator[str]:
    """A database made from the backup, in place of one that was there before; it is dropped afterwards."""
    name = "restored"
    server.sql(f"CREATE DATABASE {name}", "postgres")
    try:
        server.sql("CREATE TABLE of_before ()", name)
        restore(server, file, name, **options)
        yield name
    finally:
        server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", "postgres")


def counted(server: Server, database: str) -> dict[str, int]:
    """Rows of every table that has its own, counted now; named in the dump's bytes as the manifest spells them."""
    with equality.connected((server, database)) as session:
        encoding = session.info.parameter_status("server_encoding")
        codec = {"UTF8": "utf-8", "SQL_ASCII": "latin-1", "LATIN1": "latin-1", "EUC_JP": "euc_jp"}[str(encoding)]
        return {
            name.encode(codec).decode("utf-8", "backslashreplace"): number
            for name in equality.relations(session, "r")
            for (number,) in session.execute(f"SELECT count(*) FROM ONLY {name}")
        }


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{way[0]}-{way[1]}")
def backup(
    server_with_content: Callable[[int], Server],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Server, Path]:
    """A backup of all content, and the server that it is of."""
    major, client = request.param
    server = server_with_content(major)
    with reached(server, "content", client) as (settings, path):
        return server, back_up(tmp_path_factory.mktemp("backups"), {"content": settings}, path)["content"]


def test_commands_of_the_guide_accept_the_file(backup: tuple[Server, Path]) -> None:
    _, file = backup
    assert guide('gunzip -t "$1"', file).returncode == 0
    assert int(guide(r'gunzip -c "$1" | grep -c "INSERT\|CREATE"', file).stdout) > 200


def test_restored_equals_source(backup: tuple[Server, Path]) -> None:
    server, file = backup
    with restored(server, file) as name:
        assert equality.differences((server, "content"), (server, name)) == []


def test_manifest_counts_the_rows_of_every_table(backup: tuple[Server, Path]) -> None:
    server, file = backup
    rows = counted(server, "content")
    if "shop.not_dumped" in rows:
        del rows["shop.not_dumped"]  # its extension fills it
        rows["shop.options"] -= 2  # and two rows of this one
    assert manifest(file)["rows"] == rows


def test_manifest_keeps_what_a_plain_dump_drops(backup: tuple[Server, Path]) -> None:
    server, file = backup
    kept = manifest(file)["server"]
    assert kept["owner"] == "content_user"
    assert kept["database"]["datconnlimit"] == 17
    assert kept["comment"] == 'it\'s\na "comment" 🐘'
    assert {"content_writer=C/content_user", "=c/content_user"} <= set(kept["acl"].strip("{}").split(","))
    settings = {of["role"]: of["settings"] for of in kept["settings"]}
    assert {"TimeZone=Asia/Kathmandu", "client_encoding=LATIN1"} <= set(settings[None])
    assert settings["content_reader"] == ["work_mem=7MB"]
    roles = {"content_owner", "content_clerk", "content_reader", "content_writer", 'content "odd" role'}
    assert roles <= kept["roles"].keys()
    assert "CONNECTION LIMIT 3" in kept["roles"]["content_writer"]
    assert kept["extensions"] == dict(server.sql("SELECT extname, extversion FROM pg_extension", "content"))
    assert kept["tablespaces"] == ["content_space"]


ENCODINGS = {
    "latin1": "ENCODING 'LATIN1' LOCALE 'en_US.iso88591'",
    "euc_jp": "ENCODING 'EUC_JP' LOCALE 'ja_JP.eucjp'",
    "sql_ascii": "ENCODING 'SQL_ASCII' LOCALE 'C'",
    "icu": "ENCODING 'UTF8' LOCALE 'en_US.utf8' LOCALE_PROVIDER icu ICU_LOCALE 'sv-SE'",
    "empty": "ENCODING 'UTF8'",
}
COMMENTS = {"latin1": "für alle", "euc_jp": "データベース"}


@pytest.fixture(scope="module")
def encoded(
    server_with_content: Callable[[int], Server], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Server, dict[str, Path]]:
    """Databases of several encodings and an empty one, all in one run; the file of each."""
    server = server_with_content(15)
    for name, options in ENCODINGS.items():
        server.sql(f"CREATE DATABASE in_{name} TEMPLATE template0 {options}", "postgres")
        if name != "empty":
            load(server, f"in_{name}", CONTENT / "encodings" / f"{name}.sql")
    targets = {name: target(server, f"in_{name}") for name in ENCODINGS}
    return server, back_up(tmp_path_factory.mktemp("encoded"), targets)


def create_as(described: Mapping[str, Any]) -> str:
    """CREATE DATABASE with what the manifest says; the manifest alone has to suffice."""
    database = described["database"]
    words = [
        f"ENCODING '{described['encoding']}' LC_COLLATE '{database['datcollate']}' LC_CTYPE '{database['datctype']}'"
    ]
    if database["datlocprovider"] == "i":
        words.append(f"LOCALE_PROVIDER icu ICU_LOCALE '{database['daticulocale']}'")
    return f'CREATE DATABASE "{{0}}" OWNER "{{1}}" TEMPLATE template0 {" ".join(words)}'


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_and_an_empty_database_come_back(encoded: tuple[Server, dict[str, Path]], name: str) -> None:
    server, files = encoded
    said = manifest(files[name])
    assert name not in COMMENTS or said["server"]["comment"] == COMMENTS[name]
    assert said["rows"] == counted(server, f"in_{name}")
    with restored(server, files[name], create=create_as(said["server"])) as copy:
        assert equality.differences((server, f"in_{name}"), (server, copy)) == []


MONEY = """
CREATE TABLE accounts (id int PRIMARY KEY, cents bigint);
INSERT INTO accounts SELECT n, 1000000 FROM generate_series(1, 2) AS n;
CREATE TABLE between_them AS SELECT n, md5(n::text) FROM generate_series(1, 200000) AS n;
CREATE TABLE transfers (id int PRIMARY KEY, from_first bigint);
"""
TRANSFER = """
UPDATE accounts SET cents = cents + CASE id WHEN 1 THEN -7 ELSE 7 END;
INSERT INTO transfers SELECT coalesce(max(id), 0) + 1, 7 FROM transfers;
"""


class Writer:
    """Moves money from one account to the other, one transaction after the other, until it is stopped."""

    def __init__(self, server: Server, database: str) -> None:
        self.made = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(server, database))

    def _run(self, server: Server, database: str) -> None:
        with server.connect(database) as session:
            while not self._stopped.is_set():
                session.execute(TRANSFER)
                self.made += 1

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(30)


def test_dump_under_write_load_keeps_its_invariant(
    server_with_content: Callable[[int], Server], tmp_path: Path
) -> None:
    server = server_with_content(15)
    server.sql("CREATE DATABASE bank", "postgres")
    server.sql(MONEY, "bank")
    with Writer(server, "bank") as writer:
        (first,) = server.sql("SELECT cents FROM accounts WHERE id = 1", "bank")[0]
        seen = writer.made
        assert runs.soon(lambda: writer.made > seen + 10)
        (second,) = server.sql("SELECT cents FROM accounts WHERE id = 2", "bank")[0]
        assert first + second != 2_000_000, "the writer is broken: reading one after the other must not add up"
        before = writer.made
        file = back_up(tmp_path, {"bank": target(server, "bank")})["bank"]
        assert writer.made > before
    with restored(server, file) as name:
        ((first, second, moved, number),) = server.sql(
            "SELECT max(cents) FILTER (WHERE id = 1), max(cents) FILTER (WHERE id = 2),"
            " (SELECT sum(from_first) FROM transfers), (SELECT count(*) FROM transfers) FROM accounts",
            name,
        )
        assert (first, second) == (1_000_000 - moved, 1_000_000 + moved)
        assert before <= number <= writer.made
        assert equality.unsound((server, name)) == []
        assert manifest(file)["rows"] == counted(server, name)
