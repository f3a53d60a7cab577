"""The status page: what is wrong comes first, everything is escaped, nothing runs and nothing is asked of anywhere."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pgbackup.report.page import charts, page, words
from pgbackup.report.promises.facts import Facts
from pgbackup.report.promises.status import Rescue, Status
from pgbackup.report.typeable import absolute

from tests.support import examples, many, speed

VOID = {"meta", "link", "path"}
# What an element may ask a browser to fetch, to run, or to send.
FETCHING = {"src", "srcset", "href", "action", "data", "poster", "background", "ping", "formaction", "manifest"}
ELEMENTS = {
    *("html", "head", "meta", "link", "title", "style", "body", "header", "main", "footer", "section", "article"),
    *("h1", "h2", "h3", "p", "span", "strong", "b", "i", "code", "time", "div", "ol", "ul", "li", "dl", "dt", "dd"),
    *("svg", "path", "figure", "figcaption", "details", "summary"),
}


class Read(HTMLParser):
    """The page as a browser takes it in: elements with their attributes, and texts; what is not closed is told."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open and self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(params=examples.ALL, ids=lambda example: example.__name__)
def status(request: pytest.FixtureRequest) -> Status:
    example: Callable[[], Status] = request.param
    return example()


@pytest.mark.fault(218, "a database that is called like a script, in page and metrics")
def test_nothing_runs_and_nothing_is_fetched(status: Status) -> None:
    text = page.text(status)
    assert text.startswith(page.MARK)
    read = Read(text)
    assert {element for element, _ in read.elements} <= ELEMENTS
    for element, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (element, attributes)
        assert {attributes[name] for name in FETCHING & set(attributes)} <= {"data:,"}, (element, attributes)
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|expression|<", style)
    policies = [tag[1]["content"] for tag in read.elements if tag[1].get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


@pytest.mark.fault(218, "a database that is called like a script, in page and metrics")
def test_whatever_things_are_called_is_shown_as_text() -> None:
    text = page.text(examples.hostile_names())
    shown = examples.HOSTILE.replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert Read(text).text.count(shown) > 10
    assert examples.HOSTILE not in text and "<script" not in text
    assert not [char for char in text if not char.isprintable() and char != "\n"]


def test_each_promise_is_shown_and_the_broken_ones_come_first(status: Status) -> None:
    text = Read(page.text(status)).text
    for promise in status.promises:
        assert " ".join(str(words.plain(words.sentence(promise.reason))).split()) in text
    if status.broken:
        assert text.index("What is wrong") < text.index("If this host died now Database")
        assert f"{len(status.broken)} of " in text
        assert all(str(words.plain(absolute(promise.remedy))) in text for promise in status.broken)
    else:
        assert "What is wrong" not in text and "promises are kept" in text
    assert f'<time datetime="{status.now:%Y-%m-%dT%H:%M:%SZ}">' in page.text(status)


def test_who_cannot_see_hears_what_the_charts_show(status: Status) -> None:
    read = Read(page.text(status))
    pictures = [attributes for element, attributes in read.elements if element == "svg"]
    assert all(one.get("aria-hidden") == "true" or (one["role"] == "img" and one["aria-label"]) for one in pictures)
    named = {one for _, attributes in read.elements for one in (attributes.get("aria-labelledby") or "").split()}
    ids = [attributes["id"] for _, attributes in read.elements if attributes.get("id")]
    assert named <= set(ids) and len(ids) == len(set(ids))
    levels = [int(element[1]) for element, _ in read.elements if re.fullmatch(r"h\d", element)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_values_of_rows_are_not_on_the_page() -> None:
    status = examples.all_kept()
    auth = status.facts.databases[0]
    said = 'ERROR:  invalid input syntax for type integer: "4111 1111 1111 1111"'
    exercises = (replace(auth.exercises[2], outcome=said), *auth.exercises)
    facts = replace(status.facts, databases=(replace(auth, exercises=exercises),))
    promises = (replace(status.promises[0], reason=said), *status.promises[1:])
    text = page.text(replace(status, facts=facts, promises=promises))
    assert "invalid input syntax" in text and "4111" not in text


def test_with_nothing_at_all_there_is_a_page() -> None:
    empty = Status(examples.NOW, Facts("host", "/opt/backups", ()), (), ())
    assert "DATABASES names none" in Read(page.text(empty)).text


def test_thirty_databases_take_no_longer_than_ten_times_three_and_are_small() -> None:
    few, status = (many.status(databases=databases, nights=300) for databases in (3, 30))
    assert speed.times(lambda: page.text(status), lambda: page.text(few)) < 10
    assert len(page.text(status)) < 500_000


@pytest.mark.parametrize(
    ("rescues", "said"),
    [
        ([], "No database is named in DATABASES."),
        ([Rescue("a", None, "OFFSITE names no place")] * 2, "Nothing would come back: OFFSITE names no place."),
        (
            [Rescue("a", examples.ago(hours=3), seconds=70.0), Rescue("b", None, "x")],
            "1 of 2 databases would come back; b would be lost. At most 3.0 h would be missing."
            " One restore takes up to 70 s, as measured.",
        ),
        (
            [Rescue("a", examples.ago(days=3))],
            "The database would come back. At most 3.0 d would be missing."
            " How long that takes is not measured for all: drill them.",
        ),
    ],
)
def test_what_comes_back_is_one_sentence(rescues: list[Rescue], said: str) -> None:
    assert words.rescued(rescues, examples.NOW) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the last run failed", "The last run failed."),
        ("'auth_db' is bad", "'auth_db' is bad."),
        ("postgres-backup.timer is off", "postgres-backup.timer is off."),
        ("what now?", "What now?"),
        ("", ""),
    ],
)
def test_a_reason_becomes_a_sentence_and_a_name_stays(text: str, said: str) -> None:
    assert words.sentence(text) == said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([10, 10, 10], ""),
        ([10, 10, 10, 10.5], "steady"),
        ([10, 10, 13, 13, 13], "30 % slower than before"),
        ([10, 10, 10, 5, 5, 5], "50 % faster than before"),
        ([10, 10, 40, 40, 40], "4.0 times as long as before"),
        ([0, 1, 1, 1], "steady"),
    ],
)
def test_a_trend_is_said_in_words(values: list[float], said: str) -> None:
    assert charts.trend(values) == said


def test_charts_stay_within_their_frame_whatever_is_drawn() -> None:
    now = examples.NOW
    moments = [now + timedelta(days=shift) for shift in (-4000, -3, 0, 9)]
    axis = charts.axis(moments, now)
    for points in ([], [(one, 0.0) for one in moments], [(one, 10.0**number) for number, one in enumerate(moments)]):
        for x, y in charts.placed(points, axis, 8):
            assert 8 <= x <= charts.WIDTH - 8 and 8 <= y <= charts.HEIGHT - 8
        width = charts.bar_width(len(points))
        for x, height in re.findall(r"M([\d.]+) 48v-([\d.]+)", charts.bars(points, axis, width)):
            assert width / 2 - 0.1 <= float(x) <= charts.WIDTH - width / 2 + 0.1
            assert 2 <= float(height) <= charts.HEIGHT


def luminance(colour: str) -> float:
    """As WCAG 2.2 defines it, of #rrggbb."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_charts_stand_out_in_light_and_dark(scheme: int) -> None:
    style = (Path(page.__file__).parent / "page.css").read_text(encoding="utf-8")
    colours = [dict(re.findall(r"--([a-z-]+): (#\w{6})", one)) for one in re.findall(r":root \{(.*?)\}", style, re.S)]
    assert len(colours) == 2 and set(colours[0]) == set(colours[1])
    named = colours[scheme]
    for text in ("ink", "soft"):
        for paper in ("paper", "card", "off-paper"):
            assert contrast(named[text], named[paper]) >= 4.5, (text, paper)
    for state in ("good", "bad", "wait"):
        for paper in ("card", f"{state}-paper"):
            assert contrast(named[state], named[paper]) >= 4.5, (state, paper)
    for drawn in ("bar", "drilled", "bad"):
        assert contrast(named[drawn], named["card"]) >= 3, drawn
