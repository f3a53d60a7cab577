"""Fixtures: databases in containers that the tests maltreat, with short limits for the runs."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import backups, databases, servers
from tests.support.backups import Place, Source
from tests.support.effort import FULL
from tests.support.servers import Server

KINDS = ["sidecar", "exec"]
QUICK = {"WAIT_SECONDS": "8", "COMMAND_SECONDS": "8", "STALL_SECONDS": "8", "LOCK_WAIT_SECONDS": "4"}
BOUND_SECONDS = 70.0  # several of those limits, one after the other


@pytest.fixture(scope="module")
def auth(engine: str) -> Iterator[Server]:
    """auth_db with 10 MB more, on a server that these tests may maltreat as long as it answers afterwards."""
    with servers.running(15, name="pgbackup-test-a-", database="auth_db", user="auth_user", durable=True) as server:
        databases.container_source(server, "auth", bulk=databases.BULK_ROWS)
        yield server


@pytest.fixture(scope="module")
def payment(engine: str) -> Iterator[Server]:
    with servers.running(15, name="pgbackup-test-b-", database="payment_db", user="payment_user") as server:
        databases.container_source(server, "payment")
        yield server


def source(server: Server, name: str, kind: str) -> Source:
    text = server.exec(["pg_dump", "-U", server.user, server.database]).stdout.encode()
    values = {"CONTAINER": server.name, "DIR": name, "CLIENT": kind, "DATABASE": server.database}
    values |= {"USER": server.user}
    return Source(name, server.database, text, values, lambda sql: server.sql(sql, "postgres"), server.logs)


@pytest.fixture(params=KINDS if FULL else ["either"])
def kind(request: pytest.FixtureRequest) -> str:
    """The client: each of the two in the full numbers; in the short ones always the same of them for a test."""
    if request.param != "either":
        return str(request.param)
    return KINDS[zlib.crc32(request.node.originalname.encode()) % 2]


@pytest.fixture
def place(auth: Server, tmp_path: Path, kind: str) -> Place:
    made = backups.place(tmp_path / "backups", [source(auth, "auth", kind)], **QUICK)
    made.plant(made.sources[0])
    return made


@pytest.fixture
def both(auth: Server, payment: Server, tmp_path: Path) -> Place:
    """Both databases; auth by exec."""
    made = backups.place(
        tmp_path / "backups", [source(auth, "auth", "exec"), source(payment, "payment", "sidecar")], **QUICK
    )
    for one in made.sources:
        made.plant(one)
    return made
