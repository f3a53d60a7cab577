"""When a scheduler starts a backup: from a word or a cron line to what cron and systemd want to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgbackup.errors import UsageError

NAMED = {"daily": "0 2 * * *", "hourly": "0 * * * *", "every-6h": "0 */6 * * *"}

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTHS = dict(zip(range(1, 13), (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))


@dataclass(frozen=True)
class Schedule:
    """cron: the five fields of a crontab line. calendar: values of OnCalendar= that mean the same."""

    cron: str
    calendar: tuple[str, ...]


@dataclass(frozen=True)
class _Field:
    name: str
    least: int
    most: int
    names: Sequence[str] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, ("", *_MONTHS)),
    _Field("day of the week", 0, 7, _DAYS),
)


@dataclass(frozen=True)
class Fields:
    """The values of a cron line's fields. weekdays: 0 is Sunday. either: a day that fits one of days and weekdays."""

    minutes: list[int]
    hours: list[int]
    days: list[int]
    months: list[int]
    weekdays: list[int]
    either: bool


def fields(text: str) -> Fields:
    """Given daily, hourly, every-6h or five cron fields (crontab(5)), return their values. Raise UsageError."""
    words = NAMED.get(text, text).split()
    if len(words) != len(_FIELDS):
        raise UsageError(
            f"--schedule {text!r} is neither one of {', '.join(NAMED)} nor the five fields of a cron line",
            "for example --schedule '30 1 * * 1-5'",
        )
    minutes, hours, days, months, weekdays = (_values(word, field) for word, field in zip(words, _FIELDS, strict=True))
    # cron: a day that fits either field, unless one of the two begins with a '*'; then it has to fit both.
    either = not words[2].startswith("*") and not words[4].startswith("*")
    return Fields(minutes, hours, days, months, sorted({day % 7 for day in weekdays}), either)


def parse(text: str) -> Schedule:
    """Given daily, hourly, every-6h or five cron fields (crontab(5)), return the schedule.

    Raise UsageError, naming the field, for anything that cron would refuse or that never comes.
    """
    words, found = NAMED.get(text, text).split(), fields(text)
    if not found.either and min(found.days) > max(_LONGEST_MONTHS[month] for month in found.months):
        raise UsageError(f"--schedule {text!r} never happens: those months have no day {min(found.days)}")
    clock = f"{_listed(found.hours, _FIELDS[1])}:{_listed(found.minutes, _FIELDS[0])}:00"
    month = _listed(found.months, _FIELDS[3])
    on_date = f"*-{month}-{_listed(found.days, _FIELDS[2])} {clock}"
    week = ",".join(_DAYS[day].capitalize() for day in found.weekdays)
    if found.either:
        return Schedule(" ".join(words), (on_date, f"{week} *-{month}-* {clock}"))
    return Schedule(" ".join(words), (on_date if len(found.weekdays) == 7 else f"{week} {on_date}",))


def _values(word: str, field: _Field) -> list[int]:
    return sorted({number for part in word.split(",") for number in _part(part, field, word)})


def _part(part: str, field: _Field, word: str) -> range:
    """One of the parts between commas: '*', a number or name, a range, each but the number with a step if need be."""
    where, slash, step = part.partition("/")
    first, dash, last = where.partition("-")
    try:
        if where == "*":
            least, most = field.least, field.most
        else:
            least = _number(first, field)
            most = _number(last, field) if dash else least
        every = _whole(step) if slash else 1
        good = least <= most and every > 0 and (not slash or where == "*" or bool(dash))
    except ValueError:
        good = False
    if not good:
        raise UsageError(
            f"--schedule: {word!r} is not a {field.name} ({field.least} to {field.most})", "see: man 5 crontab"
        )
    return range(least, most + 1, every)


def _number(text: str, field: _Field) -> int:
    if text.lower() in field.names and text:
        return field.names.index(text.lower())
    if not field.least <= _whole(text) <= field.most:
        raise ValueError(text)
    return _whole(text)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):  # int() takes '+2' and '²' too
        raise ValueError(text)
    return int(text)


def _listed(values: Sequence[int], field: _Field) -> str:
    """As systemd.time(7) writes it: '*' where every value fits."""
    return "*" if len(values) == field.most - field.least + 1 else ",".join(f"{value:02}" for value in values)
