"""A backup made by the real script, restored with the guide's own manual commands, is equal to its source."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support import equality, round_trip, runs, servers
from tests.support.effort import chosen, wide
from tests.support.servers import Server

WAYS = chosen(
    [(15, "sidecar"), (18, "direct")],
    [(15, "sidecar"), (15, "exec"), (15, "direct"), (16, "exec"), (18, "sidecar")],
)


@pytest.fixture(scope="module")
def server_with_content(engine: str) -> Iterator[Callable[[int], Server]]:
    """A function: major version -> a server whose database `content` holds everything; leave it as it is."""
    started: dict[int, Server] = {}
    with ExitStack() as stack:

        def of(major: int) -> Server:
            if major not in started:
                name = f"pgbackup-test-content{major}-"
                settings = {"wal_level": "logical", "max_wal_size": "4GB"}
                running = servers.running(major, name=name, database="content", user="content_user", settings=settings)
                started[major] = stack.enter_context(running)
                round_trip.fill(started[major])
            return started[major]

        yield of


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{way[0]}-{way[1]}")
def backup(
    server_with_content: Callable[[int], Server],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Server, Path]:
    """A backup of all content, and the server that it is of."""
    major, client = request.param
    server = server_with_content(major)
    with round_trip.reached(server, "content", client) as (settings, path):
        return server, round_trip.back_up(tmp_path_factory.mktemp("backups"), {"content": settings}, path)["content"]


@pytest.mark.wide
def test_commands_of_the_guide_accept_the_file(backup: tuple[Server, Path]) -> None:
    _, file = backup
    assert round_trip.guide('gunzip -t "$1"', file).returncode == 0
    if round_trip.SCALE == 1:  # grep takes minutes for a line of half a gigabyte
        assert int(round_trip.guide(r'gunzip -c "$1" | grep -c "INSERT\|CREATE"', file).stdout) > 200


@pytest.mark.wide
def test_restored_equals_source(backup: tuple[Server, Path]) -> None:
    server, file = backup
    with round_trip.restored(server, file) as name:
        found = equality.differences((server, "content"), (server, name))
        assert not found, "\n".join(found)


@pytest.mark.wide
def test_manifest_counts_the_rows_of_every_table(backup: tuple[Server, Path]) -> None:
    server, file = backup
    rows = round_trip.counted(server, "content")
    if "shop.not_dumped" in rows:
        del rows["shop.not_dumped"]  # its extension fills it
        rows["shop.options"] -= 2  # and two rows of this one
    assert round_trip.manifest(file)["rows"] == rows


@pytest.mark.wide
def test_manifest_keeps_what_a_plain_dump_drops(backup: tuple[Server, Path]) -> None:
    server, file = backup
    kept = round_trip.manifest(file)["server"]
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
    "latin1": "ENCODING 'LATIN1' LOCALE 'C'",
    "euc_jp": "ENCODING 'EUC_JP' LOCALE 'C'",
    "sql_ascii": "ENCODING 'SQL_ASCII' LOCALE 'C'",
    "icu": "ENCODING 'UTF8' LOCALE 'en_US.utf8' LOCALE_PROVIDER icu ICU_LOCALE 'sv-SE'",
    "empty": "ENCODING 'UTF8'",
}
TRIED = chosen(["euc_jp", "icu", "empty"], list(ENCODINGS))  # test_restore_content tries the others in make test
LOCALES = {"latin1": "en_US.iso88591", "euc_jp": "ja_JP.eucjp"}  # not in every image
COMMENTS = {"latin1": "für alle", "euc_jp": "データベース"}


@pytest.fixture(scope="module")
def encoded(
    server_with_content: Callable[[int], Server], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Server, dict[str, Path]]:
    """Databases of several encodings and an empty one, all in one run; the file of each."""
    server = server_with_content(15)
    there = server.exec(["locale", "-a"]).stdout.split()
    for name in TRIED:
        options = ENCODINGS[name]
        if (locale := LOCALES.get(name)) in there:
            options = options.replace("'C'", f"'{locale}'")
        server.sql(f"CREATE DATABASE in_{name} TEMPLATE template0 {options}", "postgres")
        if name != "empty":
            round_trip.load(server, f"in_{name}", round_trip.CONTENT / "encodings" / f"{name}.sql")
    targets = {name: round_trip.target(server, f"in_{name}") for name in TRIED}
    return server, round_trip.back_up(tmp_path_factory.mktemp("encoded"), targets)


def create_as(described: Mapping[str, Any]) -> str:
    """CREATE DATABASE with what the manifest says; the manifest alone has to suffice."""
    database = described["database"]
    words = [
        f"ENCODING '{described['encoding']}' LC_COLLATE '{database['datcollate']}' LC_CTYPE '{database['datctype']}'"
    ]
    if database["datlocprovider"] == "i":
        words.append(f"LOCALE_PROVIDER icu ICU_LOCALE '{database['daticulocale']}'")
    return f'CREATE DATABASE "{{0}}" OWNER "{{1}}" TEMPLATE template0 {" ".join(words)}'


@wide("name", TRIED, TRIED)
def test_every_encoding_and_an_empty_database_come_back(encoded: tuple[Server, dict[str, Path]], name: str) -> None:
    server, files = encoded
    said = round_trip.manifest(files[name])
    assert name not in COMMENTS or said["server"]["comment"] == COMMENTS[name]
    assert said["rows"] == round_trip.counted(server, f"in_{name}")
    with round_trip.restored(server, files[name], create=create_as(said["server"])) as copy:
        found = equality.differences((server, f"in_{name}"), (server, copy))
        assert not found, "\n".join(found)


MONEY = """
CREATE TABLE accounts (id int PRIMARY KEY, cents bigint);
INSERT INTO accounts SELECT n, 1000000 FROM generate_series(1, 2) AS n;
CREATE TABLE between_them AS SELECT n, md5(n::text) FROM generate_series(1, 100000) AS n;
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
        file = round_trip.back_up(tmp_path, {"bank": round_trip.target(server, "bank")})["bank"]
        assert writer.made > before
    with round_trip.restored(server, file) as name:
        ((first, second, moved, number),) = server.sql(
            "SELECT max(cents) FILTER (WHERE id = 1), max(cents) FILTER (WHERE id = 2),"
            " (SELECT sum(from_first) FROM transfers), (SELECT count(*) FROM transfers) FROM accounts",
            name,
        )
        assert (first, second) == (1_000_000 - moved, 1_000_000 + moved)
        assert before <= number <= writer.made
        assert equality.unsound((server, name)) == []
        assert round_trip.manifest(file)["rows"] == round_trip.counted(server, name)
