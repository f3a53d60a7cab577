"""To what a recovery is to go, as it was asked for: a time, a position, a transaction, a name, or the latest commit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone

from pgbackup.errors import UsageError
from pgbackup.formats import wal

KINDS = ("time", "lsn", "xid", "name", "latest")


@dataclass(frozen=True)
class Aim:
    """Where to recover to. kind: one of KINDS. value: as it was typed, "" for latest."""

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind} {self.value}" if self.value else "the latest commit"


def checked(aim: Aim) -> Aim:
    """Return the aim. Raise UsageError for a value that can be none, before anything is begun."""
    if aim.kind == "time":
        moment(aim.value)
    elif aim.kind == "lsn":
        position(aim.value)
    elif aim.kind == "xid" and not re.fullmatch(r"[0-9]{1,10}", aim.value):
        raise UsageError(f"--to-xid {aim.value!r} is no transaction's number", "for example --to-xid 734")
    elif aim.kind == "name" and not (aim.value and aim.value.isprintable() and len(aim.value.encode()) < 64):
        raise UsageError(f"--to-name {aim.value!r} is no restore point's name", "it has at most 63 bytes")
    return aim


def moment(text: str) -> datetime:
    """Given a time as typed, return the instant: of this host's zone where it names none.

    Raise UsageError, also for a time that this host's clocks show twice, or never.
    """
    spelled = re.sub(r"(:\d{2}(?:\.\d+)?)\s*([+-]\d{2})$", r"\1\2:00", text.strip())
    spelled = re.sub(r"([+-]\d{2})(\d{2})$", r"\1:\2", spelled) if ":" in spelled else spelled
    spelled = re.sub(r"(?i)\s*(z|utc)$", "+00:00", re.sub(r"\s+(?=[+-]\d{2}:)", "", spelled))
    # Python before 3.11 wants three or six digits.
    spelled = re.sub(r"\.(\d{1,6})", lambda found: f".{found[1]:0<6}", spelled)
    try:
        found = datetime.fromisoformat(spelled)
        first, second = sorted(found.replace(fold=fold).astimezone() for fold in (0, 1))
    except (ValueError, OverflowError):
        raise UsageError(f"--to-time {text!r} is no time", "for example --to-time '2024-01-15 13:37:00+03'") from None
    if first == second:
        return first.astimezone(timezone.utc)
    before, after = f"{first:%z}", f"{second:%z}"
    often = "there was twice" if first.replace(tzinfo=None) == found else "there never was"
    raise UsageError(
        f"--to-time {text!r} {often}: the clocks of this host went from {before} to {after}",
        f"say which is meant: --to-time '{text.strip()}{before}' or --to-time '{text.strip()}{after}'",
    )


def position(text: str) -> int:
    """Given a position in WAL as typed, return its byte number. Raise UsageError."""
    try:
        return wal.parse_lsn(text)
    except ValueError:
        raise UsageError(f"--to-lsn {text!r} is no position in WAL", "for example --to-lsn 0/3018BE8") from None
