"""A year of hourly looks at one host: what is as it should be is never told, what is not is told, and in time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from pgbackup.report.promises.evaluate import evaluate
from pgbackup.report.promises.facts import (
    Alarms,
    Archive,
    Backup,
    Copies,
    Coverage,
    Database,
    Disk,
    Facts,
    Key,
    Schedule,
)
from pgbackup.report.promises.limits import Limits
from pgbackup.report.promises.promise import Promise
from pgbackup.store.state import ledger
from pgbackup.store.state.watch import Awake, still_awake

ZONE = ZoneInfo("Europe/Berlin")  # its days have 23 to 25 hours
BEGIN = datetime(2025, 1, 1, 12, tzinfo=timezone.utc)
HOUR, DAY, YEAR = timedelta(hours=1), timedelta(days=1), timedelta(days=365)
NAMES = ("auth", "payment")


@dataclass
class Run:
    """One run of a schedule, as it went. what: backup, verify or drill."""

    what: str
    begun: datetime
    ended: datetime


@dataclass
class Host:
    """A host with its schedule. down: when it was off or asleep. broken: what no longer happens, from which instant."""

    chance: random.Random
    down: list[tuple[datetime, datetime]] = field(default_factory=list)
    broken: dict[str, datetime] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def is_up(self, now: datetime) -> bool:
        return not any(off <= now < on for off, on in self.down)

    def plan(self) -> None:
        """Every run of the year. One that was missed is made up for when the host is up again, as systemd does it."""
        day = BEGIN - 9 * DAY
        while day < BEGIN + YEAR + DAY:
            local = day.astimezone(ZONE).date()
            for what, hour, weekday in (("backup", 2, None), ("verify", 4, 6), ("drill", 5, 2)):
                if weekday in (None, local.weekday()):
                    due = datetime(local.year, local.month, local.day, hour, tzinfo=ZONE).astimezone(timezone.utc)
                    self._run(what, due)
            day += DAY

    def _run(self, what: str, due: datetime) -> None:
        begun = next((on + timedelta(minutes=3) for off, on in self.down if off <= due < on), due)
        if what in self.broken and begun >= self.broken[what]:
            return
        if any(run.what == what and run.begun == begun for run in self.runs):
            return  # several that were missed are made up for by one
        slow = what == "backup" and self.chance.random() < 0.05
        lasts = timedelta(minutes=self.chance.uniform(200, 340) if slow else self.chance.uniform(2, 70))
        if any(begun < off < begun + lasts for off, _ in self.down):
            lasts = timedelta(minutes=1)  # nobody shuts a host down in the middle of a backup: that is a failure
        self.runs.append(Run(what, begun, begun + lasts))

    def facts(self, now: datetime, awake: Awake) -> Facts:
        """What the commands have left until now."""
        done = [run for run in self.runs if now - 30 * DAY < run.ended <= now]
        made = sorted((run for run in done if run.what == "backup"), key=lambda run: run.begun)[-7:]
        last = {
            what: max((run.ended for run in done if run.what == what), default=None) for what in ("verify", "drill")
        }
        goes_on = [run.begun for run in self.runs if run.what == "backup" and run.begun <= now < run.ended]
        backups = tuple(
            Backup(f"{run.begun:%Y%m%d_%H%M%S}", run.begun, 10**9, 10**9, 10**6, 60.0, run.ended)
            for run in reversed(made)
        )
        databases = tuple(
            Database(
                name, f"{name}_db", f"postgres-{name}", name, backups, len(backups), 7 * 10**9,
                tuple(ledger.Run(run.ended, 0, 60.0, "") for run in reversed(made)),
                begun=BEGIN - 9 * DAY, verified=last["verify"], drilled=last["drill"],
                running=goes_on[0] if goes_on else None,
            )
            for name in NAMES
        )  # fmt: skip
        copied = [run for run in made if run.ended + timedelta(minutes=20) <= now]
        if since := self.broken.get("copy"):
            copied = [run for run in copied if run.ended < since]
        place = Copies("s3", True, True, dict.fromkeys(NAMES, copied[-1].begun) if copied else {})
        confirmed = min(now - timedelta(seconds=5), self.broken.get("wal", now))
        proven = (
            BEGIN + timedelta(days=(now - BEGIN).days // 180 * 180) if "key" not in self.broken else BEGIN - 180 * DAY
        )
        probed = min(now - timedelta(minutes=40), self.broken.get("coverage", now))
        free = 10**8 if now >= self.broken.get("room", now + DAY) else 10**12
        off = now >= self.broken.get("timer", now + DAY)
        return Facts(
            "db1", "/opt/backups", databases, (place,),
            (
                Archive(
                    "postgres-b", ("payment",), BEGIN, confirmed, confirmed, made[-1].ended if made else None, 10**8
                ),
            ),
            (Key("age1x", proven),),
            (Schedule("backup", "" if off else "systemd", None if off else now + HOUR),),
            Disk(free, 10**12, 6 * 10**9),
            Coverage(probed, 2, 2),
            Alarms(1, BEGIN + timedelta(days=(now - BEGIN).days // 90 * 90)),
            awake.since,
            awake.away,
        )  # fmt: skip


def a_year(host: Host, length: timedelta = YEAR) -> list[tuple[datetime, Promise]]:
    """What is told in a year, and when: the host is looked at each hour that it is up."""
    host.plan()
    told, awake, boot = [], None, 0
    now, was_up = BEGIN, True
    while now < BEGIN + length:
        up = host.is_up(now)
        if up:
            boot += not was_up
            awake = still_awake(awake, now, str(boot))
            found = evaluate(host.facts(now, awake), now, Limits())
            told += [(now, promise) for promise in found if promise.is_to_be_told(now)]
        was_up = up
        now += HOUR
    return told


def troubled(seed: int) -> Host:
    """A host that is restarted some twenty times, and asleep for a week, a day and a night."""
    chance = random.Random(seed)
    host = Host(chance)
    for _ in range(20):
        off = BEGIN + timedelta(hours=chance.uniform(50, 8600))
        host.down.append((off, off + timedelta(minutes=chance.uniform(1, 100))))
    for length in (7 * DAY, DAY, 10 * HOUR):
        off = BEGIN + timedelta(hours=chance.uniform(300, 8000))
        host.down.append((off, off + length))
    host.down.sort()
    return host


@pytest.mark.fault(212, "a year with summer time, restarts, sleep and slow nights")
def test_nothing_is_told_in_a_year_in_which_all_is_as_it_should_be(tries: Callable[[int, int], int]) -> None:
    for seed in range(tries(1, 12)):
        told = a_year(troubled(seed))
        assert not told, (seed, told[:3])


STOPS = {
    "backup": ("backup", 27),
    "verify": ("verify", 8 * 24 + 1),
    "drill": ("drill", 8 * 24 + 1),
    "copy": ("copy", 31),
    "wal": ("wal", 1.3),
    "key": ("key", 21 * 24),
    "coverage": ("coverage", 27),
    "room": ("room", 1.1),
    "timer": ("schedule", 1.1),
}


@pytest.mark.fault(212, "what stops in that year")
@pytest.mark.parametrize("what", STOPS)
def test_whatever_stops_is_told_within_its_limit(what: str) -> None:
    host = Host(random.Random(7))
    stopped = BEGIN + timedelta(days=40, hours=6)
    host.broken[what] = BEGIN if what == "key" else stopped
    kind, hours = STOPS[what]
    told = a_year(host, 52 * DAY)
    first = min(when for when, promise in told if promise.kind == kind)
    assert first <= host.broken[what] + timedelta(hours=hours), first
    assert all(promise.remedy for _, promise in told)
    others = {promise.kind for _, promise in told} - {kind}
    assert others <= {"base", "copy"}, "what follows from a backup that is not made, and nothing else"


def test_what_broke_before_the_host_went_down_is_told_at_once_when_it_is_up_again() -> None:
    host = Host(random.Random(3), down=[(BEGIN + 50 * DAY, BEGIN + 50 * DAY + HOUR)])
    host.broken["backup"] = BEGIN + 40 * DAY
    told = {when for when, promise in a_year(host, 52 * DAY) if promise.kind == "backup"}
    assert BEGIN + 50 * DAY - HOUR in told and BEGIN + 50 * DAY + HOUR in told


@pytest.mark.fault(212, "a clock that is set back or ahead")
@pytest.mark.parametrize("jump", [-400 * DAY, -DAY, -HOUR, DAY, 400 * DAY], ids=str)
def test_a_clock_that_jumps_never_makes_old_look_fresh(jump: timedelta) -> None:
    host = Host(random.Random(5))
    host.plan()
    now = BEGIN + 100 * DAY
    facts = host.facts(now, still_awake(None, now, "1"))
    found = {promise.kind: promise for promise in evaluate(facts, now + jump, Limits())}
    ahead = [promise for promise in found.values() if promise.last and promise.last > now + jump + timedelta(minutes=5)]
    assert all(promise.state == "broken" and "clock" in promise.reason for promise in ahead), ahead
    if jump >= DAY + HOUR * 3:
        assert found["backup"].state == "broken"
    back = evaluate(facts, now, Limits())
    assert not [promise for promise in back if promise.state == "broken"], "and all is well when it is right again"


def test_a_checker_that_forgives_everything_is_noticed() -> None:
    """With limits of a century nothing is ever told: the year above would notice."""
    century = 100 * 366 * 86400.0
    host = Host(random.Random(7), broken={"backup": BEGIN + 40 * DAY})
    host.plan()
    now = BEGIN + 45 * DAY
    facts = host.facts(now, still_awake(None, now, "1"))
    patient = replace(Limits(), backup=century)
    assert [one.state for one in evaluate(facts, now, patient) if one.kind == "backup"] == ["kept", "kept"]
    assert [one.state for one in evaluate(facts, now, Limits()) if one.kind == "backup"] == ["broken", "broken"]


def test_a_run_that_fails_right_after_a_boot_is_told_at_once_and_one_that_was_missed_is_not() -> None:
    host = Host(random.Random(1))
    host.plan()
    now = BEGIN + 30 * DAY
    awake = Awake(now - HOUR, "1", now - HOUR, now - 2 * DAY)
    facts = host.facts(now, awake)

    def told(**changes: object) -> set[str]:
        first = replace(facts.databases[0], **changes)  # type: ignore[arg-type]
        found = evaluate(replace(facts, databases=(first, *facts.databases[1:])), now, Limits())
        assert any(promise.key == "backup:auth" and promise.state == "broken" for promise in found)
        return {promise.key for promise in found if promise.is_to_be_told(now)}

    failed = ledger.Run(now - timedelta(minutes=5), 69, 1.0, "", "no server")
    assert told(attempts=(failed,)) == {"backup:auth"}
    assert told(attempts=(failed,), backups=()) >= {"backup:auth"}
    missed = tuple(each for each in facts.databases[0].backups if now - each.taken > timedelta(hours=30))
    assert told(attempts=(), backups=missed) == set()
