"""Files of the suite below /etc: written whole, with a seal that tells whether somebody has edited them since."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pgbackup.errors import ConfigurationError, IoFailed

_SEAL = "# Installed by the backup suite, seal "


@dataclass(frozen=True)
class Change:
    """What is to become of one file. None: it is not there."""

    path: Path
    before: str | None
    after: str | None

    def diff(self) -> list[str]:
        """The lines of a unified diff; none where nothing changes."""
        import difflib  # here: only a set-up shows it

        (old, before), (new, after) = (
            ("/dev/null", []) if text is None else (str(self.path), text.splitlines())
            for text in (self.before, self.after)
        )
        return list(difflib.unified_diff(before, after, old, new, lineterm=""))


def read(path: Path) -> str | None:
    """Return the file's text, None if it is not there. Raise ConfigurationError for a link or anything but a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(
            f"'{path}' is not a plain file ({error.strerror}); is the unit masked?",
            f"ls -l '{path}'; sudo systemctl unmask {path.name}",
        ) from None
    with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigurationError(f"'{path}' is not a plain file", f"look at it: ls -ld '{path}'")
        return file.read().decode("utf-8", "surrogateescape")


def apply(change: Change) -> None:
    """Write or remove the file, in one step. Raise IoFailed."""
    try:
        if change.after is None:
            change.path.unlink(missing_ok=True)
            return
        if not change.path.parent.exists():
            change.path.parent.mkdir()
            change.path.parent.chmod(0o755)
        # Neither systemd nor logrotate looks at a name that begins with a dot.
        fresh = change.path.with_name(f".{change.path.name}.pgbackup-new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123  as above
            file.write(change.after.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        fresh.replace(change.path)
    except OSError as error:
        raise IoFailed(f"cannot write '{change.path}': {error.strerror}", f"df -h '{change.path.parent}'") from None


def _none(_line: str) -> bool:
    return False


def sealed(text: str, free: Callable[[str], bool] = _none) -> str:
    """Return the text with its seal in front. free: tells the lines that may be edited without breaking it."""
    return f"{_SEAL}{_digest(text, free)}.\n{text}"


def edited(text: str, free: Callable[[str], bool] = _none) -> bool:
    """Whether somebody has changed a line that is not free, or the file is none of the suite's."""
    first, _, rest = text.partition("\n")
    found = re.fullmatch(re.escape(_SEAL) + r"([0-9a-f]{16})\.", first)
    return found is None or found[1] != _digest(rest, free)


def _digest(text: str, free: Callable[[str], bool]) -> str:
    fixed = "\n".join(line for line in text.splitlines() if not free(line))
    return hashlib.sha256(fixed.encode("utf-8", "surrogateescape")).hexdigest()[:16]
