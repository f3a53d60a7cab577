"""How the page says things: moments, ages, sentences, and what would come back. Pure but for the time zone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pgbackup.report import redaction
from pgbackup.report.promises.status import Rescue, Status
from pgbackup.report.result import age

_SAME_YEAR_DAYS = 300
_LONGEST_NAME = 48


def plain(value: object) -> object:
    """Given what a template shows, return a text without characters that a reader cannot see; the rest as it is."""
    if type(value) is not str or value.isprintable():
        return value
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in value)


def sentence(text: str) -> str:
    """Given a reason, return it as a sentence, without values of rows that a server has quoted; names stay."""
    told = redaction.without_values(text).strip()
    first = told.partition(" ")[0]
    if first.isascii() and first.isalpha():
        told = told[:1].upper() + told[1:]
    return told if not told or told.endswith((".", "…", "!", "?")) else f"{told}."


def short(name: str) -> str:
    """Given a name, return it with its middle left out where it is as long as a key: age1ql3z7…mcac8p."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:9]}…{name[-6:]}"


def count(number: int, noun: str) -> str:
    """Given a number and what is counted, return both: 1 drill, 2 drills."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def moment(instant: datetime, now: datetime) -> str:
    """Given an instant, return it for people in local time: Sat 14 Mar 02:00, with its year where that is needed."""
    local = instant.astimezone()
    far = abs((now - instant).days) > _SAME_YEAR_DAYS
    return f"{local:%a} {local.day} {local:%b %Y %H:%M}" if far else f"{local:%a} {local.day} {local:%b %H:%M}"


def ago(instant: datetime, now: datetime) -> str:
    """Given an instant, return how far from now it is: 2.0 h ago, in 3 min, now."""
    seconds = (now - instant).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{age(seconds)} ago" if seconds > 0 else f"in {age(-seconds)}"


def took(seconds: float) -> str:
    """Given a duration in seconds, return it for people: 0.8 s, 29 s, 4 min."""
    return f"{seconds:.1f} s" if seconds < 9.95 else age(seconds)


def verdict(status: Status) -> str:
    """The one sentence on top: whether all promises are kept."""
    kept = sum(promise.state == "kept" for promise in status.promises)
    broken = len(status.broken)
    if not broken:
        return f"All {kept} promises are kept"
    return f"{broken} of {kept + broken} promises {'is' if broken == 1 else 'are'} broken"


def rescued(rescues: Sequence[Rescue], now: datetime) -> str:
    """What would be there again if this host died now, in one or two sentences."""
    back = [one for one in rescues if one.moment]
    if not rescues:
        return "No database is named in DATABASES."
    if not back:
        why = {one.why for one in rescues}
        return f"Nothing would come back{': ' + why.pop() if len(why) == 1 else ''}."
    if len(back) < len(rescues):
        lost = [one.name for one in rescues if not one.moment]
        named = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        told = f"{len(back)} of {len(rescues)} databases would come back; {named} would be lost."
    else:
        told = "Every database would come back." if len(back) > 1 else "The database would come back."
    oldest = min(one.moment for one in back if one.moment)
    told += f" At most {age(max(0.0, (now - oldest).total_seconds()))} would be missing."
    return f"{told} {_time(back)}"


def _time(back: Sequence[Rescue]) -> str:
    measured = [one.seconds for one in back if one.seconds is not None]
    if len(measured) < len(back):
        return "How long that takes is not measured for all: drill them."
    return f"One restore takes up to {took(max(measured))}, as measured."
