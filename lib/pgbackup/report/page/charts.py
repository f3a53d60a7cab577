"""Small charts as SVG paths. Pure geometry: numbers and instants in, text for the attribute `d` out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

WIDTH, HEIGHT = 300, 48
_LEAST_SPAN = timedelta(days=7)
_WIDEST_BAR, _NARROWEST_BAR = 12.0, 1.2
_LOWEST_BAR = 2.0
_STEADY = 0.1  # what changes by less than this has not changed
_FEWEST_FOR_TREND = 4


@dataclass(frozen=True)
class Axis:
    """A time axis: its first instant at the left edge, its last one at the right edge of a chart."""

    first: datetime
    last: datetime

    def at(self, moment: datetime, margin: float) -> float:
        """Where an instant lies, between `margin` and WIDTH - margin."""
        share = (moment - self.first) / (self.last - self.first)
        return margin + min(1.0, max(0.0, share)) * (WIDTH - 2 * margin)


def axis(moments: Sequence[datetime], now: datetime) -> Axis:
    """An axis from the oldest of the moments to now, of a week at least. Pure."""
    return Axis(min([*moments, now - _LEAST_SPAN]), max([*moments, now]))


def bar_width(count: int) -> float:
    """How wide each of so many bars is, so that they do not hide each other. Pure."""
    return min(_WIDEST_BAR, max(_NARROWEST_BAR, 0.7 * WIDTH / max(count, 1)))


def bars(points: Sequence[tuple[datetime, float]], shown: Axis, width: float) -> str:
    """A line of that width for each point, from the bottom, as high as its value beside the largest one. Pure."""
    most = max((value for _, value in points), default=0.0) or 1.0
    heights = [max(_LOWEST_BAR, HEIGHT * value / most) for _, value in points]
    return "".join(
        f"M{shown.at(moment, width / 2):.1f} {HEIGHT}v-{height:.1f}"
        for (moment, _), height in zip(points, heights, strict=True)
    )


def marks(moments: Sequence[datetime], shown: Axis, width: float, height: int) -> str:
    """The same of one height. Pure."""
    return "".join(f"M{shown.at(one, width / 2):.1f} {HEIGHT}v-{height}" for one in moments)


def line(points: Sequence[tuple[datetime, float]], shown: Axis, margin: float) -> str:
    """A line through points, oldest first, the largest value at the upper margin, 0 at the lower one. Pure."""
    return "".join(
        f"{'L' if number else 'M'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(placed(points, shown, margin))
    )


def placed(points: Sequence[tuple[datetime, float]], shown: Axis, margin: float) -> list[tuple[float, float]]:
    """Where such points lie. Pure."""
    most = max((value for _, value in points), default=0.0) or 1.0
    return [(shown.at(moment, margin), margin + (HEIGHT - 2 * margin) * (1 - value / most)) for moment, value in points]


def trend(values: Sequence[float]) -> str:
    """Given durations, oldest first, say how the newest three are beside those before; "" for too few. Pure."""
    if len(values) < _FEWEST_FOR_TREND:
        return ""
    before, recent = median(values[:-3]), median(values[-3:])
    if before <= 0 or abs(recent / before - 1) < _STEADY:
        return "steady"
    change = recent / before
    if change >= 2:
        return f"{change:.1f} times as long as before"
    return f"{abs(change - 1) * 100:.0f} % {'slower' if change > 1 else 'faster'} than before"
