"""Draws the status page from its template, with everything that it shows escaped."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pgbackup import __version__
from pgbackup.report.page import charts, view, words
from pgbackup.report.promises.promise import BROKEN, KEPT
from pgbackup.report.promises.status import Status
from pgbackup.report.result import age, instant, size
from pgbackup.report.typeable import absolute

MARK = "<!doctype html>\n<!-- pgbackup: status page -->\n"

_MOST_RESTORES = 20


def text(status: Status) -> str:
    """Given a status, return the page. Pure but for the time zone."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=words.plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        absolute=absolute,
        age=age,
        ago=partial(words.ago, now=status.now),
        instant=instant,
        moment=partial(words.moment, now=status.now),
        sentence=words.sentence,
        short=words.short,
        size=size,
        took=words.took,
    )
    return MARK + environment.get_template("page.html").render(
        status=status,
        facts=status.facts,
        version=__version__,
        zone=f"{status.now.astimezone():%Z}",
        verdict=words.verdict(status),
        rescued=words.rescued(status.rescues, status.now),
        databases=view.databases(status),
        restores=view.exercises(status, _MOST_RESTORES),
        chart={"width": charts.WIDTH, "height": charts.HEIGHT},
        BROKEN=BROKEN,
        KEPT=KEPT,
    )
