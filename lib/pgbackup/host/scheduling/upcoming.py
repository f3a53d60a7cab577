"""When a schedule runs next: as systemd tells it of a timer, and as a line of a crontab means it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

from pgbackup.errors import UsageError
from pgbackup.host.scheduling import schedule, systemctl

_SECONDS = 5.0  # of systemd, which answers at once or not at all
_PROPERTIES = ("LoadState", "ActiveState", "SubState", "NextElapseUSecRealtime")
_MOMENT = re.compile(r"(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}) (\S+)")
_FURTHEST_DAYS = 1500  # beyond the next 29th of February
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True)
class Upcoming:
    """next: when it runs next (UTC), None where nobody knows: problem says why. interval: seconds to the run after."""

    next: datetime | None
    problem: str = ""
    interval: float | None = None


def timers(units: Sequence[str], now: datetime) -> dict[str, Upcoming]:
    """What systemd knows of timers, by name; of one that is not installed nothing. Raise Unavailable."""
    told = systemctl.shown(units, _PROPERTIES, _SECONDS)
    found = {}
    for unit, properties in zip(units, told, strict=False):
        if properties.get("LoadState") != "not-found":
            found[unit] = _timer(unit, properties, now)
    return found


def _timer(unit: str, said: Mapping[str, str], now: datetime) -> Upcoming:
    """Given what `systemctl show` says of a timer, return when it runs next. Pure but for TZ."""
    if said.get("LoadState") != "loaded":
        return Upcoming(None, f"'{unit}' cannot be loaded ({said.get('LoadState')})")
    if said.get("ActiveState") != "active":
        return Upcoming(None, f"'{unit}' is installed and not on")
    if said.get("SubState") == "running":
        return Upcoming(now)  # then it says no next time
    moment = _MOMENT.search(said.get("NextElapseUSecRealtime", ""))
    if not moment:
        return Upcoming(None, f"'{unit}' is on and has no next run")
    local = datetime.fromisoformat(moment[1])
    return Upcoming((local.replace(tzinfo=timezone.utc) if moment[2] == "UTC" else local).astimezone(timezone.utc))


def cron(when: str, now: datetime) -> Upcoming:
    """When a crontab's job runs next, by its five fields or a word like @daily. Pure but for TZ."""
    if when == "@reboot":
        return Upcoming(None, "it runs at a reboot only")
    try:
        fields = schedule.fields(_NICKNAMES.get(when, when))
    except UsageError:
        return Upcoming(None, f"its time {when!r} cannot be read")
    local = now.astimezone()
    first = _after(fields, local.replace(tzinfo=None))
    second = _after(fields, first) if first else None
    if first is None:
        return Upcoming(None, f"its time {when!r} never comes")
    interval = (second - first).total_seconds() if second else None
    return Upcoming(first.astimezone(timezone.utc), "", interval)


def _after(fields: schedule.Fields, local: datetime) -> datetime | None:
    """The first of its minutes after a local time without a zone."""
    for days in range(_FURTHEST_DAYS):
        day = local.date() + timedelta(days=days)
        if not _on(fields, day):
            continue
        for hour in fields.hours:
            for minute in fields.minutes:
                found = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001  cron's is local time
                if found > local:
                    return found
    return None


def _on(fields: schedule.Fields, day: date) -> bool:
    in_month, on_day, on_weekday = (
        day.month in fields.months,
        day.day in fields.days,
        day.isoweekday() % 7 in fields.weekdays,
    )
    return in_month and ((on_day or on_weekday) if fields.either else (on_day and on_weekday))
