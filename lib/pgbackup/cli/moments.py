"""To what a recovery is to go, as it is typed: a time, a position, a transaction, a name, or the latest commit."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from pgbackup import wal
from pgbackup.commands.recover.aim import Aim
from pgbackup.errors import UsageError

KINDS = ("time", "lsn", "xid", "name", "latest")


def aim(kind: str, text: str) -> Aim:
    """Given one of KINDS and what was typed, "" for latest, return where to recover to.

    Raise UsageError for a value that can be none, before anything is begun.
    """
    if kind == "time":
        return Aim(kind, text, moment=moment(text))
    if kind == "lsn":
        return Aim(kind, text, position=position(text))
    if kind == "xid" and not re.fullmatch(r"[0-9]{1,10}", text):
        raise UsageError(f"--to-xid {text!r} is not a transaction number", "for example --to-xid 734")
    if kind == "name" and not (text and text.isprintable() and len(text.encode()) < 64):
        raise UsageError(f"--to-name {text!r} is not the name of a restore point", "it has at most 63 bytes")
    return Aim(kind, text)


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
        raise UsageError(
            f"--to-time {text!r} is not a time", "for example --to-time '2024-01-15 13:37:00+03'"
        ) from None
    if first == second:
        return first.astimezone(timezone.utc)
    before, after = f"{first:%z}", f"{second:%z}"
    often = "occurred twice" if first.replace(tzinfo=None) == found else "never existed"
    raise UsageError(
        f"--to-time {text!r} {often}: the clocks of this host went from {before} to {after}",
        f"say which you mean: --to-time '{text.strip()}{before}' or --to-time '{text.strip()}{after}'",
    )


def position(text: str) -> int:
    """Given a position in WAL as typed, return its byte number. Raise UsageError."""
    try:
        return wal.parse_lsn(text)
    except ValueError:
        raise UsageError(f"--to-lsn {text!r} is not a position in WAL", "for example --to-lsn 0/3018BE8") from None
