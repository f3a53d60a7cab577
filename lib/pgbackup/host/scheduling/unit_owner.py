"""Whose a unit is: units have the same names in every installation, and differ in what they start."""

from __future__ import annotations

import re
from pathlib import Path

from pgbackup.host.scheduling import installed

_NAMES = "backup-postgres|verify-backups|drill-backups|receive-wal|copy-backups|backup-status"
_SCRIPTS = rf"/scripts/(?:{_NAMES})\.sh(?![^\s'\";&|)])"
_SERVICES = (
    "postgres-backup.service",
    "postgres-verify.service",
    "postgres-drill.service",
    "postgres-wal@.service",
    "postgres-offsite.service",
    "postgres-offsite-wal.service",
    "postgres-status.service",
)


def started(unit: str) -> list[str]:
    """The commands of a unit's ExecStart= lines, with '%' as it is meant (systemd.syntax(7))."""
    whole = re.sub(r"\\\n", " ", unit)
    return [line.replace("%%", "%") for line in re.findall(r"^ExecStart\s*=\s*(\S.*)$", whole, re.MULTILINE)]


def installation_of(unit: str) -> Path | None:
    """The directory of the installation whose script a unit starts, None where it starts none."""
    for command in started(unit):
        # A path in quotes may hold blanks, one without cannot.
        for pattern in (rf"[\"'](/[^\"']*){_SCRIPTS}", rf"(?<![^\s=:@!+-])(/\S*){_SCRIPTS}"):
            if found := re.search(pattern, command):
                return Path(found[1]).resolve()
    return None


def is_of(name: str, root: Path, directory: Path) -> bool:
    """Whether the unit `name` in `directory` is that of the installation in `root`.

    A timer is its service's; the unit that reports failures is everybody's who has a service left.
    """
    own = name.replace(".timer", ".service")
    beside = (own,) if own in _SERVICES else _SERVICES
    texts = [text for service in beside if (text := installed.read(directory / service)) is not None]
    return all(installation_of(text) == root.resolve() for text in texts)


def told(unit: str) -> str:
    """What a unit starts, in words."""
    return "; ".join(f"it starts {command}" for command in started(unit)) or "it starts nothing"
