"""The one way to remove something from a place: with a credential of its own, which the host does not keep."""

from __future__ import annotations

from dataclasses import dataclass

from pgbackup.remotes.rclone import Rclone, through_one

_SECONDS = 120


@dataclass(frozen=True)
class Remover(Rclone):
    """A place with one more word. config: with the credential that may delete there."""

    @through_one
    def remove(self, name: str) -> None:
        """Delete an object. Raise PermissionDenied where the place refuses it, NoBackup: it is absent."""
        self.ask("operations/deletefile", _SECONDS, fs=self.root, remote=name)
