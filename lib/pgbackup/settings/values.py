"""The kinds of values that settings take: each one says in words what is allowed, and reads it.

The words stand in the documentation and finish the sentence `KEY=value must be …`, so the two cannot differ.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Kind:
    """allowed: what a value must be. parse: text to value, raising ValueError for any other text.

    unit: of a number. shown: False where a value may hold a password and must not get into a message.
    """

    allowed: str
    parse: Callable[[str], object]
    unit: str = "none"
    shown: bool = True


def _matching(pattern: str, flags: int = 0) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if not re.fullmatch(pattern, value, flags):
            raise ValueError(value)
        return value

    return parse


def _words(value: str, word: Callable[[str], str]) -> tuple[str, ...]:
    return tuple(word(part) for part in value.split())


def _yes_or_no(value: str) -> bool:
    if value not in ("yes", "no"):
        raise ValueError(value)
    return value == "yes"


def _or_nothing(parse: Callable[[str], object], nothing: object) -> Callable[[str], object]:
    return lambda value: parse(value) if value else nothing


def whole_number(least: int, most: int, unit: str) -> Kind:
    """A count in ASCII digits without a sign, from `least` to `most`."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            raise ValueError(value)
        return int(value)

    return Kind(f"a whole number from {least} to {most}", parse, unit)


def _path(value: str) -> Path:
    if not re.fullmatch(r"/[^\x00-\x1f\x7f]*", value) or ".." in Path(value).parts:
        raise ValueError(value)
    return Path("/" + value.lstrip("/"))


def _path_below_root(value: str) -> Path:
    path = _path(value)
    if path == Path("/"):
        raise ValueError(value)
    return path


def _metrics_file(value: str) -> Path:
    path = _path_below_root(value)
    if path.suffix != ".prom":
        raise ValueError(value)
    return path


def _target_names(value: str) -> tuple[str, ...]:
    names = _words(value, _matching(r"[a-z][a-z0-9_]{0,30}"))
    if not names or len(set(names)) != len(names):
        raise ValueError(value)
    return names


def _ignored(value: str) -> tuple[tuple[str, str], ...]:
    """`container/database: reason; …`. A database's name may hold anything but a colon with a blank behind it."""
    found = []
    for part in filter(None, (each.strip() for each in value.split(";"))):
        pattern, colon, reason = part.partition(": ")
        if not colon or not reason.strip() or not re.fullmatch(r"[A-Za-z0-9*][A-Za-z0-9_.*-]*/.+", pattern):
            raise ValueError(value)
        found.append((pattern.strip(), reason.strip()))
    return tuple(found)


def _program(value: str) -> tuple[str, ...]:
    words = tuple(shlex.split(value))
    if not words or not words[0]:
        raise ValueError(value)
    return words


def _line(value: str) -> str:
    if len(value) > 40 or not value.isprintable():
        raise ValueError(value)
    return value


def _database_object(value: str) -> str:
    if not 1 <= len(value.encode()) <= 63:
        raise ValueError(value)
    return value


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("postgresql", "postgres") or parts.password is not None:
        raise ValueError(value)
    if any("password" in key.lower() for key, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError(value)
    parts.port  # noqa: B018  reading it is what validates it
    return value


def _health_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(value)
    parts.port  # noqa: B018  as above
    return value


def _remote(value: str) -> str:
    path = _matching(r"[\w.+@][\w.+@ -]*:([^\x00-\x1f\x7f]*)", re.ASCII)(value).partition(":")[2]
    if any(part in (".", "..") for part in path.split("/")):
        raise ValueError(value)
    return value.rstrip("/") if path.strip("/") else value


def database_of(url: str) -> str:
    """The database that a postgresql:// URL names, or '' (PostgreSQL manual, 34.1.1.2 Connection URIs)."""
    return _parameters(url).get("dbname") or unquote(urlsplit(url).path.removeprefix("/"))


def user_of(url: str) -> str:
    """The role that a postgresql:// URL names, or ''."""
    login, _, _ = urlsplit(url).netloc.rpartition("@")
    return _parameters(url).get("user") or unquote(login.partition(":")[0])


def _parameters(url: str) -> dict[str, str]:
    """What stands behind the '?'. By hand: parse_qsl() makes a blank of a '+', which libpq does not."""
    words = (word.partition("=") for word in urlsplit(url).query.split("&"))
    return {unquote(key): unquote(value) for key, _, value in words}


# Docker's own rule for names; it also keeps a name from being taken for an option.
_RATE = r"(?:off|[0-9]{1,9}(?:\.[0-9]{1,3})?[BkKMG]?)"
_AT = rf"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)-)?[0-2][0-9]:[0-5][0-9],{_RATE}"
_CONTAINER = _matching(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

PATH_BELOW_ROOT = Kind("an absolute path other than '/', without '..'", _path_below_root)
OPTIONAL_PATH = Kind("an absolute path without '..', or empty", _or_nothing(_path, None))
OPTIONAL_METRICS_FILE = Kind(
    "an absolute path that ends in .prom, as the collector wants it, or empty", _or_nothing(_metrics_file, None)
)
TARGET_NAMES = Kind(
    "one or more different names, separated by spaces; a name is at most 31 lower-case letters, digits and '_',"
    " beginning with a letter",
    _target_names,
)
PLACE_NAMES = Kind(
    "different names, separated by spaces; a name is at most 31 lower-case letters, digits and '_', beginning with a"
    " letter; or empty",
    _or_nothing(_target_names, ()),
)
OPTIONAL_HOST_NAME = Kind(
    "a name of at most 63 letters, digits, '_', '.' and '-', beginning with a letter or digit, or empty",
    _or_nothing(_matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"), ""),
)
# A name of the configuration and no more: what rclone also takes, `:s3,secret=…:`, would put a secret on command lines.
REMOTE = Kind(
    "the name of a remote, a colon, and a path without '..', for example s3:bucket/path",
    _remote,
)
OPTIONAL_BANDWIDTH = Kind(
    "a number with B, k, M, G for bytes a second, or times of day each with one, or empty",
    _or_nothing(_matching(rf"{_RATE}|{_AT}( {_AT})*"), ""),
)
IGNORED = Kind(
    "container/database, a colon and the reason, several separated by ';', for example"
    " 'postgres-a/scratch: made anew by each test'; a * stands for anything; or empty",
    _ignored,
)
YES_OR_NO = Kind("yes or no", _yes_or_no)
PROGRAM = Kind("a program, with its arguments if any, quoted as for a shell", _program)
OPTIONAL_PROGRAM = Kind(
    "a program, with its arguments if any, quoted as for a shell, or empty", _or_nothing(_program, ())
)
OPTIONAL_LINE = Kind("at most 40 printable characters, or empty", _or_nothing(_line, ""))
CONTAINER = Kind("a container's name or id: letters, digits, '_', '.' and '-'", _CONTAINER)
CONTAINERS = Kind("names of containers, separated by spaces, or empty", lambda value: _words(value, _CONTAINER))
# The server cuts a longer name off, and would then open another database.
DATABASE_OBJECT = Kind("a name of 1 to 63 bytes in UTF-8", _database_object)
OPTIONAL_DIRECTORY = Kind(
    "the name of one directory, without '/' and not beginning with '.', or empty",
    _or_nothing(_matching(r"[^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]*"), ""),
)
CLIENT = Kind("one of auto, sidecar, exec, direct", _matching("auto|sidecar|exec|direct"))
OPTIONAL_URL = Kind(
    "a URL that begins with postgresql:// and has no password in it (that goes into a passfile), or empty",
    _or_nothing(_url, ""),
    shown=False,
)
OPTIONAL_HEALTH_URL = Kind(
    "a URL that begins with https:// or http://, or empty", _or_nothing(_health_url, ""), shown=False
)
