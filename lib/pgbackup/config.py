"""One table of settings: parsing, validation, `.env.example` and docs/configuration.md come from it.

Precedence: command line > process environment > `.env` at the install root > default. Only this file
reads `.env`, as data: nothing in it is executed or interpolated.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import shlex
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from dotenv.parser import Binding, parse_stream

from pgbackup.errors import ConfigurationError


class _Unfit(ValueError):
    """What a value has to be, as the end of the sentence `KEY=value: …`."""


def _text(value: str) -> str:
    if not value:
        raise _Unfit("must not be empty")
    if "\0" in value:
        raise _Unfit("must not contain a NUL byte")
    return value


def _optional(value: str) -> str:
    return _text(value) if value else ""


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            raise _Unfit(f"must be a whole number from {least} to {most}")
        return int(value)

    return parse


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.split())


def _program(value: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(value))
    except ValueError as error:
        raise _Unfit(f"cannot be split into a program and its arguments: {error}") from None
    if not words:
        raise _Unfit("must name a program")
    return words


def _target_names(value: str) -> tuple[str, ...]:
    names = _words(value)
    if not names or len(set(names)) != len(names):
        raise _Unfit("must name at least one database, and each only once")
    for name in names:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name):
            raise _Unfit("names are lower-case letters, digits and '_', beginning with a letter")
    return names


def _absolute_path(value: str) -> Path:
    if not value.startswith("/") or "\0" in value:
        raise _Unfit("must be an absolute path")
    if ".." in Path(value).parts:
        raise _Unfit("must not contain '..'")
    return Path(value)


def _optional_path(value: str) -> Path | None:
    return _absolute_path(value) if value else None


def _directory_name(value: str) -> str:
    if not value or value.startswith(".") or "/" in value or "\0" in value:
        raise _Unfit("must be the name of a directory inside BACKUP_DIR, without '/' and not hidden")
    return value


def _client(value: str) -> str:
    if value not in ("auto", "sidecar", "exec", "direct"):
        raise _Unfit("must be one of auto, sidecar, exec, direct")
    return value


def _url(value: str) -> str:
    if not value:
        return ""
    try:
        parts = urlsplit(value)
        has_password = parts.password is not None or "password" in parse_qs(parts.query)
        parts.port  # noqa: B018  reading it is what validates it
    except ValueError as error:
        raise _Unfit(f"is not a URL: {error}") from None
    if has_password:
        raise _Unfit("must not carry a password: process lists show it; use _PASSFILE instead")
    if parts.scheme not in ("postgresql", "postgres"):
        raise _Unfit("must begin with postgresql://")
    return value


def _health_url(value: str) -> str:
    if value and urlsplit(value).scheme not in ("http", "https"):
        raise _Unfit("must begin with https:// or http://")
    return value


@dataclass(frozen=True)
class Setting:
    """One row: the key (for a per-database one the part after `AUTH_`), its default as text, its meaning.

    A default may be a text, or per database a function of the database's name in DATABASES.
    """

    key: str
    parse: Callable[[str], object]
    default: str | Callable[[str], str]
    meaning: str


GLOBAL_SETTINGS = (
    Setting("BACKUP_DIR", _absolute_path, "/opt/backups", "where all backups and backup.log lie"),
    Setting(
        "BACKUP_MOUNT",
        _optional_path,
        "",
        "a mount point that must be mounted before anything is written, e.g. /opt/backups on a disk of its own",
    ),
    Setting(
        "RETENTION_DAYS",
        _whole_number(1, 36500),
        "7",
        "days after which a backup expires; whole number from 1 to 36500",
    ),
    Setting(
        "MIN_BACKUPS",
        _whole_number(1, 10000),
        "7",
        "newest good backups of each database that never expire, whatever their age",
    ),
    Setting("DATABASES", _target_names, "auth payment", "the databases, by the names the commands use"),
    Setting("DOCKER", _program, "docker", "the Docker client, with arguments if need be"),
    Setting("BACKUP_JOBS", _whole_number(1, 64), "2", "databases backed up at the same time"),
    Setting(
        "WAIT_SECONDS",
        _whole_number(0, 3600),
        "60",
        "how long to wait for a server that is starting, paused or out of connections",
    ),
    Setting(
        "LOCK_WAIT_SECONDS",
        _whole_number(1, 86400),
        "300",
        "how long pg_dump waits for a table that somebody holds locked",
    ),
    Setting(
        "STALL_SECONDS",
        _whole_number(1, 86400),
        "900",
        "a dump that delivers nothing for so long has failed; must exceed LOCK_WAIT_SECONDS",
    ),
    Setting("COMMAND_SECONDS", _whole_number(1, 3600), "60", "how long one answer of Docker or of a query may take"),
)

_GUIDE = {
    "auth": {
        "CONTAINER": "postgres-a",
        "SERVICES": "service-a-1 service-a-2",
        "HEALTH_URL": "https://localhost/auth/health",
    },
    "payment": {
        "CONTAINER": "postgres-b",
        "SERVICES": "service-b-1 service-b-2",
        "HEALTH_URL": "https://localhost/payments/health/check",
    },
}


def _from_guide(key: str, otherwise: str) -> Callable[[str], str]:
    return lambda name: _GUIDE.get(name, {}).get(key, otherwise.format(name=name))


TARGET_SETTINGS = (
    Setting("CONTAINER", _text, _from_guide("CONTAINER", "postgres-{name}"), "the database server's container"),
    Setting("DATABASE", _text, _from_guide("DATABASE", "{name}_db"), "the database's name"),
    Setting("USER", _text, _from_guide("USER", "{name}_user"), "the role that dumps and restores"),
    Setting(
        "DIR",
        _directory_name,
        "",
        "directory under BACKUP_DIR; empty means the container's name",
    ),
    Setting("CLIENT", _client, "auto", "where pg_dump runs: auto, sidecar, exec or direct"),
    Setting("URL", _url, "", "for the direct client: postgresql://user@host:port/database, without a password"),
    Setting("PASSFILE", _optional_path, "", "a .pgpass file (0600) where the server asks for a password"),
    Setting("SERVICES", _words, _from_guide("SERVICES", ""), "containers that use the database, in stopping order"),
    Setting("HEALTH_URL", _health_url, _from_guide("HEALTH_URL", ""), "tells that the services are well again"),
)


@dataclass(frozen=True)
class Target:
    """One database to look after: the per-database settings, parsed."""

    name: str
    container: str
    database: str
    user: str
    directory: str
    client: str
    url: str
    passfile: Path | None
    services: tuple[str, ...]
    health_url: str


@dataclass(frozen=True)
class Settings:
    """All settings, parsed. Durations are seconds, ages are days."""

    backup_dir: Path
    backup_mount: Path | None
    retention_days: int
    min_backups: int
    docker: tuple[str, ...]
    backup_jobs: int
    wait_seconds: int
    lock_wait_seconds: int
    stall_seconds: int
    command_seconds: int
    targets: tuple[Target, ...]

    def chosen(self, names: tuple[str, ...]) -> tuple[Target, ...]:
        """The targets named on the command line, or all. Raise ConfigurationError for an unknown name."""
        known = {target.name: target for target in self.targets}
        for name in names:
            if name not in known:
                raise ConfigurationError(
                    f"there is no database '{name}' in DATABASES", f"choose from: {', '.join(known)}"
                )
        return tuple(known[name] for name in dict.fromkeys(names)) or self.targets


@dataclass(frozen=True)
class _Given:
    """A value as written, and where: 'the environment', or '.env' with its line."""

    value: str
    place: str


def load(environment: Mapping[str, str], env_file: Path, overrides: Mapping[str, str]) -> Settings:
    """Given the process environment, the path of `.env` (may be absent) and command-line values, return Settings.

    overrides: setting key to text, e.g. {"RETENTION_DAYS": "14"}.
    Raise ConfigurationError naming file, line and key for anything unknown, malformed or out of range.
    """
    written = _read_env_file(env_file)

    def given(key: str) -> _Given | None:
        if key in overrides:
            return _Given(overrides[key], "the command line")
        if key in environment:
            return _Given(environment[key], "the environment")
        return written.get(key)

    values = {setting.key: _value(setting, setting.key, "", given) for setting in GLOBAL_SETTINGS}
    names = values.pop("DATABASES")
    assert isinstance(names, tuple)  # noqa: S101  the table says so
    _refuse_unknown(written, set(names))
    settings = Settings(
        targets=tuple(_target(name, given) for name in names),
        **{key.lower(): value for key, value in values.items()},  # type: ignore[arg-type]
    )
    _check_together(settings)
    return settings


def _value(setting: Setting, key: str, name: str, given: Callable[[str], _Given | None]) -> object:
    found = given(key)
    if found is None:
        default = setting.default(name) if callable(setting.default) else setting.default
        found = _Given(default, "the default")
    try:
        return setting.parse(found.value)
    except _Unfit as unfit:
        raise ConfigurationError(f"{found.place}: {key}={found.value!r} {unfit}", f"{key}: {setting.meaning}") from None


def _target(name: str, given: Callable[[str], _Given | None]) -> Target:
    prefix = name.upper() + "_"
    values = {}
    for setting in TARGET_SETTINGS:
        key = prefix + setting.key
        if setting.key == "DIR":
            found = given(key)
            if found is None or not found.value:
                continue
        values[setting.key] = _value(setting, key, name, given)
    directory = values.pop("DIR", None) or _directory_name(str(values["CONTAINER"]).replace("/", "_"))
    return Target(
        name=name,
        directory=str(directory),
        **{key.lower(): value for key, value in values.items()},  # type: ignore[arg-type]
    )


def _check_together(settings: Settings) -> None:
    if settings.stall_seconds <= settings.lock_wait_seconds:
        raise ConfigurationError(
            f"STALL_SECONDS={settings.stall_seconds} must exceed LOCK_WAIT_SECONDS={settings.lock_wait_seconds}",
            "a dump that waits for a lock delivers nothing and is not stalled",
        )
    places: dict[tuple[str, str], str] = {}
    for target in settings.targets:
        key = target.name.upper()
        if target.client == "direct" and not target.url:
            raise ConfigurationError(
                f"{key}_CLIENT=direct needs {key}_URL",
                f"for example {key}_URL=postgresql://{target.user}@db.example:5432/{target.database}",
            )
        other = places.setdefault((target.directory, target.database), target.name)
        if other != target.name:
            raise ConfigurationError(
                f"'{other}' and '{target.name}' would write the same files '{target.directory}/{target.database}_*'",
                f"set {key}_DIR to a directory of its own",
            )


def _known_keys(names: set[str]) -> set[str]:
    return {setting.key for setting in GLOBAL_SETTINGS} | {
        f"{name.upper()}_{setting.key}" for name in names for setting in TARGET_SETTINGS
    }


def _refuse_unknown(written: Mapping[str, _Given], names: set[str]) -> None:
    known = _known_keys(names)
    for key, found in written.items():
        if key not in known:
            near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
            raise ConfigurationError(
                f"{found.place}: unknown setting '{key}'",
                f"did you mean {near[0]}?" if near else "see docs/configuration.md for all settings",
            )


def _read_env_file(path: Path) -> dict[str, _Given]:
    """Return key to value as written, or raise ConfigurationError. An absent file is an empty one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(
            f"cannot read '{path}': {error.strerror}", f"run it as a user who may read it: ls -l '{path}'"
        ) from None
    with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor, not a path
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"'{path}' is not a regular file")
        if status.st_mode & stat.S_IWOTH:
            raise ConfigurationError(f"'{path}' may be changed by anybody", f"chmod o-w '{path}'")
        raw = file.read(1 << 20)
    return _parse_env(raw, path)


def _parse_env(raw: bytes, path: Path) -> dict[str, _Given]:
    for bad, what, hint in (
        (b"\0", "contains a NUL byte", f"write it anew from {path}.example"),
        (b"\xef\xbb\xbf", "begins with a byte order mark", f"sed -i '1s/^\\xEF\\xBB\\xBF//' '{path}'"),
        (b"\r", "has Windows line ends", f"sed -i 's/\\r$//' '{path}'"),
    ):
        if bad in raw:
            line = raw[: raw.index(bad)].count(b"\n") + 1
            raise ConfigurationError(f"{path}:{line}: {what}", hint)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{path}:{line}: is not UTF-8 text") from None
    written: dict[str, _Given] = {}
    for binding in parse_stream(io.StringIO(text)):
        place = f"{path}:{_line(binding)}"
        if binding.error or (binding.key is not None and binding.value is None):
            raise ConfigurationError(f"{place}: cannot be read as KEY=value", "quote values that have blanks or #")
        if binding.key is None or binding.value is None:
            continue
        if binding.key in written:
            raise ConfigurationError(
                f"{place}: '{binding.key}' is set twice", f"first set at {written[binding.key].place}"
            )
        written[binding.key] = _Given(binding.value, place)
    return written


def _line(binding: Binding) -> int:
    """The line of the key itself: the parser counts the blank lines before it as part of the binding."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def with_client(settings: Settings, client: str | None) -> Settings:
    """Settings with every target's client replaced by the one from the command line, or unchanged for None."""
    if client is None:
        return settings
    try:
        kind = _client(client)
    except _Unfit as unfit:
        raise ConfigurationError(f"the command line: --client {client!r} {unfit}") from None
    replaced = replace(settings, targets=tuple(replace(target, client=kind) for target in settings.targets))
    _check_together(replaced)
    return replaced
