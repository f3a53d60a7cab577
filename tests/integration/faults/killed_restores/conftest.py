"""Fixtures: servers that tests of killed restores may crash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import servers as demo_servers
from tests.support import restores, servers
from tests.support.restores import Lab
from tests.support.runs import soon


@pytest.fixture
def lab(embedded: demo_servers.Server, tmp_path: Path, side_by_side_root: Path) -> Iterator[Lab]:
    """auth_db without Docker, loaded in four sessions; that a test crashed the server is no concern of the next one."""
    lab = restores.direct(embedded, tmp_path)
    lab.place.root = side_by_side_root
    assert soon(lambda: restores.answers(lab), 30)
    yield lab
    assert soon(lambda: restores.answers(lab), 30), "the server did not come back"


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[servers.Server]:
    with servers.running(
        15, name="pgbackup-test-restore-", database="auth_db", user="auth_user", durable=True
    ) as started:
        yield started
