"""What a schedule is called, and that cron and systemd understand the same by it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from pgbackup.errors import UsageError
from pgbackup.host.scheduling import schedule

BASE = datetime(2024, 1, 30, 23, 59, tzinfo=timezone.utc)
LINES = [
    "0 2 * * *",
    "0 * * * *",
    "0 */6 * * *",
    "*/20 1-3 * * *",
    "30 1 * * 1-5",
    "15,45 22 * * 0",
    "5 4 * * sun,7,wed",
    "0 3 29 2 *",
    "0 3 31 * *",
    "59 23 1-7 jan-mar *",
    "0 0 13 * 5",  # the 13th, and every Friday
    "0 0 */10 * 1",  # begins with a '*': only Mondays that are such a day
    "7 7 1,15 * */2",
    "0 12 * 6 1",
    "* * * * *",
    "10-50/20 0-23/5 * * *",
]


def of_cron(line: str, field: int, low: int, high: int) -> set[int]:
    """A field's values, as crontab(5) explains them; written apart from the code under test."""
    text = line.split()[field]
    for word, number in {"jan": 1, "mar": 3, "sun": 0, "wed": 3}.items():
        text = text.replace(word, str(number))
    found: set[int] = set()
    for part in text.split(","):
        where, _, step = part.partition("/")
        ends = [low, high] if where == "*" else [int(end) for end in where.split("-")]
        found |= set(range(ends[0], ends[-1] + 1, int(step or 1)))
    return {day % 7 for day in found} if field == 4 else found


def next_by_cron(line: str, count: int) -> Iterator[datetime]:
    minutes, hours, days, months, weekdays = (
        of_cron(line, field, *ends) for field, ends in enumerate([(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)])
    )
    _, _, day_text, _, weekday_text = line.split()
    either = not day_text.startswith("*") and not weekday_text.startswith("*")
    now = BASE
    while count:
        now += timedelta(minutes=1)
        while now.month not in months:
            now = now.replace(hour=0, minute=0) + timedelta(days=1)
        in_days, in_week = now.day in days, (now.weekday() + 1) % 7 in weekdays
        if not (in_days or in_week if either else in_days and in_week):
            now = now.replace(hour=23, minute=59)
        elif now.hour in hours and now.minute in minutes:
            count -= 1
            yield now


def next_by_systemd(calendar: tuple[str, ...], count: int) -> list[datetime]:
    found = set()
    for value in calendar:
        argv = ["systemd-analyze", "calendar", f"--iterations={count}", f"--base-time={BASE:%F %T} UTC", value]
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
        said = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout
        for line in said.splitlines():
            head, _, moment = line.partition(": ")
            if "elapse" in head or "Iter" in head:
                found.add(datetime.strptime(moment.strip() + "+0000", "%a %Y-%m-%d %H:%M:%S UTC%z"))
    return sorted(found)[:count]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
@pytest.mark.parametrize("line", LINES)
def test_systemd_understands_by_it_what_cron_does(line: str) -> None:
    found = schedule.parse(line)
    assert found.cron == line
    assert next_by_systemd(found.calendar, 8) == list(next_by_cron(line, 8))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
def test_a_wrong_translation_is_noticed() -> None:
    """A test of the test above."""
    calendar = schedule.parse("0 0 13 * 5").calendar
    assert next_by_systemd(calendar[:1], 8) != list(next_by_cron("0 0 13 * 5", 8))


def test_the_names() -> None:
    assert schedule.parse("daily").cron == "0 2 * * *"
    assert schedule.parse("daily").calendar == ("*-*-* 02:00:00",)
    assert schedule.parse("hourly").calendar == ("*-*-* *:00:00",)
    assert schedule.parse("every-6h").calendar == ("*-*-* 00,06,12,18:00:00",)


def test_blanks_do_not_matter() -> None:
    assert schedule.parse("  0  2 *\t* * ") == schedule.parse("daily")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "weekly",
        "@reboot",
        "0 2 * *",
        "0 2 * * * *",
        "60 2 * * *",
        "0 24 * * *",
        "0 2 0 * *",
        "0 2 32 * *",
        "0 2 * 13 *",
        "0 2 * * 8",
        "-1 2 * * *",
        "0 5-2 * * *",
        "0 */0 * * *",
        "0 2/3 * * *",
        "0 2, * * *",
        "0 2 * foo *",
        "0 2 * * monday",
        "0 2 * * * root",
        "0 2 31 2,4 *",
        "0 ² * * *",
        "0 */ * * *",
        "0 */+2 * * *",
        "0 2 * * *\n* * * * * evil",
    ],
)
def test_anything_else_is_refused_with_a_hint_or_a_reason(text: str) -> None:
    with pytest.raises(UsageError, match="--schedule"):
        schedule.parse(text)
