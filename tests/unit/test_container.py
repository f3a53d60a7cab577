"""A container that is not there: what it may be called now, and how Docker and podman say so."""

from __future__ import annotations

from pathlib import Path

import pytest
from pgbackup.database.clients import container
from pgbackup.errors import Unavailable
from pgbackup.host import services
from pgbackup.settings import config
from pgbackup.settings.config import Settings

RUNNING = ["shop-db-1", "shop-redis-1", "a8ef7c3b2d1f_postgres-a", "wiki.1.x3f0q", "pgbackup-0123-db", "postgres_c"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("db", ["shop-db-1"]),
        ("shop_db_1", ["shop-db-1"]),
        ("SHOP-DB", ["shop-db-1"]),
        ("postgres-a", ["a8ef7c3b2d1f_postgres-a"]),
        ("wiki", ["wiki.1.x3f0q"]),
        ("wiki.1.a9b8c", ["wiki.1.x3f0q"]),
        ("0123456789ab_shop-db-1", ["shop-db-1"]),
        ("stack_postgres_c", ["postgres_c"]),
        ("postgres-c", ["postgres_c"]),
        ("shop", ["shop-db-1", "shop-redis-1"]),
        ("elsewhere", []),
        ("mysql", []),
    ],
)
def test_what_it_may_be_called_now(name: str, found: list[str]) -> None:
    assert container.near(name, RUNNING) == found
    assert container.near(name, []) == []


def test_of_many_only_some_are_named() -> None:
    assert len(container.near("db", [f"db-{number}" for number in range(100)])) == 5


@pytest.fixture
def engine(tmp_path: Path) -> Settings:
    """Settings with something in Docker's place that has no container but three that run."""
    stub = tmp_path / "engine"
    names = r"shop-db-1\nother\n"
    stub.write_text(
        f"#!/bin/sh\n[ $1 != ps ] || {{ printf '{names}'; exit 0; }}\n"
        'printf \'%s\\n\' "$(cat "$(dirname "$0")/said")" >&2; exit 125\n'
    )
    stub.chmod(0o755)
    known = {"DOCKER": str(stub), "DATABASES": "shop", "SHOP_CONTAINER": "db"}
    return config.load(known, tmp_path / "absent", {})


ABSENT = [
    "Error response from daemon: No such container: db",
    "Error: No such container: db",
    'Error: no such container "db"',
    "Error: inspecting object: no such object: db",
    'Error: no container with name or ID "db" found: no such container',
]


@pytest.mark.parametrize("said", ABSENT)
def test_one_that_is_not_there_is_told_with_what_runs_instead(engine: Settings, tmp_path: Path, said: str) -> None:
    (tmp_path / "said").write_text(said)
    (target,) = engine.targets
    with pytest.raises(Unavailable, match="container 'db' is not there") as caught:
        container.find(target, engine)
    assert caught.value.hint == "is it called shop-db-1 now? set SHOP_CONTAINER; see: docker ps"


@pytest.mark.parametrize("said", ABSENT)
def test_a_service_that_is_not_there_is_absent(engine: Settings, tmp_path: Path, said: str) -> None:
    (tmp_path / "said").write_text(said)
    assert services.running(["db"], engine.docker) == ([], ["db"])


def test_a_docker_that_fails_otherwise_is_no_absence(engine: Settings, tmp_path: Path) -> None:
    (tmp_path / "said").write_text("Cannot connect to the Docker daemon at unix:///none")
    with pytest.raises(Unavailable, match="Docker cannot be reached") as caught:
        container.find(engine.targets[0], engine)
    assert "shop-db-1" not in (caught.value.hint or "")
    with pytest.raises(Unavailable, match="cannot ask Docker"):
        services.running(["db"], engine.docker)


@pytest.mark.parametrize(
    ("limits", "processors"),
    [
        ({}, 0),
        ({"NanoCpus": 0, "CpuQuota": 0, "CpuPeriod": 0, "CpusetCpus": ""}, 0),
        ({"NanoCpus": 2_500_000_000}, 2),
        ({"NanoCpus": 500_000_000}, 1),
        ({"CpuQuota": 400_000, "CpuPeriod": 100_000}, 4),
        ({"CpuQuota": 300_000}, 3),
        ({"CpuQuota": -1}, 0),
        ({"CpusetCpus": "0-2,5"}, 4),
        ({"CpusetCpus": "1", "NanoCpus": 8_000_000_000}, 1),
    ],
)
def test_a_container_has_as_many_processors_as_its_tightest_limit(limits: dict[str, object], processors: int) -> None:
    assert container.processors(limits) == processors
