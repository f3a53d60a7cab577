"""What a database's and a server's settings mean to the data is there while it is loaded, and nothing else of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pgbackup.formats import manifest

from tests.support import restores, servers
from tests.support.effort import chosen, wide
from tests.support.restores import Lab
from tests.support.servers import Server

MONEY = ("CREATE TABLE m (x money); INSERT INTO m VALUES (5.25::numeric::money), (1234.5::numeric::money)", "m")
# Statements, each line in a session of its own, and the relation whose rows must be the same afterwards.
DEPENDENT = {
    "money": (["ALTER DATABASE {db} SET lc_monetary = 'tr_TR.utf8'", MONEY[0]], MONEY[1]),
    "money of the role": (["ALTER ROLE {user} IN DATABASE {db} SET lc_monetary = 'tr_TR.utf8'", MONEY[0]], MONEY[1]),
    "a constraint on a custom setting": (
        [
            "ALTER DATABASE {db} SET app.most = '100'",
            "CREATE TABLE a (v int CHECK (v <= current_setting('app.most')::int)); INSERT INTO a VALUES (7), (100)",
        ],
        "a",
    ),
    "days of a time zone": (
        [
            "ALTER DATABASE {db} SET TimeZone = 'Asia/Kathmandu'",
            "CREATE TABLE p AS SELECT '2024-01-01 00:30Z'::timestamptz + n * interval '1 hour' AS at"
            " FROM generate_series(1, 40) AS n; CREATE TABLE q (at timestamptz, day date CHECK (day = at::date));"
            " INSERT INTO q SELECT at, at::date FROM p;"
            " CREATE MATERIALIZED VIEW per_day AS SELECT at::date AS day, count(*) FROM p GROUP BY 1",
        ],
        "per_day",
    ),
    "spelling of dates and intervals": (
        [
            "ALTER DATABASE {db} SET DateStyle = 'SQL, DMY'",
            "ALTER DATABASE {db} SET IntervalStyle = 'iso_8601'",
            "CREATE MATERIALIZED VIEW d AS SELECT '2024-02-01'::date::text AS a, '1 day 2:03'::interval::text AS b",
        ],
        "d",
    ),
    "a language": (
        [
            "ALTER DATABASE {db} SET default_text_search_config = 'pg_catalog.german'",
            "CREATE MATERIALIZED VIEW w AS SELECT to_tsvector('die Häuser liefen')",
        ],
        "w",
    ),
    "a text search configuration of its own": (
        [
            'CREATE SCHEMA s; CREATE TEXT SEARCH CONFIGURATION s."own ü" (COPY = pg_catalog.german)',
            "ALTER DATABASE {db} SET default_text_search_config = 's.\"own ü\"'",
            "CREATE TABLE t (body text CHECK (to_tsvector(body) @@ 'haus')); INSERT INTO t VALUES ('die Häuser');"
            " CREATE MATERIALIZED VIEW w AS SELECT to_tsvector(body) FROM t",
        ],
        "w",
    ),
    "settings that would stop a load": (
        [
            "CREATE TABLE t AS SELECT n FROM generate_series(1, 5000) AS n",
            "ALTER DATABASE {db} SET statement_timeout = '1ms'",
            "SET statement_timeout = 0; ALTER DATABASE {db} SET default_transaction_read_only = on",
            "SET transaction_read_only = off; SET statement_timeout = 0; ALTER DATABASE {db} SET role = 'nobody';"
            " ALTER DATABASE {db} SET temp_file_limit = '0'; ALTER DATABASE {db} SET array_nulls = off",
        ],
        "t",
    ),
}
LIKE_ANOTHER = ("money", "days of a time zone", "a language")  # as of the role, of the server, of its own


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[Server]:
    with servers.running(15, name="pgbackup-test-settings-", database="shop", user="shop") as started:
        started.sql("CREATE ROLE nobody; GRANT pg_read_all_data TO nobody")
        yield started


@pytest.fixture
def lab(server: Server, tmp_path: Path) -> Iterator[Lab]:
    made = restores.in_container(server, tmp_path)
    for name in made.databases():
        made.sql(f"DROP DATABASE {restores.quoted(name)} WITH (FORCE)")
    made.sql("CREATE DATABASE shop")
    yield made
    server.sql("ALTER SYSTEM RESET ALL", "postgres")
    server.sql("ALTER ROLE shop RESET ALL", "postgres")
    server.sql("SELECT pg_reload_conf()", "postgres")


def made(lab: Lab, statements: list[str]) -> None:
    for one in statements:
        lab.sql(one.replace("{db}", "shop").replace("{user}", "shop"), "shop")


def rows(lab: Lab, relation: str, database: str) -> list[tuple[object, ...]]:
    """As they are, whatever the settings: money by its number."""
    first = "SET role = none; SET lc_monetary = 'C'; SET DateStyle = ISO"
    # From the start: a limit of a millisecond may end the statement that would lift it.
    with psycopg.connect(lab.dsn(database), autocommit=True, options="-c statement_timeout=0") as session:
        session.execute(first.encode())
        return session.execute(f"SELECT * FROM {relation} ORDER BY 1".encode()).fetchall()


def settings(lab: Lab, database: str) -> list[tuple[object, ...]]:
    return lab.sql(
        "SELECT setrole::regrole::text, setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase"
        f" WHERE datname = '{database}' ORDER BY 1"
    )


@wide("case", [case for case in DEPENDENT if case not in LIKE_ANOTHER], DEPENDENT)
@pytest.mark.fault(109, "settings of the database that its objects and rows depend on")
def test_what_depends_on_settings_of_the_database_comes_back_equal(lab: Lab, case: str) -> None:
    statements, relation = DEPENDENT[case]
    made(lab, statements)
    ended = lab.restore("--yes", "--into", "copy", lab.backup().name)
    assert ended.status == 0, ended.stderr
    assert rows(lab, relation, "copy") == rows(lab, relation, "shop")
    assert sorted(map(str, settings(lab, "copy"))) == sorted(map(str, settings(lab, "shop")))


@wide("level", ["ALTER SYSTEM"], ["ALTER SYSTEM", "ALTER ROLE shop"])
@pytest.mark.fault(109, "a server or role with another money, time zone or text search")
def test_values_mean_the_same_where_the_server_reads_them_otherwise(lab: Lab, level: str) -> None:
    """A backup goes to a server with another lc_monetary and time zone; its dump says nothing of them."""
    changes = {"lc_monetary": "tr_TR.utf8", "TimeZone": "Asia/Kathmandu"}
    for key, value in changes.items():
        lab.sql(f"{level} SET {key} = '{value}'")
    lab.sql("SELECT pg_reload_conf()")
    days = DEPENDENT["days of a time zone"][0][1]
    made(lab, [MONEY[0], days])
    before = rows(lab, "m", "shop"), rows(lab, "per_day", "shop")
    file = lab.backup()
    for key in changes:
        lab.sql(f"{level} RESET {key}")
    lab.sql("SELECT pg_reload_conf()")
    ended = lab.restore("--yes", file.name)
    assert ended.status == 0, ended.stderr
    assert (rows(lab, "m", "shop"), rows(lab, "per_day", "shop")) == before
    assert settings(lab, "shop") == []


def with_session(file: Path, **values: str) -> None:
    """Let a backup's manifest say that the session of its dump had these settings."""
    data = file.read_bytes()
    with file.open("rb") as opened:
        found = manifest.read(opened.fileno(), len(data))
    assert found
    raw = {**found[0].raw, "server": {**found[0].raw["server"], "session": values}}
    file.write_bytes(data[: -found[1]] + manifest.encoded(raw))


@pytest.mark.parametrize(("key", "value"), [("lc_monetary", "xx_XX.utf8"), ("TimeZone", "Atlantis/Capital")])
@pytest.mark.fault(109, "a locale or zone of the values that the server lacks")
def test_a_locale_or_zone_of_the_values_that_the_server_lacks_is_named_before_anything_is_touched(
    lab: Lab, key: str, value: str
) -> None:
    lab.sql(MONEY[0], "shop")
    file = lab.backup()
    with_session(file, **{key: value})
    for arguments in chosen([["--yes"]], [["--dry-run"], ["--yes"], ["--yes", "--in-place"]]):
        ended = lab.restore(*arguments, file.name)
        assert ended.status == 78, ended.stderr
        assert f"{key} = '{value}'" in ended.stderr
    assert lab.databases() == ["shop"]


@pytest.mark.fault(109, "a library that sessions would load and the server lacks")
def test_a_library_that_sessions_would_load_and_the_server_lacks_is_named_before_anything_is_touched(
    lab: Lab, server: Server
) -> None:
    (library,) = server.exec(["sh", "-c", "echo $(pg_config --pkglibdir)/"]).stdout.split()
    server.exec(["cp", f"{library}auto_explain.so", f"{library}gone.so"])
    lab.sql("ALTER DATABASE shop SET session_preload_libraries = '$libdir/gone'")
    file = lab.backup()
    good = lab.restore("--yes", "--into", "copy", file.name)
    assert good.status == 0, good.stderr
    server.exec(["rm", f"{library}gone.so"])
    refused = lab.restore("--dry-run", file.name)
    assert refused.status == 78, refused.stderr
    assert "session_preload_libraries" in refused.stderr
    assert "gone" in refused.stderr


@pytest.mark.fault(109, "a setting of the database that the role may not make")
def test_what_a_role_may_not_set_is_named_before_anything_is_touched(lab: Lab, server: Server, tmp_path: Path) -> None:
    """Another role has set it: a superuser."""
    lab.sql("CREATE ROLE keeper LOGIN CREATEDB")
    lab.sql("CREATE ROLE other")
    try:
        lab.sql("ALTER DATABASE shop OWNER TO keeper")
        keeper = restores.in_container(server, tmp_path / "keeper", "exec", AUTH_USER="keeper")
        lab.sql("ALTER DATABASE shop SET log_min_duration_statement = '5s'")
        lab.sql("ALTER DATABASE shop SET app.most = '3'")
        lab.sql("ALTER ROLE other IN DATABASE shop SET work_mem = '1MB'")
        file = keeper.backup()
        for arguments in chosen([["--yes"]], [["--dry-run"], ["--yes"], ["--yes", "--in-place"]]):
            ended = keeper.restore(*arguments, file.name)
            assert ended.status == 78, ended.stderr
            for named in ("log_min_duration_statement = '5s'", "app.most = '3'", "work_mem = '1MB'"):
                assert named in ended.stderr
        lab.sql("GRANT SET ON PARAMETER log_min_duration_statement, app.most TO keeper")
        lab.sql("ALTER ROLE other IN DATABASE shop RESET ALL")
        lab.sql("COMMENT ON DATABASE shop IS 'kept'")
        file = keeper.backup()
        before = settings(lab, "shop")
        ended = keeper.restore("--yes", "--in-place", file.name)
        assert ended.status == 0, ended.stderr
        assert settings(lab, "shop") == before
    finally:
        lab.sql("ALTER DATABASE shop OWNER TO shop")
        lab.sql("DROP OWNED BY keeper")
        lab.sql("DROP ROLE keeper")
        lab.sql("DROP ROLE other")
