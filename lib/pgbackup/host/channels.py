"""The file of channels and pings: whom to tell, and where the dead man's pings go. Its URLs are secrets.

One a line: a URL of Apprise, or `ping RUN URL`. Nothing that is said of the file repeats a line of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pgbackup.errors import CannotCreate, ConfigurationError, PermissionDenied, path_error
from pgbackup.host.accounts import Account

RUNS = ("backup", "verify", "drill", "copy", "status")
_LARGEST_BYTES = 64 << 10
_PING = re.compile(r"ping\s+(\S+)\s+(\S+)")
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{0,31})://\S")


@dataclass(frozen=True)
class Channel:
    """One way to tell people. name: without a secret. url: of Apprise, or ""; command: its words, or none."""

    name: str
    url: str = field(default="", repr=False)
    command: tuple[str, ...] = field(default=(), repr=False)

    @property
    def key(self) -> str:
        """What it is called in state files: changes with what it is, tells nothing of it."""
        return hashlib.sha256("\0".join((self.url, *self.command)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Alerts:
    """channels: in the order of the file, a command last. pings: a run (`backup`, `backup/auth`) to its URL."""

    channels: tuple[Channel, ...] = ()
    pings: Mapping[str, str] = field(default_factory=dict, repr=False)


def text_of(path: Path) -> str | None:
    """Return the file's text as it is, None where there is none. Raise as read() does."""
    return _content(path)


def write(path: Path, text: str, account: Account) -> None:
    """Replace the file in one step: mode 0600, the account's. Its directory is made. Raise SuiteError."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        if not path.parent.exists():
            path.parent.mkdir()
            path.parent.chmod(0o755)
        if path.parent.stat().st_mode & 0o022:
            raise CannotCreate(f"'{path.parent}' may be written by others", f"chmod go-w '{path.parent}'")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  a descriptor, not a path
            os.fchmod(descriptor, 0o600)
            os.fchown(descriptor, account.uid, account.gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError as error:
        raise path_error(error, path.parent) from None


def read(path: Path, command: Sequence[str]) -> Alerts:
    """Read the file; where there is none there are no channels but the command (ALERT_COMMAND, () for none).

    Raise PermissionDenied where others can read it, or this account cannot; ConfigurationError for anything else.
    """
    text = _content(path)
    return with_command(parsed(text, str(path)) if text is not None else Alerts(), command)


def with_command(known: Alerts, command: Sequence[str]) -> Alerts:
    """The same with a command that is told as well, () for none. Pure."""
    if not command:
        return known
    told = Channel(f"command '{Path(command[0]).name}'", command=tuple(command))
    return Alerts((*known.channels, told), known.pings)


def parsed(text: str, whose: str) -> Alerts:
    """Given the file's text, return what is in it. Raise ConfigurationError naming the line, not its content. Pure."""
    channels, pings = [], {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if found := _PING.fullmatch(line):
            run, url = found.groups()
            _check_ping(run, url, f"{whose}:{number}")
            if run in pings:
                raise ConfigurationError(f"{whose}:{number}: '{run}' has a ping already", "one line for each run")
            pings[run] = url
        elif schema := _URL.match(line):
            channels.append(Channel(f"{schema[1].lower()} (line {number})", url=line))
        else:
            raise ConfigurationError(
                f"{whose}:{number}: this is neither a URL of Apprise nor a ping",
                "for example mailtos://user:password@example.com, or: ping backup https://hc-ping.com/UUID",
            )
    if len({channel.key for channel in channels}) < len(channels):
        raise ConfigurationError(f"{whose}: a channel is there twice", "remove one of the two lines")
    return Alerts(tuple(channels), pings)


def _check_ping(run: str, url: str, where: str) -> None:
    if not re.fullmatch(rf"({'|'.join(RUNS)})|(backup|drill|copy)/[a-z][a-z0-9_]*", run):
        raise ConfigurationError(
            f"{where}: there is no run of that name to ping for",
            f"one of {', '.join(RUNS)}, or of one database or place: backup/NAME, drill/NAME, copy/PLACE",
        )
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  reading it is what validates it
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"{where}: the ping's URL does not begin with https:// or http://", "see docs/alerts.md"
        )


def _content(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise PermissionDenied(
            f"may not read '{path}': {error.strerror}", f"run it as the account that makes the backups; ls -l '{path}'"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"'{path}' cannot be used: {error.strerror}", f"ls -ld '{path}'") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ConfigurationError(f"'{path}' is not a plain file", f"ls -ld '{path}'")
    with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor, not a path
        if status.st_mode & 0o077:
            raise PermissionDenied(
                f"others may read '{path}' (mode {stat.S_IMODE(status.st_mode):04o}), which holds secrets",
                f"chmod 0600 '{path}', and change the passwords in it",
            )
        raw = file.read(_LARGEST_BYTES + 1)
    if len(raw) > _LARGEST_BYTES:
        raise ConfigurationError(f"'{path}' is larger than {_LARGEST_BYTES >> 10} KiB: it cannot be a list of channels")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"'{path}' is not UTF-8 text", f"look at it: cat -v '{path}'") from None
