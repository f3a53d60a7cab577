"""Talks to systemd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pgbackup import proc
from pgbackup.errors import Unavailable

_SECONDS = 60


def running() -> bool:
    """Whether systemd is this host's init (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def call(*words: str) -> None:
    """Run `systemctl WORD …`. Raise Unavailable with what it said when it fails."""
    argv = ["systemctl", "--no-ask-password", "--quiet", *words]
    finished = proc.run(argv, seconds=_SECONDS)
    if finished.status != 0:
        raise Unavailable(f"'systemctl {' '.join(words)}' failed: {finished.stderr}", "see: journalctl -xe -n 30")


def shown(units: Sequence[str], properties: Sequence[str], seconds: float = _SECONDS) -> list[dict[str, str]]:
    """Return what systemd says of each unit, by property, in their order. Raise Unavailable."""
    argv = ["systemctl", "--no-ask-password", "show", f"--property={','.join(properties)}", "--", *units]
    finished = proc.run(argv, seconds=seconds)
    if finished.status != 0:
        raise Unavailable(f"systemd does not tell of its timers: {finished.stderr}", "systemctl list-timers")
    blocks = finished.stdout.decode("utf-8", "replace").strip("\n").split("\n\n")
    return [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]


def is_enabled(unit: str) -> bool:
    """Whether the unit starts at boot; False where there is no systemd or no such unit."""
    if not running():
        return False
    argv = ["systemctl", "is-enabled", "--quiet", unit]
    return proc.run(argv, seconds=_SECONDS).status == 0
