"""Reads the settings by their table, and refuses what makes no sense.

Precedence: command line > process environment > `.env` at the install root > default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pgbackup.docker import Docker
from pgbackup.errors import ConfigurationError, UsageError
from pgbackup.settings import envfile, known_keys, values
from pgbackup.settings.envfile import Given, Problem
from pgbackup.settings.named_table import PLACE_SETTINGS, TARGET_SETTINGS
from pgbackup.settings.setting import Setting
from pgbackup.settings.table import GLOBAL_SETTINGS

_LONGEST_SHOWN = 80
_MOST_TOLD = 60  # what is no settings file at all must not fill the screen
_DEFAULT = "the default"
_DATABASES = next(row for row in GLOBAL_SETTINGS if row.key == "DATABASES")
_OFFSITE = next(row for row in GLOBAL_SETTINGS if row.key == "OFFSITE")
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
class Offsite:
    """One place elsewhere for copies. remote: `name:path` of rclone's configuration; bandwidth: as for --bwlimit.

    lock_days: how long the place must keep each object, 0 for no lock. required: whether its failure fails a run.
    """

    name: str
    remote: str
    bandwidth: str
    lock_days: int
    required: bool
    encrypted: bool


@dataclass(frozen=True)
class Settings:
    """All settings, parsed. Durations are seconds, ages are days, unless the name has another unit.

    ignore: a pattern for container/database each, and the reason.
    """

    backup_dir: Path
    backup_mount: Path | None
    retention_days: int
    min_backups: int
    reprove_days: int
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
    backup_max_age_hours: int
    verify_max_age_days: int
    drill_max_age_days: int
    offsite_max_age_hours: int
    wal_max_age_minutes: int
    key_max_age_days: int
    alarm_max_age_days: int
    ignore: tuple[tuple[str, str], ...]
    metrics_file: Path | None
    page_file: Path | None
    health_seconds: int
    health_ca: Path | None
    encryption_recipients: Path
    offsite_host: str
    offsite_stall_seconds: int
    offsite_wal_seconds: int
    rclone_config: Path
    alerts_config: Path
    alerts_state: Path
    alert_command: tuple[str, ...]
    alert_prefix: str
    targets: tuple[Target, ...]
    offsite: tuple[Offsite, ...]

    def chosen(self, names: tuple[str, ...]) -> tuple[Target, ...]:
        """The targets named on the command line, each once, or all. Raise UsageError for an unknown name."""
        known = {target.name: target for target in self.targets}
        for name in names:
            if name not in known:
                raise UsageError(f"there is no database {name!r} in DATABASES", f"choose from: {', '.join(known)}")
        return tuple(known[name] for name in dict.fromkeys(names)) or self.targets

    def place(self, name: str) -> Offsite:
        """The place elsewhere of that name. Raise UsageError for one that is not in OFFSITE."""
        for one in self.offsite:
            if one.name == name:
                return one
        choose = f"choose from: {', '.join(one.name for one in self.offsite)}"
        raise UsageError(
            f"there is no place {name!r} in OFFSITE", choose if self.offsite else "name one: OFFSITE in .env"
        )


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

    names, places = _names(_DATABASES, given, problems), _names(_OFFSITE, given, problems)
    # The environment may narrow DATABASES or OFFSITE for one run: what .env says of the others stays known.
    problems += known_keys.problems(
        written,
        databases=None if names is None else (*names, *(_names(_DATABASES, written.get, []) or ())),
        places=None if places is None else (*places, *(_names(_OFFSITE, written.get, []) or ())),
    )
    found = {
        row.key.lower(): _value(row, row.key, Given(row.default_for(""), _DEFAULT), given, problems)
        for row in GLOBAL_SETTINGS
        if row not in (_DATABASES, _OFFSITE)
    }
    targets = tuple(target for name in names or () if (target := _target(name, given, problems)))
    offsite = tuple(place for name in places or () if (place := _place(name, given, problems)))
    problems += [*_limits(found["stall_seconds"], found["lock_wait_seconds"]), *_mismatches(targets)]
    if problems:
        raise _refusal(problems)
    docker = Docker(found.pop("docker"), found["command_seconds"])  # type: ignore[arg-type]
    return Settings(docker=docker, targets=targets, offsite=offsite, **found)  # type: ignore[arg-type]


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


def _names(setting: Setting, given: Lookup, problems: list[Problem]) -> tuple[str, ...] | None:
    """The names that DATABASES or OFFSITE has; None where they cannot be read, and that is a problem."""
    names = _value(setting, setting.key, Given(setting.default_for(""), _DEFAULT), given, problems)
    return names if isinstance(names, tuple) else None


def _place(name: str, given: Lookup, problems: list[Problem]) -> Offsite | None:
    """The place of that name, None where something is wrong with it."""
    before = len(problems)
    found = {}
    for row in PLACE_SETTINGS:
        key = f"{name.upper()}_{row.key}"
        found[row.key.lower()] = _value(row, key, Given(row.default_for(name), _DEFAULT), given, problems)
    return None if len(problems) > before else Offsite(name=name, **found)  # type: ignore[arg-type]


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
