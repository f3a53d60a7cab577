"""The systemd units: from the readable ones in systemd/ to those of this host, and what an operator wrote in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pgbackup.errors import ConfigurationError
from pgbackup.host import channels
from pgbackup.host.channels import Alerts
from pgbackup.host.scheduling import installed, systemctl, unit_owner
from pgbackup.host.scheduling.installed import Change
from pgbackup.settings.config import Settings

DIRECTORY = Path("/etc/systemd/system")
SERVICE, TIMER = "postgres-backup.service", "postgres-backup.timer"
DRILL_TIMER = "postgres-drill.timer"
TIMERS = (TIMER, "postgres-verify.timer", DRILL_TIMER)
OFFSITE_TIMER = "postgres-offsite.timer"
OFFSITE = ("postgres-offsite.service", OFFSITE_TIMER)
OFFSITE_FOLLOWER = "postgres-offsite-wal.service"
STATUS_TIMER = "postgres-status.timer"
STATUS = ("postgres-status.service", STATUS_TIMER)
WAL_SERVICE = "postgres-wal@.service"
NAMES = (
    SERVICE,
    TIMER,
    "postgres-verify.service",
    "postgres-verify.timer",
    "postgres-drill.service",
    DRILL_TIMER,
    "postgres-backup-failure@.service",
)

# What the files in systemd/ say, readable as they are.
_ROOT, _BACKUP_DIR, _STATE = "/opt/payment-system/deployment", "/opt/backups", "/var/lib/pgbackup"
_COLLECTOR = "-/var/lib/prometheus/node-exporter"
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))


@dataclass(frozen=True)
class Host:
    """What the units have to know of this host.

    retention_days: for a unit that has no such line yet. over_network: a database is not reached through Docker's
    socket. used: every path that a run reads or writes. pings: runs are heard of elsewhere. state: ALERTS_STATE.
    shown: the directories of PAGE_FILE and METRICS_FILE.
    """

    root: Path
    backup_dir: Path
    user: str
    retention_days: int
    over_network: bool
    used: tuple[Path, ...]
    pings: bool = False
    state: Path = Path(_STATE)
    shown: tuple[Path, ...] = ()

    @property
    def needs_network(self) -> bool:
        """Whether a run has to get out of this host."""
        return self.over_network or self.pings


def host_of(settings: Settings, root: Path, user: str, alerts: Alerts | None = None) -> Host:
    """Return what the units have to know. alerts: the channels and pings, None for those that are written down.

    Raise ConfigurationError for a path that no unit can hold, and as channels.read() does.
    """
    files = [file for target in settings.targets for file in (target.passfile, target.drill_sql) if file]
    shown = tuple(file.parent for file in (settings.page_file, settings.metrics_file) if file)
    used = (root, settings.backup_dir, settings.backup_dir.resolve(), settings.alerts_state, *files, *shown)
    for path in used:
        check_path(path)
    return Host(
        root=root,
        backup_dir=settings.backup_dir,
        user=user,
        retention_days=settings.retention_days,
        over_network=any(target.client == "direct" for target in settings.targets),
        used=used,
        pings=bool((alerts or channels.read(settings.alerts_config, ())).pings),
        state=settings.alerts_state,
        shown=shown,
    )


def change_of(name: str, host: Host, calendar: Sequence[str] | None, user: str | None) -> Change:
    """What is to become of a unit: see merged(). Raise ConfigurationError where it is masked."""
    before = installed.read(DIRECTORY / name)
    template = (host.root / "systemd" / name).read_text(encoding="utf-8")
    if name == WAL_SERVICE:  # the one that pings nobody
        host = replace(host, pings=False)
    return Change(DIRECTORY / name, before, merged(rendered(template, host), before, calendar, user))


def kept_warnings(changes: Sequence[Change], root: Path) -> list[str]:
    """What to tell of units that somebody has changed by hand, and that were kept."""
    return [
        f"'{change.path}' was changed by hand and is kept; to see what is new:"
        f" diff '{change.path}' '{root / 'systemd' / change.path.name}'; to get it: move yours away, run this"
        f" again, and put your changes into: sudo systemctl edit {change.path.name}"
        for change in changes
        if change.before is not None and installed.edited(change.before, is_free)
    ]


def removals(names: Sequence[str], root: Path) -> tuple[list[Change], list[str]]:
    """How this installation's units are taken away, and what to tell of it.

    One with edits by hand is kept under another name; one that starts something else than `root` stays.
    """
    changes, warnings = [], []
    for path in (DIRECTORY / name for name in names):
        if (text := installed.read(path)) is None:
            continue
        if not unit_owner.is_of(path.name, root, DIRECTORY):
            if path.suffix == ".service":
                warnings.append(f"'{path}' stays: {unit_owner.told(text)}")
            continue
        changes.append(Change(path, text, None))
        if installed.edited(text, is_free):
            aside = path.with_name(f"{path.name}.removed")
            changes.append(Change(aside, installed.read(aside), text))
            warnings.append(f"'{path}' was changed by hand; kept as '{aside}'")
        drop_ins = path.with_name(f"{path.name}.d")
        if drop_ins.exists():
            warnings.append(f"'{drop_ins}' is not the suite's and stays")
    return changes, warnings


def taken_over(changes: Sequence[Change], root: Path) -> list[str]:
    """What to tell of units that another installation had, and that start this one from now on."""
    return [
        f"'{change.path}' was another installation's until now: {unit_owner.told(change.before)}"
        for change in changes
        if change.before is not None
        and unit_owner.installation_of(change.before) not in (None, root)
        and unit_owner.installation_of(change.after or "") == root
    ]


def apply(changes: Sequence[Change]) -> None:
    """Write and remove units, what is kept first, and let systemd know, where it runs. Raise IoFailed, Unavailable."""
    for change in sorted(changes, key=lambda change: change.after is None):
        if change.before != change.after:
            installed.apply(change)
    if changes and systemctl.running():
        systemctl.call("daemon-reload")


def check_path(path: Path) -> None:
    """Raise ConfigurationError for a path that a unit, a crontab or logrotate would read as something else."""
    if found := re.search(r"""[\x00-\x1f\x7f"'\\$`*?\[\]{}]""", str(path)):
        raise ConfigurationError(
            f"'{path}' cannot be written into a schedule: it contains {found[0]!r}", "choose a path without it"
        )


def rendered(template: str, host: Host) -> str:
    """Given a file of systemd/, return it for this host. Comments stay as they are."""
    lines = []
    for line in template.split("\n"):
        key, equals, value = line.partition("=")
        is_setting = equals and not line.startswith("#")
        lines.append(f"{key}={_value(key, value, host)}" if is_setting else line)
    return "\n".join(lines)


def _value(key: str, value: str, host: Host) -> str:
    if key == "User":
        return host.user
    if key == "Environment" and value.startswith('"RETENTION_DAYS='):
        return f'"RETENTION_DAYS={host.retention_days}"'
    if key == "ProtectHome" and any(home in (path, *path.parents) for path in host.used for home in _HOMES):
        return "no"
    if key == "PrivateNetwork" and host.needs_network:
        return "no"
    if key == "RestrictAddressFamilies" and host.needs_network:
        return "AF_UNIX AF_INET AF_INET6"
    if key == "MemoryDenyWriteExecute" and host.over_network:  # a drill starts PostgreSQL here, which compiles queries
        return "no"
    # With a '-': one that is not there, of a disk that is gone, does not keep the unit from telling it.
    for path, ours in ((_BACKUP_DIR, host.backup_dir), (_STATE, host.state)):
        if value in (path, f"-{path}"):
            return _word(f"-{ours}" if value.startswith("-") else str(ours))
    if value == _COLLECTOR:  # an empty line would take back those before it
        return " ".join(_word(f"-{path}") for path in host.shown or (host.backup_dir,))
    if value.startswith(_ROOT + "/"):
        program, blank, arguments = value.removeprefix(_ROOT + "/").partition(" ")
        return _word(str(host.root / program)) + blank + arguments
    return value


def _word(path: str) -> str:
    """A path as one word of a unit file: '%' is doubled, and quotes hold blanks (systemd.syntax(7))."""
    text = path.replace("%", "%%")
    return f'"{text}"' if re.search(r"[\s;#]", text) else text


def merged(fresh: str, existing: str | None, calendar: Sequence[str] | None, user: str | None) -> str:
    """Given a unit of this version and the one that is installed, return the one to install.

    Lines with Environment= and OnCalendar= are the operator's and kept. An existing unit with other edits is kept
    whole. calendar, user: what was asked for now; goes into either.
    """
    by_hand = existing is not None and installed.edited(existing, is_free)
    result = existing if existing is not None and by_hand else fresh
    if existing is not None and not by_hand:
        for key in ("Environment", "OnCalendar"):
            result = _with_lines(result, key, _lines_of(existing, key))
    if calendar is not None:
        result = _with_lines(result, "OnCalendar", [f"OnCalendar={value}" for value in calendar])
    if user is not None and _lines_of(result, "User"):
        result = _with_lines(result, "User", [f"User={user}"])
    return result if by_hand else installed.sealed(result, is_free)


def is_free(line: str) -> bool:
    """Whether the operator may edit this line, or add one like it, and still get new versions of the unit."""
    return re.match(r"(Environment|OnCalendar)\s*=", line) is not None


def user_of(unit: str | None) -> str | None:
    """The account that a unit runs as, None where it does not say."""
    found = re.search(r"^User=(\S+)\s*$", unit or "", re.MULTILINE)
    return found[1] if found else None


def environment_of(unit: str | None) -> dict[str, str]:
    """The variables that a unit's Environment= lines set (systemd.exec(5))."""
    words = [word for line in _lines_of(unit or "", "Environment") for word in _split(line.partition("=")[2])]
    return {key: value for key, equals, value in (word.partition("=") for word in words) if equals}


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _lines_of(text: str, key: str) -> list[str]:
    return re.findall(rf"^{key}\s*=.*$", text, re.MULTILINE)


def _with_lines(text: str, key: str, wanted: Sequence[str]) -> str:
    """Replace all lines of that key by the wanted ones, where the first one was, or at the top of the section."""
    lines = text.split("\n")
    old = [number for number, line in enumerate(lines) if re.match(rf"{key}\s*=", line)]
    tops = [number + 1 for number, line in enumerate(lines) if line in ("[Service]", "[Timer]")]
    at = (old or tops or [len(lines)])[0]
    kept = [line for number, line in enumerate(lines) if number not in old]
    return "\n".join([*kept[:at], *wanted, *kept[at:]])
