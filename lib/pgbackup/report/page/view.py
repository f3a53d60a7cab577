"""What the page shows of each database, put together from the status: charts, copies, window, findings. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pgbackup.report.page import charts, words
from pgbackup.report.promises.about_databases import newest_good
from pgbackup.report.promises.facts import Archive, Backup, Database, Finding
from pgbackup.report.promises.promise import BROKEN, Promise
from pgbackup.report.promises.status import Rescue, Status
from pgbackup.report.result import size
from pgbackup.store.state.ledger import Exercise

_MOST_BACKUPS = 90  # that a chart shows
_MOST_EXERCISES = 40
Paths = tuple[tuple[str, str], ...]
_MARK = 4.0  # half the size of a mark in the chart of restores


@dataclass(frozen=True)
class Chart:
    """paths: class of a path and its `d`; legend: what such a path shows, by its class. newest, range: for people; alt:
    the whole in one sentence. width: of the bars; 0.0 where there are none, and no shape may be stretched.
    """

    title: str
    newest: str
    range: str
    paths: Paths
    legend: Paths = ()
    width: float = 0.0

    @property
    def alt(self) -> str:
        told = [self.newest, *(what for _, what in self.legend), self.range]
        return f"{self.title}: {', '.join(each for each in told if each)}."


@dataclass(frozen=True)
class Shown:
    """One database. newest: its newest good backup; copies: place and when the newest copy there was taken, or None."""

    database: Database
    rescue: Rescue | None
    broken: tuple[Promise, ...]
    newest: Backup | None
    copies: tuple[tuple[str, datetime | None], ...]
    archive: Archive | None
    findings: tuple[Finding, ...]
    charts: tuple[Chart, ...]


def databases(status: Status) -> list[Shown]:
    """Return every database as it is shown, those with a broken promise first."""
    found = [_shown(status, one) for one in status.facts.databases]
    return sorted(found, key=lambda one: not one.broken)


def exercises(status: Status, most: int) -> list[tuple[str, Exercise]]:
    """The newest restores and rollbacks of all databases, with the names of these; drills are in the charts."""
    found = [
        (database.name, one)
        for database in status.facts.databases
        for one in database.exercises
        if one.action != "drill"
    ]
    return sorted(found, key=lambda each: each[1].started, reverse=True)[:most]


def _shown(status: Status, database: Database) -> Shown:
    facts = status.facts
    found = facts.coverage.findings if facts.coverage else ()
    return Shown(
        database=database,
        rescue=next((one for one in status.rescues if one.name == database.name), None),
        broken=tuple(one for one in status.of(database.name) if one.state == BROKEN),
        newest=newest_good(database, status.now),
        copies=tuple((one.place, one.newest.get(database.name)) for one in facts.copies),
        archive=next((one for one in facts.archives if database.name in one.names), None),
        findings=tuple(
            one for one in found if (one.container, one.database) == (database.container, database.database)
        ),
        charts=_charts(database, status.now),
    )


def _charts(database: Database, now: datetime) -> tuple[Chart, ...]:
    if not database.backups:
        return ()
    backups = database.backups[:_MOST_BACKUPS][::-1]
    axis = charts.axis([one.taken for one in backups], now)
    width = charts.bar_width(len(backups))
    good = [one for one in backups if not one.problem]

    def bars(title: str, value: Callable[[Backup], float], told: Callable[[float], str]) -> Chart:
        points = [(one.taken, float(value(one))) for one in good]
        values = [each for _, each in points]
        paths = (("bar", charts.bars(points, axis, width)),)
        if not values:
            return Chart(title, "none is good", "", ())
        low, high = told(min(values)), told(max(values))
        spread = f"{low} to {high}" if low != high else "unchanged"
        return Chart(title, told(values[-1]), spread if len(values) > 1 else "", paths, width=width)

    return (
        _line(backups, axis),
        bars("Size", lambda one: one.bytes, lambda value: size(int(value))),
        bars("Rows", lambda one: one.rows, lambda value: f"{value:,.0f}"),
        bars("Time", lambda one: one.seconds, words.took),
        *_restores(database.exercises, now),
    )


def _line(backups: Sequence[Backup], axis: charts.Axis) -> Chart:
    """When backups were taken, and what is known of each: bad, drilled, or only read."""
    width = charts.bar_width(len(backups))
    bad = [one.taken for one in backups if one.problem or one.drill_failed]
    drilled = [one.taken for one in backups if one.drilled and not one.problem and not one.drill_failed]
    read = [one.taken for one in backups if not (one.drilled or one.problem or one.drill_failed)]
    paths = (
        ("drilled", charts.marks(drilled, axis, width, charts.HEIGHT)),
        ("read", charts.marks(read, axis, width, charts.HEIGHT // 2)),
        ("bad", charts.marks(bad, axis, width, charts.HEIGHT)),
    )
    legend = (("drilled", f"{len(drilled)} drilled"), ("read", f"{len(read)} verified"), ("bad", f"{len(bad)} bad"))
    return Chart("Backups", f"{len(backups)}", _days(axis), _drawn(paths), _told(legend, paths), width)


def _restores(found: Sequence[Exercise], now: datetime) -> list[Chart]:
    """How long restores and drills took; a failed one is a cross on the bottom."""
    shown = [one for one in found if one.action in ("restore", "drill")][:_MOST_EXERCISES][::-1]
    if not shown:
        return []
    axis = charts.axis([one.started for one in shown], now)
    passed = [one for one in shown if one.status == 0 and one.restore_seconds]
    points = [(one.started, one.restore_seconds) for one in passed]
    placed = charts.placed(points, axis, 2 * _MARK)
    circles = [at for one, at in zip(passed, placed, strict=True) if one.action == "drill"]
    squares = [at for one, at in zip(passed, placed, strict=True) if one.action == "restore"]
    crosses = [(axis.at(one.started, 2 * _MARK), charts.HEIGHT - 2 * _MARK) for one in shown if one.status != 0]
    paths = (
        ("line", charts.line(points, axis, 2 * _MARK)),
        ("drill", "".join(_circle(*at) for at in circles)),
        ("restore", "".join(_square(*at) for at in squares)),
        ("cross", "".join(_cross(*at) for at in crosses)),
    )
    legend = (
        ("drill", words.count(len(circles), "drill")),
        ("restore", words.count(len(squares), "restore")),
        ("cross", f"{len(crosses)} failed"),
    )
    values = [value for _, value in points]
    newest = words.took(values[-1]) if values else "none has passed"
    return [Chart("Restore", newest, charts.trend(values), _drawn(paths), _told(legend, paths))]


def _drawn(paths: Paths) -> Paths:
    """Those paths that have something in them."""
    return tuple(path for path in paths if path[1])


def _told(legend: Paths, paths: Paths) -> Paths:
    """The legend of those."""
    drawn = {kind for kind, _ in _drawn(paths)}
    return tuple(each for each in legend if each[0] in drawn)


def _days(axis: charts.Axis) -> str:
    return f"the last {(axis.last - axis.first).total_seconds() / 86400:.0f} days"


def _circle(x: float, y: float) -> str:
    return f"M{x - _MARK:.1f} {y:.1f}a{_MARK} {_MARK} 0 1 0 {2 * _MARK} 0a{_MARK} {_MARK} 0 1 0 {-2 * _MARK} 0z"


def _square(x: float, y: float) -> str:
    return f"M{x - _MARK:.1f} {y - _MARK:.1f}h{2 * _MARK}v{2 * _MARK}h{-2 * _MARK}z"


def _cross(x: float, y: float) -> str:
    return f"M{x - _MARK:.1f} {y - _MARK:.1f}l{2 * _MARK} {2 * _MARK}m0 {-2 * _MARK}l{-2 * _MARK} {2 * _MARK}"
