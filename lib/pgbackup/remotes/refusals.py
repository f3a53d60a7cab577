"""What rclone says when it fails, and which failure that is. Pure."""

from __future__ import annotations

import re
from pathlib import Path

from pgbackup.errors import (
    ConfigurationError,
    KnownFailure,
    NoBackup,
    PermissionDenied,
    SuiteError,
    Unavailable,
)
from pgbackup.remotes.place import AlreadyThere, PlaceFull

_KNOWN = (
    KnownFailure(
        r"PreconditionFailed|[Ss]tatus ?[Cc]ode: 412",
        AlreadyThere,
        "an object of that name is there already at '{place}'",
        "it stays as it is",
    ),
    KnownFailure(
        r"didn't find section in config file",
        ConfigurationError,
        "'{config}' knows no remote of the name in '{place}'",
        "see which it knows: rclone listremotes --config '{config}'",
    ),
    KnownFailure(
        r"RequestTimeTooSkewed|difference between the request time and the (?:server's|current) time",
        Unavailable,
        "'{place}' and this host do not agree on the time: {reason}",
        "set the clock: timedatectl set-ntp true",
    ),
    KnownFailure(
        r"no space left|remaining disk space|[Qq]uota|InsufficientStorage|[Ss]tatus ?[Cc]ode: 507|StorageFull"
        r"|SSH_FX_FAILURE|SSH_FX_QUOTA|SSH_FX_NO_SPACE",
        PlaceFull,
        "'{place}' cannot take it, it may be full: {reason}",
        "make room there; nothing here was changed",
    ),
    KnownFailure(
        r"AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|TokenRefreshRequired"
        r"|[Ss]tatus ?[Cc]ode: 40[13]|401 Unauthorized|403 Forbidden|unable to authenticate|[Pp]ermission denied"
        r"|knownhosts: key|couldn't find key in agent|failed to (?:read|parse) (?:private|key)",
        PermissionDenied,
        "'{place}' refuses it: {reason}",
        "are the credentials in '{config}' right, not expired, and allowed to write there?",
    ),
    KnownFailure(
        r"NoSuchBucket",
        ConfigurationError,
        "there is no bucket of the name in '{place}'",
        "make it, with versioning and object lock if it can have them",
    ),
    KnownFailure(
        r"NoSuchKey|(?:object|directory|file) not found|[Ss]tatus ?[Cc]ode: 404",
        NoBackup,
        "what was asked for is not there at '{place}'",
        "see what is: verify-backups.sh --at …",
    ),
)
# It would note what it learned of a server in its configuration, which need not be ours to change; it goes on.
_BESIDE_IT = re.compile(r"Failed to save config")
_STAMP = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (?:[A-Z]+ *: )?")


def explained(stderr: str, place: str, config: Path) -> SuiteError:
    """Given what a failed rclone has said, return the error to raise; one that is not known counts as a place away."""
    lines = [_STAMP.sub("", line) for line in stderr.splitlines() if line.strip() and not _BESIDE_IT.search(line)]
    last = lines[-1][:400] if lines else "rclone says nothing"
    for known in _KNOWN:
        for line in lines:
            if re.search(known.pattern, line):
                told = {"place": place, "config": config, "reason": line[:400]}
                return known.kind(known.message.format(**told), known.hint.format(**told))
    return Unavailable(f"'{place}' cannot be used: {last}", "is the line to it up, and the service there?")
