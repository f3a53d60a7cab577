"""What rclone says is told as the failure that it is."""

from __future__ import annotations

from pathlib import Path

from pgbackup.errors import NoBackup, PermissionDenied
from pgbackup.remotes import refusals

SAVE = "2024/01/15 02:00:00 ERROR : Failed to save config after 3 tries: open /etc/x: permission denied"
GONE = "2024/01/15 02:00:00 ERROR : error listing: directory not found"


def test_a_configuration_that_it_may_not_write_is_no_refusal_of_the_place() -> None:
    for said in (f"{SAVE}\n{GONE}\n", f"{GONE}\n{SAVE}\n"):
        assert isinstance(refusals.explained(said, "nas:x", Path("/x")), NoBackup)
    said = f"{SAVE}\n2024/01/15 02:00:00 ERROR : mkdir: permission denied\n"
    assert isinstance(refusals.explained(said, "nas:x", Path("/x")), PermissionDenied)
