"""PostgreSQL servers for tests that need a database but no container: the demo's, from a Python package.

A process copies the programs once, and makes the files of a server once for each superuser: all its servers have copies
of these, and so the same system identifier.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from demo import servers, workspace

AUTH_SQL = Path(servers.__file__).with_name("auth_db.sql")
PAYMENT_SQL = Path(servers.__file__).with_name("payment_db.sql")

_KEPT = ExitStack()


class _Copied(servers.Server):
    """A server whose files are copied from those of one that never ran."""

    def initialise(self) -> subprocess.Popen[bytes]:
        original = _original(self.installation, self.superuser)
        self.directory.mkdir(mode=0o700)
        if self.installation.account:
            os.chown(self.directory, self.installation.account.pw_uid, self.installation.account.pw_gid)
        self._process = subprocess.Popen(["cp", "-a", original, self.directory / "data"])
        return self._process


@contextmanager
def running(superusers: Sequence[str], major: int = 16) -> Iterator[list[servers.Server]]:
    """Yield one running server for each superuser; afterwards nothing of them is left. Main thread only."""
    with (
        workspace.workspace(shared=servers.runs_as_root()) as place,
        servers.running(_installed(major), place, superusers, _Copied) as made,
    ):
        yield made


def release() -> None:
    """Remove what this process keeps for further servers. Where nobody calls it, the next process sweeps that."""
    _installed.cache_clear()
    _original.cache_clear()
    _KEPT.close()


@functools.cache
def _installed(major: int) -> servers.Installation:
    place = _KEPT.enter_context(workspace.workspace(shared=servers.runs_as_root()))
    return servers.install(place, major)


@functools.cache
def _original(installation: servers.Installation, superuser: str) -> Path:
    place = _KEPT.enter_context(workspace.workspace(shared=servers.runs_as_root()))
    made = servers.Server(installation, place / "original", superuser)
    if made.initialise().wait(servers.START_SECONDS) != 0:
        raise servers.ServerFailed(f"initdb failed: {made._said()}")
    return made.directory / "data"
