"""Which rclone is run for a place, and whether the file with its credentials is ours alone."""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

from pgbackup import proc
from pgbackup.errors import ConfigurationError, PermissionDenied, Unavailable

OLDEST = (1, 60, 1)
OLDEST_FOR_BUCKETS = (1, 74, 0)  # it refuses to overwrite, and it locks
_VERSION_SECONDS = 120


def newest_first_that_fits(program: str, oldest: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """The host's rclone if it is new enough, else the one that was installed with the suite, and its version."""
    said = []
    for candidate in (program, str(Path(sys.executable).with_name("rclone"))):
        try:
            first = proc.run([candidate, "version"], seconds=_VERSION_SECONDS).stdout.decode(errors="replace")
        except Unavailable as error:
            said.append(error.message)
            continue
        found = re.match(r"rclone v(\d+)\.(\d+)\.(\d+)", first)
        version = tuple(map(int, found.groups())) if found else (0,)
        if version >= oldest:
            return candidate, version
        said.append(f"'{candidate}' is older than {'.'.join(map(str, oldest))}")
    raise Unavailable(
        f"there is no rclone for this place: {'; '.join(said)}", "install one: https://rclone.org/install"
    )


def check_config(path: Path) -> None:
    """Raise ConfigurationError or PermissionDenied unless the file that holds the credentials is ours alone."""
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
