"""How a load session begins."""

from __future__ import annotations

import pytest
from pgbackup.database.loading.psql import work_memory

MIB = 1 << 20


@pytest.mark.parametrize(
    ("memory", "sessions", "setting"),
    [
        (0, 2, None),  # nobody knows: the server's own
        (400 * MIB, 2, "25MB"),
        (400 * MIB, 64, "16MB"),
        (2048 * MIB, 2, "128MB"),
        (64 << 30, 2, "512MB"),
    ],
)
def test_sorting_takes_its_share_of_what_the_container_may_have(
    memory: int, sessions: int, setting: str | None
) -> None:
    assert work_memory(memory, sessions).get("maintenance_work_mem") == setting
