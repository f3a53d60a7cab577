"""Reads the settings by their table, and refuses what makes no sense.

Precedence: command line > process environment > `.env` at the install root > default.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pgbackup.docker import Docker
from pgbackup.errors import ConfigurationError, UsageError
from pgbackup.settings import envfile, values
from pgbackup.settings.envfile import Given, Problem
from pgbackup.settings.table import GLOBAL_SETTINGS, TARGET_SETTINGS, Setting

_LONGEST_SHOWN = 80
_MOST_TOLD = 60  # what is no settings file at all must not fill the screen
_DEFAULT = "the default"
_DATABASES = next(row for row in GLOBAL_SETTINGS if row.key == "DATABASES")
_IN_URL = {"DATABASE": "database", "USER": "role"}


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
    drill_sql: Path | None
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
    docker: Docker
    backup_jobs: int
    restore_jobs: int
    wait_seconds: int
    lock_wait_seconds: int
    stall_seconds: int
    command_seconds: int
    load_stall_seconds: int
    recovery_megabytes: int
    drill_after_backup: bool
    drill_after_backup_megabytes: int
    drill_weekly: bool
    drill_cpus: int
    rto_minutes: int
    health_seconds: int
    health_ca: Path | None
    encryption_recipients: Path
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
    Raise ConfigurationError naming file, line and key of everything that is unknown, malformed, out of range or does
    not fit together, and what envfile.read() raises. Nothing but `.env` is touched.
    """
    written, problems = envfile.read(env_file)

    def given(key: str) -> Given | None:
        if key in overrides:
            return Given(overrides[key], "the command line")
        if key in environment:
            return Given(environment[key], "the environment")
        return written.get(key)

    names = _target_names(given, problems)
    # The environment may narrow DATABASES for one run: what .env says of the others stays known.
    owners = _owners((*names, *_target_names(written.get, [])), problems)
    problems += _unknown(written, owners, names_known=bool(names))
    found = {
        row.key.lower(): _value(row, row.key, Given(row.default_for(""), _DEFAULT), given, problems)
        for row in GLOBAL_SETTINGS
        if row is not _DATABASES
    }
    targets = tuple(target for name in names if (target := _target(name, given, problems)))
    problems += [*_limits(found["stall_seconds"], found["lock_wait_seconds"]), *_mismatches(targets)]
    if problems:
        raise _refusal(problems)
    docker = Docker(found.pop("docker"), found["command_seconds"])  # type: ignore[arg-type]
    return Settings(docker=docker, targets=targets, **found)  # type: ignore[arg-type]


def with_client(settings: Settings, client: str | None) -> Settings:
    """Settings with every target's client replaced by the one from the command line, or unchanged for None."""
    if client is None:
        return settings
    try:
        values.CLIENT.parse(client)
    except ValueError:
        raise ConfigurationError(f"the command line: --client {client!r} must be {values.CLIENT.allowed}") from None
    replaced = tuple(replace(target, client=client) for target in settings.targets)
    if problems := _mismatches(replaced):
        raise _refusal(problems)
    return replace(settings, targets=replaced)


def _refusal(problems: Sequence[Problem]) -> ConfigurationError:
    """All that is wrong in one message, in the order of the file: who mends one thing must not meet the next."""
    ordered = sorted(problems, key=lambda problem: problem.line or envfile.LARGEST_BYTES)
    hints = list(dict.fromkeys(problem.hint for problem in ordered[:_MOST_TOLD] if problem.hint))
    hint = "\n      ".join(hints) or None
    if len(ordered) == 1:
        return ConfigurationError(ordered[0].message, hint)
    told = [problem.message for problem in ordered[:_MOST_TOLD]]
    told += [f"and {len(ordered) - _MOST_TOLD} more"] * (len(ordered) > _MOST_TOLD)
    return ConfigurationError("\n  ".join([f"{len(ordered)} settings cannot be used:", *told]), hint)


def _value(setting: Setting, key: str, otherwise: Given, given: Lookup, problems: list[Problem]) -> object:
    """The setting's value, `otherwise` where it is not given. One that is not allowed is a problem, and None."""
    found = given(key) or otherwise
    try:
        if "\0" in found.value:
            raise ValueError(found.value)
        return setting.kind.parse(found.value)
    except ValueError:
        short = found.value if len(found.value) <= _LONGEST_SHOWN else found.value[:_LONGEST_SHOWN] + "…"
        shown = f"={short!r}" if setting.kind.shown else ""
        message = f"{found.place}: {key}{shown} must be {setting.kind.allowed}"
        problems.append(Problem(message, f"{key}: {setting.meaning}", found.line))
        return None


def _target_names(given: Lookup, problems: list[Problem]) -> tuple[str, ...]:
    default = Given(_DATABASES.default_for(""), _DEFAULT)
    names = _value(_DATABASES, _DATABASES.key, default, given, problems)
    return names if isinstance(names, tuple) else ()


def _target(name: str, given: Lookup, problems: list[Problem]) -> Target | None:
    """The target of that name, None where something is wrong with it."""
    before, found = len(problems), {}
    url = given(f"{name.upper()}_URL")
    for row in TARGET_SETTINGS:
        key = f"{name.upper()}_{row.key}"
        named = _named_by(url, row.key)
        otherwise = Given(named, url.place, url.line) if url and named else Given(row.default_for(name), _DEFAULT)
        value = found[row.key.lower()] = _value(row, key, otherwise, given, problems)
        if url and named and row.key in _IN_URL and value not in (None, named):
            message = f"{url.place}: {name.upper()}_URL names the {_IN_URL[row.key]} {named!r}, and {key} {value!r}"
            problems.append(Problem(message, f"{key}: name the same in both, or in the URL only", url.line))
    if len(problems) > before:
        return None
    directory = found.pop("dir") or found["container"]
    return Target(name=name, directory=directory, **found)  # type: ignore[arg-type]


def _named_by(url: Given | None, key: str) -> str:
    """What the URL supplies of another setting; "" for nothing, or where the URL is none."""
    try:
        if url is None or not values.OPTIONAL_URL.parse(url.value):
            return ""
    except ValueError:
        return ""
    return {
        "DATABASE": values.database_of(url.value),
        "USER": values.user_of(url.value),
        "CLIENT": "direct",
    }.get(key, "")


def _owners(names: Iterable[str], problems: list[Problem]) -> dict[str, str]:
    """Every key that may be set with the database that it is of, '' for a global one.

    One key that would be of two is a problem, as AUTH_HEALTH_URL is with `auth` and `auth_health`.
    """
    owners = {setting.key: "" for setting in GLOBAL_SETTINGS}
    for name in dict.fromkeys(names):
        for setting in TARGET_SETTINGS:
            key = f"{name.upper()}_{setting.key}"
            if key in owners:
                other = f"'{owners[key]}'" if owners[key] else "all databases"
                message = f"DATABASES: '{name}' cannot be a name: {key} would be a setting of {other} too"
                problems.append(Problem(message, f"choose another name for '{name}'"))
            owners.setdefault(key, name)
    return owners


def _unknown(written: Mapping[str, Given], known: Mapping[str, str], *, names_known: bool) -> list[Problem]:
    """The settings that there are not. names_known: DATABASES could be read; else any name may be one."""
    return [
        Problem(f"{found.place}: unknown setting {key!r}", _hint_for(key, known), found.line)
        for key, found in written.items()
        if key not in known and (names_known or not _databases_in(key))
    ]


def _databases_in(key: str) -> list[str]:
    """The names that a database would have of which `key` is a setting."""
    return [key.removesuffix(f"_{row.key}").lower() for row in TARGET_SETTINGS if key.endswith(f"_{row.key}")]


def _hint_for(key: str, known: Mapping[str, str]) -> str:
    names = _databases_in(key)
    # SHOP_HEALTH_URL is much like AUTH_HEALTH_URL, but not a slip of the pen.
    near = difflib.get_close_matches(key.upper(), sorted(known), n=1, cutoff=0.85 if names else 0.5)
    if near:
        return f"did you mean {near[0]}?"
    if names:
        return f"DATABASES has no '{min(names, key=len)}': add it there, or put # before its lines"
    return "see docs/configuration.md for all settings"


def _limits(stall: object, lock_wait: object) -> list[Problem]:
    if not isinstance(stall, int) or not isinstance(lock_wait, int) or stall > lock_wait:
        return []
    message = f"STALL_SECONDS={stall} must exceed LOCK_WAIT_SECONDS={lock_wait}"
    return [Problem(message, "a dump that waits for a lock delivers nothing and is not stalled")]


def _mismatches(targets: Sequence[Target]) -> list[Problem]:
    """What does not fit together: a client without its URL, two databases with the same files."""
    problems = []
    places: dict[tuple[str, str], str] = {}
    for target in targets:
        key = target.name.upper()
        if target.client == "direct" and not target.url:
            example = f"for example {key}_URL=postgresql://{target.user}@db.example:5432/{target.database}"
            problems.append(Problem(f"{key}_CLIENT=direct needs {key}_URL", example))
        other = places.setdefault((target.directory, target.database), target.name)
        if other != target.name:
            problems.append(_same_files(other, target, target.database))
    # A backup of `app_manual` bears the name of one of `app` that was made by hand.
    for target in targets:
        database = f"{target.database}_manual"
        if other := places.get((target.directory, database), ""):
            problems.append(_same_files(other, target, database))
    return problems


def _same_files(other: str, target: Target, database: str) -> Problem:
    return Problem(
        f"'{other}' and '{target.name}' would have the same files '{target.directory}/{database}_*'",
        f"set {target.name.upper()}_DIR to a directory of its own",
    )
