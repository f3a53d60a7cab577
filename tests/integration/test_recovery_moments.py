"""The moments of a cluster whose life was eventful: each is recovered as it was, and what its dump says is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.support import archives
from tests.support.archives import Lab
from tests.support.servers import docker

Note = Callable[..., None]
LATE, GONE = "/var/lib/postgresql/late", "/srv/gone"


@dataclass
class Life:
    """lab: its server and archive. moments: by name, as the server's clock had them."""

    lab: Lab
    moments: dict[str, str] = field(default_factory=dict)

    def note(self, name: str) -> None:
        """It is this moment, and everything before it has ended."""
        self.moments[name] = str(self.lab.server.sql("SELECT clock_timestamp()::text")[0][0])

    def sql(self, database: str, *statements: str) -> None:
        with self.lab.server.connect(database=database) as session:
            for statement in statements:
                session.execute(statement)

    def rows(self, database: str, sql: str, *to: str) -> list[tuple[object, ...]]:
        """What a database answers when it was recovered beside all others; it is gone afterwards."""
        more = {"PAYMENT_DATABASE": database}
        self.lab.settings.update(more)
        try:
            done = self.lab.restore(*to, "--into", "beside", "--yes")
        finally:
            for key in more:
                self.lab.settings.pop(key)
        assert done.returncode == 0, done.stderr
        assert archives.leftovers(self.lab) == []
        try:
            with self.lab.server.connect(database="beside") as session:
                return session.execute(sql).fetchall()
        finally:
            self.lab.server.sql("DROP DATABASE beside")


def _tablespace(lab: Lab, name: str, place: str) -> None:
    docker("exec", "--user", "0", lab.server.id, "install", "-d", "-o", "postgres", "-m", "0700", place)
    lab.server.sql(f"CREATE TABLESPACE {name} LOCATION '{place}'")


def _live(lab: Lab) -> Life:
    """Everything here happens after the only base backup."""
    life = Life(lab)
    for name in ("app", "moved", "source"):
        lab.server.sql(f"CREATE DATABASE {name}")
        life.sql(name, "CREATE TABLE t AS SELECT generate_series(1, 10) AS id")
    # Nothing is committed between the moment and what is no part of a transaction in WAL.
    life.note("before DROP DATABASE")
    lab.server.sql("DROP DATABASE app")
    life.note("no app")
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
    lab.await_confirmed()
    return life


@pytest.fixture(scope="module")
def life(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    with archives.archived(15, tmp_path_factory.mktemp("pitr"), durable=False) as lab:
        yield _live(lab)


COUNT = "SELECT count(*) FROM t"


@pytest.mark.parametrize(
    ("moment", "database", "count"),
    [
        ("before DROP DATABASE", "app", 10),
        ("before CREATE DATABASE", "source", 10),
        ("before DROP TABLESPACE", "moved", 10),
        ("one committed", "moved", 11),
        ("one rolled back", "other", 10),
    ],
)
def test_what_was_done_after_the_moment_is_not_done(
    life: Life, moment: str, database: str, count: int, expected: Note, survived: Note
) -> None:
    """Nor where it is no part of a transaction, and nothing was committed before it."""
    expected(93, f"{moment}: {database}", 1)
    assert life.rows(database, COUNT, "--to-time", life.moments[moment]) == [(count,)]
    survived(93, f"{moment}: {database}")


def test_the_latest_commit_after_all_of_it(life: Life, expected: Note, survived: Note) -> None:
    fault = "CREATE TABLESPACE, max_prepared_transactions raised"
    expected(94, fault, 1)
    assert life.rows("moved", "SELECT (SELECT count(*) FROM t), (SELECT sum(id) FROM l)", "--latest") == [(12, 7)]
    survived(94, fault)
