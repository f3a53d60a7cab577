"""The moments of a cluster whose life was eventful: each is recovered as it was, and what its dump says is its own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from tests.support import archives, images
from tests.support.archives import Lab
from tests.support.effort import chosen, only_in_full, wide
from tests.support.servers import docker

Note = Callable[..., None]
LATE, GONE = "/var/lib/postgresql/late", "/srv/gone"
LIBRARIES = "/usr/lib/postgresql/15/lib"
STYLED = "5.25::numeric::money AS paid, interval '-1 day 2 hours' AS lasts, timestamptz '2024-03-04 05:06:07+00' AS at"


@dataclass
class Life:
    """lab: its server and archive. moments: by name, as the server's clock had them."""

    lab: Lab
    moments: dict[str, str] = field(default_factory=dict)

    def note(self, name: str) -> None:
        """It is this moment, and everything before it has ended."""
        now = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00')"
        self.moments[name] = str(self.lab.server.sql(now)[0][0])

    def sql(self, database: str, *statements: str) -> None:
        with self.lab.server.connect(database=database) as session:
            for statement in statements:
                session.execute(statement)

    def restore(self, database: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Let restore-postgres.sh work on another database of the same cluster."""
        self.lab.settings["PAYMENT_DATABASE"] = database
        try:
            return self.lab.restore(*words)
        finally:
            self.lab.settings.clear()
            assert archives.leftovers(self.lab) == []

    def rows(self, database: str, sql: str, *to: str) -> list[tuple[object, ...]]:
        """What a database answers when it was recovered beside all others; it is gone afterwards."""
        done = self.restore(database, *to, "--into", "beside", "--yes")
        assert done.returncode == 0, done.stderr
        try:
            with self.lab.server.connect(database="beside") as session:
                return session.execute(sql).fetchall()
        finally:
            self.lab.server.sql("DROP DATABASE beside")


def _tablespace(lab: Lab, name: str, place: str) -> None:
    docker("exec", "--user", "0", lab.server.id, "install", "-d", "-o", "postgres", "-m", "0700", place)
    lab.server.sql(f"CREATE TABLESPACE {name} LOCATION '{place}'")


def _style(life: Life) -> None:
    """A database, and its role, that write and read as nobody else does."""
    life.lab.server.sql("CREATE DATABASE styled")
    life.sql("styled", f"CREATE TABLE styles AS SELECT {STYLED}")
    life.sql("styled", "CREATE MATERIALIZED VIEW words AS SELECT to_tsvector('kitaplar') AS found")
    for setting in (
        *("DateStyle = 'German'", "IntervalStyle = 'sql_standard'", "TimeZone = 'America/St_Johns'"),
        *("lc_messages = 'tr_TR.utf8'", "session_preload_libraries = 'house'"),
    ):
        life.lab.server.sql(f"ALTER DATABASE styled SET {setting}")


def _live(lab: Lab) -> Life:
    """Everything here happens after the only base backup."""
    life = Life(lab)
    _style(life)
    for name in ("app", "moved", "source"):
        lab.server.sql(f"CREATE DATABASE {name}")
        life.sql(name, "CREATE TABLE t AS SELECT generate_series(1, 10) AS id")
    # Nothing is committed between the moment and what is no part of a transaction in WAL.
    life.note("before DROP DATABASE")
    begun = lab.server.sql("SELECT pg_current_wal_lsn()")[0][0]
    lab.server.sql("DROP DATABASE app")
    life.note("no app")
    folder = lab.server.sql("SHOW data_directory")[0][0]
    words = ["pg_waldump", "--rmgr=Database", f"--path={folder}/pg_wal", f"--start={begun}"]
    dropping = docker("exec", lab.server.id, *words, check=False).stdout
    life.moments["in DROP DATABASE"] = re.findall(r"lsn: (\w+/\w+), .*desc: DROP", dropping)[0]
    lab.server.sql("CREATE DATABASE app")
    life.sql("app", "CREATE TABLE t AS SELECT generate_series(1, 3) AS id")
    life.note("before CREATE DATABASE")
    lab.server.sql("CREATE DATABASE other TEMPLATE source STRATEGY file_copy")
    lab.server.sql("DROP DATABASE source")
    _tablespace(lab, "late", LATE)
    _tablespace(lab, "gone", GONE)
    life.sql("moved", "CREATE TABLE l TABLESPACE late AS SELECT 7 AS id")
    lab.server.sql("ALTER DATABASE moved SET TABLESPACE gone")
    lab.server.sql("ALTER DATABASE moved SET TABLESPACE pg_default")
    life.note("before DROP TABLESPACE")
    lab.server.sql("DROP TABLESPACE gone")
    for sql in ("ALTER SYSTEM SET max_prepared_transactions = 250", "ALTER SYSTEM SET max_connections = 300"):
        lab.server.sql(sql)
    docker("restart", "-t", "10", lab.server.id)
    lab.server.wait()
    with lab.server.connect(database="moved") as session:
        for number in range(3):
            session.execute("BEGIN")
            session.execute(f"INSERT INTO t VALUES ({100 + number})")
            session.execute(f"PREPARE TRANSACTION 'p{number}'")
        session.execute("COMMIT PREPARED 'p0'")
        life.note("one committed")
        session.execute("ROLLBACK PREPARED 'p1'")
        life.note("one rolled back")
        lab.server.sql("DROP DATABASE other")
        session.execute("COMMIT PREPARED 'p2'")
    lab.server.sql("ALTER ROLE payment_user SET DateStyle = 'SQL, DMY'")
    lab.server.sql("CREATE DATABASE many")
    life.note("before the many")
    life.sql(
        "many", "DO $$BEGIN FOR n IN 1..8000 LOOP EXECUTE 'CREATE TABLE t_' || n || ' ()'; COMMIT; END LOOP; END$$"
    )
    lab.await_confirmed()
    return life


@pytest.fixture(scope="module")
def life(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    house = tmp_path_factory.mktemp("house")
    library = ["docker", "run", "--rm", "--entrypoint", "cat", images.ensure(15), f"{LIBRARIES}/dict_int.so"]
    (house / "house.so").write_bytes(subprocess.run(library, check=True, capture_output=True).stdout)
    for path in (house, house / "house.so"):
        path.chmod(0o755)
    settings = {"dynamic_library_path": "/opt/house:$libdir", "shared_preload_libraries": "house, auto_explain"}
    with archives.archived(
        15,
        tmp_path_factory.mktemp("pitr"),
        durable=False,
        settings=settings,
        mounts={house: "/opt/house"},
        environment={"LANG": "tr_TR.utf8"},
    ) as lab:
        yield _live(lab)


COUNT = "SELECT count(*) FROM t"


MOMENTS = [
    ("before DROP DATABASE", "app", 10),
    ("before CREATE DATABASE", "source", 10),
    ("before DROP TABLESPACE", "moved", 10),
    ("one committed", "moved", 11),
    ("one rolled back", "other", 10),
]


@wide("moment, database, count", MOMENTS[::4], MOMENTS)
def test_what_was_done_after_the_moment_is_not_done(
    life: Life, moment: str, database: str, count: int, expected: Note, survived: Note
) -> None:
    """Nor where it is no part of a transaction, and nothing was committed before it."""
    expected(93, f"{moment}: {database}", 1)
    assert life.rows(database, COUNT, "--to-time", life.moments[moment]) == [(count,)]
    survived(93, f"{moment}: {database}")


def test_the_last_moment_after_all_of_it(life: Life, expected: Note, survived: Note) -> None:
    fault = "CREATE TABLESPACE, max_prepared_transactions raised"
    expected(94, fault, 1)
    asked = "SELECT (SELECT count(*) FROM t), (SELECT sum(id) FROM l)"
    assert life.rows("moved", asked, "--to-time", life.moments["before the many"]) == [(12, 7)]
    survived(94, fault)


def test_the_latest_of_many_tables_without_a_library_that_the_image_lacks(
    life: Life, expected: Note, survived: Note
) -> None:
    """That it lacks one is told and stops nothing; as many tables can be locked as in the cluster."""
    expected(96, "8,000 tables", 1)
    expected(97, "shared_preload_libraries, session_preload_libraries", 1)
    before = life.lab.server.sql("SELECT datname FROM pg_database ORDER BY 1")
    done = life.restore("many", "--latest", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "recovered without what the image lacks: 'house'" in done.stderr
    assert "event=base.libraries" in life.lab.log() and "missing=house" in life.lab.log()
    assert life.lab.server.sql("SELECT datname FROM pg_database ORDER BY 1") == before
    survived(96, "8,000 tables")
    survived(97, "shared_preload_libraries, session_preload_libraries")


def _as_before_settings_were_kept(lab: Lab) -> None:
    """Let the base backup be one of an earlier version: it has postgresql.conf, and base.json tells no settings."""
    (base,) = (lab.archive_path / "base").glob("[0-9]*/base.json")
    told = json.loads(base.read_text())
    base.write_text(json.dumps({key: value for key, value in told.items() if key not in ("settings", "missing")}))


def test_styles_of_a_database_and_its_role_and_of_the_cluster_do_not_matter(
    life: Life, expected: Note, survived: Note
) -> None:
    """The cluster has a locale of its own, in which 5,25 is written what elsewhere is 5.25, and 525 what is 5.25."""
    asked = "SELECT paid::numeric, extract(epoch FROM lasts)::int, extract(epoch FROM at)::int, found::text"
    row = (Decimal("5.25"), -79200, 1709528767, "'kitap':1")
    moment, fault = ["--to-time", life.moments["before the many"]], "DateStyle, TimeZone, lc_monetary, lc_messages"
    for words in chosen([moment], [moment, ["--to-lsn", life.lab.confirmed()[1]]]):
        expected(95, f"{fault}: {words[0]}", 1)
        assert life.rows("styled", f"{asked} FROM styles, words", *words) == [row]
        survived(95, f"{fault}: {words[0]}")
        _as_before_settings_were_kept(life.lab)


@only_in_full
def test_a_position_in_the_midst_of_a_drop_is_told_with_the_moment_before_it(life: Life) -> None:
    done = life.restore("app", "--to-lsn", life.moments["in DROP DATABASE"], "--into", "beside", "--yes")
    assert done.returncode == 66, done.stderr
    assert "database 'app' was being dropped at that moment" in done.stderr
    assert "Hint: take a moment before that: --to-time '" in done.stderr


def test_a_moment_without_the_database_is_told_as_one(life: Life) -> None:
    done = life.restore("app", "--to-time", life.moments["no app"], "--into", "beside", "--yes")
    assert done.returncode == 66, done.stderr
    assert "there was no database 'app' at that moment" in done.stderr and "Hint: take a moment before" in done.stderr
    assert "DROP DATABASE" not in done.stderr
