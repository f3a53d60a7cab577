"""Fixtures: a Docker engine, the two databases of the guide, servers that live as long as a test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from demo import servers as demo_servers
from tests.support import engine as docker_engine
from tests.support import images, restores, servers, side_by_side
from tests.support.restores import Lab
from tests.support.servers import Server


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """DOCKER_HOST of a running engine, also set in the environment; "" means the client finds it by itself.

    Without an engine the tests that need one are skipped, saying why, and fail where CI=true.
    """
    with ExitStack() as stack:
        try:
            if (answer := os.environ.get(docker_engine.ANSWER, "yes")) != "yes":
                raise docker_engine.NoEngine(answer)
            host = stack.enter_context(docker_engine.used())
        except docker_engine.NoEngine as reason:
            if os.environ.get("CI") == "true":
                pytest.fail(str(reason), pytrace=False)
            pytest.skip(str(reason))
        with pytest.MonkeyPatch.context() as environment:
            if host:
                environment.setenv("DOCKER_HOST", host)
            servers.sweep()
            yield os.environ.get("DOCKER_HOST", "")


@pytest.fixture(scope="session")
def image(engine: str) -> Callable[[int], str]:
    """A function: major version -> the name of its image, built if need be."""
    return images.ensure


@pytest.fixture(scope="session")
def postgres_a(engine: str) -> Iterator[Server]:
    """PostgreSQL 15 with auth_db of auth_user, for the whole session: leave it as you found it."""
    with servers.running(15, name="pgbackup-test-a-", database="auth_db", user="auth_user") as server:
        yield server


@pytest.fixture(scope="session")
def postgres_b(engine: str) -> Iterator[Server]:
    """PostgreSQL 15 with payment_db of payment_user, for the whole session: leave it as you found it."""
    with servers.running(15, name="pgbackup-test-b-", database="payment_db", user="payment_user") as server:
        yield server


@pytest.fixture
def server(engine: str) -> Iterator[Callable[..., Server]]:
    """A function that starts a server which lives as long as the test: server(15, durable=True, …)."""
    with ExitStack() as stack:

        def start(major: int = 15, **options: Any) -> Server:
            return stack.enter_context(servers.running(major, **options))

        yield start


@pytest.fixture(scope="session")
def side_by_side_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a copy of the suite that loads small backups as large ones: in four sessions, by a few rows."""
    return side_by_side.copied(tmp_path_factory.mktemp("suite") / "copy")


@pytest.fixture(scope="module")
def embedded() -> Iterator[demo_servers.Server]:
    """A server without Docker, much faster."""
    with restores.embedded_server() as server:
        yield server


@pytest.fixture
def lab(embedded: demo_servers.Server, tmp_path: Path) -> Lab:
    """auth_db on it, for the direct client."""
    return restores.direct(embedded, tmp_path)
