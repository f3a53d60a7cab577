"""Where a drill finds the host's own programs of PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from pgbackup.database.cluster import empty_server
from pgbackup.errors import Unavailable

from tests.support.databases import embedded_programs


def test_links_to_some_of_the_programs_lead_to_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = embedded_programs(18)
    for name in ("initdb", "postgres"):
        (tmp_path / name).symlink_to(real / name)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert empty_server.programs(18) == real.resolve()
    with pytest.raises(Unavailable, match="no programs of a PostgreSQL 99"):
        empty_server.programs(99)
