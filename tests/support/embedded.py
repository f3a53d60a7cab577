"""PostgreSQL servers for tests that need a database but no container: the demo's, from a Python package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from demo import servers, workspace

AUTH_SQL = Path(servers.__file__).with_name("auth_db.sql")
PAYMENT_SQL = Path(servers.__file__).with_name("payment_db.sql")


@contextmanager
def running(superusers: Sequence[str], major: int = 16) -> Iterator[list[servers.Server]]:
    """Yield one running server for each superuser; afterwards nothing of them is left. Main thread only."""
    with (
        workspace.workspace(shared=servers.runs_as_root()) as place,
        servers.running(servers.install(place, major), place, superusers) as started,
    ):
        yield started
