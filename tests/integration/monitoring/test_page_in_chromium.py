"""The status page in a real browser: it can be read, by everybody and everywhere, and asks nobody for anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_core_python.selenium import Axe
from pgbackup.report.page import page
from pgbackup.report.promises.status import Status

from tests.support import browser, examples, many
from tests.support.backups import needs
from tests.support.browser import Browser

WIDTHS = (360, 800, 1280)
EXAMPLES: dict[str, Callable[[], Status]] = {
    **{example.__name__: example for example in examples.ALL},
    "many": lambda: many.status(databases=30, nights=40),
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    needs(**browser.PACKAGES)
    with browser.running() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("pages")
    found = {name: place / f"{name}.html" for name in EXAMPLES}
    for name, path in found.items():
        path.write_text(page.text(EXAMPLES[name]()), encoding="utf-8")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", [example.__name__ for example in examples.ALL])
def test_everybody_can_read_it(chromium: Browser, pages: dict[str, Path], name: str, scheme: str) -> None:
    """axe tells of contrast, headings, names of pictures, landmarks, languages, roles and what else it knows."""
    chromium.open(pages[name], width=360 if scheme == "dark" else 1280, scheme=scheme)
    found = Axe().run(chromium.driver)
    told = [(one["id"], one["help"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found["violations"]]
    assert told == []
    assert len(found["passes"]) > 15, "axe has not looked"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_is_wider_than_the_screen(chromium: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    chromium.open(pages[name], width=width, scheme="light")
    assert chromium.ask("document.documentElement.scrollWidth") == width
    beyond = chromium.ask(
        "[...document.querySelectorAll('body *:not(path)')]"
        ".filter(one => one.getBoundingClientRect().right > innerWidth + 0.5).map(one => one.outerHTML.slice(0, 120))"
    )
    assert beyond == []
    sizes = "[...document.querySelectorAll('main *')].map(one => parseFloat(getComputedStyle(one).fontSize))"
    assert chromium.ask(f"Math.min(...{sizes})") >= 12


def test_light_and_dark_are_two(chromium: Browser, pages: dict[str, Path]) -> None:
    def brightness(scheme: str) -> int:
        chromium.open(pages["several_broken"], width=800, scheme=scheme)
        colour = chromium.ask("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        return int(sum(colour) / 3)

    assert brightness("light") > 220 and brightness("dark") < 40


@pytest.mark.fault(218, "a database that is called like a script, in page and metrics")
@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_runs_and_nobody_is_asked(chromium: Browser, pages: dict[str, Path], name: str) -> None:
    chromium.asked(), chromium.told()
    chromium.open(pages[name], width=800, scheme="light")
    assert {one for one in chromium.asked() if not one.startswith("data:")} == {pages[name].as_uri()}
    assert chromium.told() == []
    assert chromium.ask("document.scripts.length") == 0


@pytest.mark.fault(218, "a database that is called like a script, in page and metrics")
def test_a_script_that_came_in_all_the_same_would_not_run(chromium: Browser, tmp_path: Path) -> None:
    """The checker is checked, too: what should not be there is seen by the tests above."""
    broken = tmp_path / "broken.html"
    smuggled = '<script>document.title = "run"</script><img src="file:///etc/hostname" alt=""></main>'
    broken.write_text(page.text(examples.all_kept()).replace("</main>", smuggled), encoding="utf-8")
    chromium.asked(), chromium.told()
    chromium.open(broken, width=800, scheme="light")
    assert "promises are kept" in chromium.driver.title
    assert any("Content Security Policy" in one for one in chromium.told())
    assert chromium.ask("document.scripts.length") == 1


def test_what_is_wrong_comes_before_everything_else(chromium: Browser, pages: dict[str, Path]) -> None:
    chromium.open(pages["several_broken"], width=1280, scheme="light")
    heads = chromium.ask("[...document.querySelectorAll('h1, h2')].map(one => one.innerText)")
    assert heads[:3] == ["10 of 18 promises are broken", "What is wrong", "If this host died now"]
    assert chromium.ask("document.querySelector('h1').getBoundingClientRect().bottom") < 200
