"""Which rclone is run for a place, and whether the file with its credentials is ours alone."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from pgbackup.errors import ConfigurationError, PermissionDenied

_OLDEST = (1, 60, 1)
_OLDEST_FOR_BUCKETS = (1, 74, 0)  # it refuses to overwrite, and it locks


def candidates(program: str) -> list[str]:
    """The host's rclone, and the one that was installed with the suite."""
    return list(dict.fromkeys([program, str(Path(sys.executable).with_name("rclone"))]))


def too_old(version: list[int], is_object_store: bool) -> str:
    """The oldest version that is right for such a place, where this one is older; else "". Pure."""
    oldest = _OLDEST_FOR_BUCKETS if is_object_store else _OLDEST
    return ".".join(map(str, oldest)) if tuple(version) < oldest else ""


def check_config(path: Path) -> os.stat_result:
    """Return what the system says of the file that holds the credentials.

    Raise ConfigurationError or PermissionDenied unless it is ours alone.
    """
    try:
        found = path.stat()
    except PermissionError:
        raise PermissionDenied(f"may not read '{path}'", f"sudo chown {os.geteuid()} '{path}'") from None
    except OSError as error:
        raise ConfigurationError(
            f"cannot read rclone's configuration '{path}': {error.strerror}",
            f"make it: sudo rclone config --config '{path}', or set RCLONE_CONFIG",
        ) from None
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
        raise ConfigurationError(
            f"others may read the credentials in '{path}' (mode {stat.S_IMODE(found.st_mode):04o})",
            f"chmod 600 '{path}'",
        )
    if not os.access(path, os.R_OK):
        raise PermissionDenied(f"may not read '{path}'", f"sudo chown {os.geteuid()} '{path}'")
    return found


def give_back(path: Path, before: os.stat_result) -> None:
    """Give the file its owner back: run as root, rclone replaces it when it notes what it has learned of a server."""
    if os.geteuid() == 0:
        now = path.stat()
        if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
            os.chown(path, before.st_uid, before.st_gid)
