"""Reads `.env` as data: nothing in it is executed, expanded or interpolated."""

from __future__ import annotations

import errno
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgbackup.errors import ConfigurationError, IoFailed, PermissionDenied, SuiteError

if TYPE_CHECKING:
    from dotenv.parser import Binding

LARGEST_BYTES = 64 << 10


@dataclass(frozen=True)
class Given:
    """A value as written, and where: 'the environment', or a file with its line. line: 0 where it is of no file."""

    value: str
    place: str
    line: int = 0


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the settings: message and hint as a SuiteError has them, and the line in `.env`."""

    message: str
    hint: str | None
    line: int = 0


def read(path: Path) -> tuple[dict[str, Given], list[Problem]]:
    """Return key to value as written, and what is wrong with single lines: all but plain KEY=value, each key once.

    An absent file is an empty one; a symbolic link is followed. Raise ConfigurationError for a file that cannot be
    read as lines at all; PermissionDenied where the caller may not read it; IoFailed where the disk fails.
    """
    text = raw(path)
    return _parsed(text, path) if text else ({}, [])


def raw(path: Path) -> bytes:
    """The file as it is, empty where it is absent. Raise as read() does.

    At most LARGEST_BYTES, of a regular file only: a FIFO would hold the run for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor, not a path
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigurationError(f"'{path}' is not a regular file", f"look at it: ls -ld '{path}'")
            # Writable by the group is allowed: Ubuntu's umask makes a copy of .env.example so.
            if status.st_mode & stat.S_IWOTH:
                raise ConfigurationError(f"'{path}' may be changed by anybody", f"chmod o-w '{path}'")
            text = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        if path.is_symlink():
            raise ConfigurationError(f"'{path}' is a symbolic link to nothing", f"look at it: ls -l '{path}'") from None
        return b""
    except OSError as error:
        raise _explained(error, path) from None
    if len(text) > LARGEST_BYTES:
        raise ConfigurationError(f"'{path}' is larger than {LARGEST_BYTES >> 10} KiB: it cannot be a settings file")
    return text


def _explained(error: OSError, path: Path) -> SuiteError:
    look = f"look at it: ls -ld '{path}'"
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(
            f"cannot read '{path}': {error.strerror}", f"run it as a user who may: sudo -u deployer …   ({look})"
        )
    if error.errno == errno.EIO:
        return IoFailed(f"cannot read '{path}': {error.strerror}", "see what the kernel says: sudo dmesg | tail")
    return ConfigurationError(f"cannot read '{path}': {error.strerror}", look)


def _parsed(raw: bytes, path: Path) -> tuple[dict[str, Given], list[Problem]]:
    from dotenv.parser import parse_stream  # here, for most hosts have no such file

    text = _text(raw, path)
    written: dict[str, Given] = {}
    problems = []
    for binding in parse_stream(io.StringIO(text)):
        line = _line(binding)
        place = f"{path}:{line}"
        # A quote that is never closed would swallow the lines behind it.
        over_lines = binding.key is not None and "\n" in binding.original.string.strip()
        if binding.error or over_lines or (binding.key is not None and binding.value is None):
            message = f"{place}: cannot be read as KEY=value on one line"
            problems.append(Problem(message, "close the quotes, and put # before a comment", line))
        elif binding.key is None or binding.value is None:
            continue
        elif binding.key in written:
            message = f"{place}: {binding.key!r} is set twice"
            problems.append(Problem(message, f"{binding.key}: first set at {written[binding.key].place}", line))
        else:
            written[binding.key] = Given(binding.value, place, line)
    return written, problems


def _text(raw: bytes, path: Path) -> str:
    for bad, what, hint in (
        (b"\0", "contains a NUL byte", f"write it again from '{path}.example'"),
        (b"\xef\xbb\xbf", "contains a byte order mark", f"sed -i 's/\\xEF\\xBB\\xBF//' '{path}'"),
        (b"\r", "has Windows line ends", f"sed -i 's/\\r$//' '{path}'"),
    ):
        if bad in raw:
            raise ConfigurationError(f"{path}:{_line_at(raw, raw.index(bad))}: {what}", hint)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}:{_line_at(raw, error.start)}: is not UTF-8 text") from None


def _line_at(raw: bytes, position: int) -> int:
    return raw[:position].count(b"\n") + 1


def _line(binding: Binding) -> int:
    """The line of the key itself: the parser counts the blank lines before it as part of the binding."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
