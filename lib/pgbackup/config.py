"""Reads the settings by their table, and refuses what makes no sense.

Precedence: command line > process environment > `.env` at the install root > default.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pgbackup import envfile, values
from pgbackup.envfile import Given
from pgbackup.errors import ConfigurationError, UsageError
from pgbackup.settings_table import GLOBAL_SETTINGS, TARGET_SETTINGS, Setting

_LONGEST_SHOWN = 80


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
    base_every_days: int
    base_full_every_days: int
    wal_keep_megabytes: int
    wal_sync: bool


@dataclass(frozen=True)
class Settings:
    """All settings, parsed. Durations are seconds, ages are days."""

    backup_dir: Path
    backup_mount: Path | None
    retention_days: int
    min_backups: int
    docker: tuple[str, ...]
    backup_jobs: int
    restore_jobs: int
    wait_seconds: int
    lock_wait_seconds: int
    stall_seconds: int
    command_seconds: int
    load_stall_seconds: int
    recovery_megabytes: int
    health_seconds: int
    health_ca: Path | None
    targets: tuple[Target, ...]

    def chosen(self, names: tuple[str, ...]) -> tuple[Target, ...]:
        """The targets named on the command line, each once, or all. Raise UsageError for an unknown name."""
        known = {target.name: target for target in self.targets}
        for name in names:
            if name not in known:
                raise UsageError(f"there is no database {name!r} in DATABASES", f"choose from: {', '.join(known)}")
        return tuple(known[name] for name in dict.fromkeys(names)) or self.targets


Lookup = Callable[[str], Given | None]


def load(environment: Mapping[str, str], env_file: Path, overrides: Mapping[str, str]) -> Settings:
    """Given the process environment, the path of `.env` (may be absent) and command-line values, return Settings.

    overrides: setting key to text, e.g. {"RETENTION_DAYS": "14"}. Of the environment only known keys are read.
    Raise ConfigurationError naming file, line and key for anything unknown, malformed or out of range, and
    what envfile.read() raises. Nothing but `.env` is touched.
    """
    written = envfile.read(env_file)

    def given(key: str) -> Given | None:
        if key in overrides:
            return Given(overrides[key], "the command line")
        if key in environment:
            return Given(environment[key], "the environment")
        return written.get(key)

    names = _target_names(given)
    # The environment may narrow DATABASES for one run: what .env says of the others stays known.
    _refuse_unknown(written, _owners((*names, *_target_names(written.get))))
    found = {row.key.lower(): _value(row, row.key, "", given) for row in GLOBAL_SETTINGS if row.key != "DATABASES"}
    settings = Settings(targets=tuple(_target(name, given) for name in names), **found)  # type: ignore[arg-type]
    _check_together(settings)
    return settings


def with_client(settings: Settings, client: str | None) -> Settings:
    """Settings with every target's client replaced by the one from the command line, or unchanged for None."""
    if client is None:
        return settings
    try:
        values.CLIENT.parse(client)
    except ValueError:
        raise ConfigurationError(f"the command line: --client {client!r} must be {values.CLIENT.allowed}") from None
    replaced = replace(settings, targets=tuple(replace(target, client=client) for target in settings.targets))
    _check_together(replaced)
    return replaced


def _value(setting: Setting, key: str, name: str, given: Lookup) -> object:
    found = given(key) or Given(setting.default_for(name), "the default")
    try:
        if "\0" in found.value:
            raise ValueError(found.value)
        return setting.kind.parse(found.value)
    except ValueError:
        short = found.value if len(found.value) <= _LONGEST_SHOWN else found.value[:_LONGEST_SHOWN] + "…"
        shown = f"={short!r}" if setting.kind.shown else ""
        raise ConfigurationError(
            f"{found.place}: {key}{shown} must be {setting.kind.allowed}", f"{key}: {setting.meaning}"
        ) from None


def _target_names(given: Lookup) -> tuple[str, ...]:
    (row,) = (setting for setting in GLOBAL_SETTINGS if setting.key == "DATABASES")
    names = _value(row, row.key, "", given)
    assert isinstance(names, tuple)  # noqa: S101  the table says so
    return names


def _target(name: str, given: Lookup) -> Target:
    found = {row.key.lower(): _value(row, f"{name.upper()}_{row.key}", name, given) for row in TARGET_SETTINGS}
    directory = found.pop("dir") or found["container"]
    return Target(name=name, directory=directory, **found)  # type: ignore[arg-type]


def _owners(names: Iterable[str]) -> dict[str, str]:
    """Every key that may be set with the database that it is of, '' for a global one.

    Raise ConfigurationError where one key would be of two, as AUTH_HEALTH_URL is with `auth` and `auth_health`.
    """
    owners = {setting.key: "" for setting in GLOBAL_SETTINGS}
    for name in dict.fromkeys(names):
        for setting in TARGET_SETTINGS:
            key = f"{name.upper()}_{setting.key}"
            if key in owners:
                other = f"'{owners[key]}'" if owners[key] else "all databases"
                raise ConfigurationError(
                    f"DATABASES: '{name}' cannot be one: {key} would be a setting of {other} too",
                    f"choose another name for '{name}'",
                )
            owners[key] = name
    return owners


def _refuse_unknown(written: Mapping[str, Given], known: Mapping[str, str]) -> None:
    for key, found in written.items():
        if key not in known:
            raise ConfigurationError(f"{found.place}: unknown setting {key!r}", _hint_for(key, known))


def _hint_for(key: str, known: Mapping[str, str]) -> str:
    names = [key.removesuffix(f"_{row.key}") for row in TARGET_SETTINGS if key.endswith(f"_{row.key}")]
    # SHOP_HEALTH_URL is much like AUTH_HEALTH_URL, but not a slip of the pen.
    near = difflib.get_close_matches(key.upper(), sorted(known), n=1, cutoff=0.85 if names else 0.5)
    if near:
        return f"did you mean {near[0]}?"
    if names:
        return f"DATABASES has no '{min(names, key=len).lower()}': add it there, or put # before this line"
    return "see docs/configuration.md for all settings"


def _check_together(settings: Settings) -> None:
    if settings.stall_seconds <= settings.lock_wait_seconds:
        raise ConfigurationError(
            f"STALL_SECONDS={settings.stall_seconds} must exceed LOCK_WAIT_SECONDS={settings.lock_wait_seconds}",
            "a dump that waits for a lock delivers nothing and is not stalled",
        )
    places: dict[tuple[str, str], str] = {}
    for target in settings.targets:
        _check_url(target)
        other = places.setdefault((target.directory, target.database), target.name)
        if other != target.name:
            raise _same_files(other, target, target.database)
    # A backup of `app_manual` bears the name of one of `app` that was made by hand.
    for target in settings.targets:
        database = f"{target.database}_manual"
        if other := places.get((target.directory, database), ""):
            raise _same_files(other, target, database)


def _same_files(other: str, target: Target, database: str) -> ConfigurationError:
    return ConfigurationError(
        f"'{other}' and '{target.name}' would have the same files '{target.directory}/{database}_*'",
        f"set {target.name.upper()}_DIR to a directory of its own",
    )


def _check_url(target: Target) -> None:
    key = target.name.upper()
    if target.client == "direct" and not target.url:
        raise ConfigurationError(
            f"{key}_CLIENT=direct needs {key}_URL",
            f"for example {key}_URL=postgresql://{target.user}@db.example:5432/{target.database}",
        )
    named = values.database_of(target.url)
    if named and named != target.database:
        raise ConfigurationError(
            f"{key}_URL names the database {named!r}, and {key}_DATABASE {target.database!r}", "name the same in both"
        )
