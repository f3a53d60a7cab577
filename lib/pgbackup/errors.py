"""Every way this suite can fail, with its exit status.

The statuses follow sysexits.h where it has a name for the failure. This table is the only place that
knows them: the EXIT STATUS section of every `--help` and docs/exit-codes.md are written from it.
"""

from __future__ import annotations

import errno
import pwd
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class SuiteError(Exception):
    """A failure with a name: what happened, an exit status and what to type next.

    message: one lower-case sentence that names the object, quoted, and the reason.
    hint: what the reader can type or change, or None where nothing sensible can be said.
    sqlstate: PostgreSQL's code of it (manual, appendix A), "" where none is known: the text may be in any language.
    """

    status = 70
    meaning = "internal error: a bug in this suite"
    sqlstate = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SuiteError):
    status = 64
    meaning = "wrong usage: unknown option, missing argument, or no confirmation"


class BackupBad(SuiteError):
    status = 65
    meaning = "a backup is bad, or what was restored does not match it"


class NoBackup(SuiteError):
    status = 66
    meaning = "no such backup, or none that is fresh enough; a promise is broken"


class Unavailable(SuiteError):
    status = 69
    meaning = "the server, its container, or Docker cannot be reached or does not answer; a program is missing"


class CannotCreate(SuiteError):
    status = 73
    meaning = "the backup directory or a file in it cannot be created or is not safe to use"


class IoFailed(SuiteError):
    status = 74
    meaning = "input or output failed: disk full, read or write error"


class LockHeld(SuiteError):
    status = 75
    meaning = "another run is working on the same database"


class PermissionDenied(SuiteError):
    status = 77
    meaning = "permission denied: on a file, on Docker, or by the server to the database role"


class ConfigurationError(SuiteError):
    status = 78
    meaning = "configuration error: nothing was touched"


class Interrupted(SuiteError):
    """A signal asked the run to stop. Raised wherever the run waits, never inside a handler."""

    meaning = "stopped by a signal: 129 SIGHUP, 130 SIGINT, 143 SIGTERM"

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.status = 128 + signal_number


def path_error(error: OSError, path: Path) -> CannotCreate | PermissionDenied | IoFailed:
    """Given what the system said about a directory or a file in it, return the error to raise."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(
            f"may not use '{path}': {error.strerror}", f"run it as the owner of the backups: sudo -u {_owner(path)} …"
        )
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
        reason = "it is a symbolic link or not a directory" if error.errno != errno.ENOENT else "it is not there"
        return CannotCreate(f"cannot use '{path}': {reason}", f"look at it: ls -ld '{path}'")
    return IoFailed(f"cannot write in '{path}': {error.strerror or error}", f"df -h '{path}'; df -i '{path}'")


def _owner(path: Path) -> str:
    """The name of the account that owns what can be seen of this path; the documented one where nothing can."""
    for place in (path, *path.parents):
        try:
            return pwd.getpwuid(place.stat().st_uid).pw_name
        except (OSError, KeyError):
            continue
    return "deployer"


@dataclass(frozen=True)
class KnownFailure:
    """What a program says when it fails, and how it is told.

    pattern: a regular expression. message, hint: {reason} is the line that matches, {0} the pattern's group; the rest
    are the target's settings.
    """

    pattern: str
    kind: type[SuiteError]
    message: str
    hint: str


SOME_FAILED = 1

EXIT_STATUSES: list[tuple[str, str]] = [
    ("0", "done"),
    (str(SOME_FAILED), "some databases failed and others did not"),
    *(
        (str(kind.status), kind.meaning)
        for kind in (
            UsageError,
            BackupBad,
            NoBackup,
            Unavailable,
            SuiteError,
            CannotCreate,
            IoFailed,
            LockHeld,
            PermissionDenied,
            ConfigurationError,
        )
    ),
    ("128+n", Interrupted.meaning),
]


def overall_status(statuses: Sequence[int]) -> int:
    """Given the exit status of each database's work, return that of the run.

    A signal (128+n) wins. All the same: that one. Some done, some failed: 1. All failed, differently:
    the first one.
    """
    signalled = [status for status in statuses if status > 128]
    if signalled:
        return signalled[0]
    if not any(statuses):
        return 0
    if all(statuses):
        return statuses[0]
    return SOME_FAILED
