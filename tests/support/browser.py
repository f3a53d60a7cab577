"""A real Chromium without a window, from Debian, driven by Selenium: what a page looks like, and what it asks for."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

PACKAGES = {"chromium": "chromium", "chromium-driver": "chromedriver"}
_FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars"),
    *("disable-background-networking", "disable-component-update", "disable-sync", "force-color-profile=srgb"),
)
_HEIGHT = 900


@dataclass(frozen=True)
class Browser:
    """driver: Selenium's; whatever it can do, a test may."""

    driver: webdriver.Chrome

    def open(self, page: Path, *, width: int, scheme: str) -> None:
        """Show a file as on a screen of so many pixels. scheme: light or dark."""
        size = {"width": width, "height": _HEIGHT, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        wish = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)
        self.driver.get(page.as_uri())

    def ask(self, script: str) -> Any:
        """What an expression in JavaScript is worth on the page."""
        return self.driver.execute_script(f"return {script}")

    def picture(self, to: Path, *, width: int, height: int) -> None:
        """Write the upper part of the page as a PNG, whatever fits onto the screen."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        wish = {"captureBeyondViewport": True, "clip": clip}
        to.write_bytes(base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", wish)["data"]))

    def told(self) -> list[str]:
        """What the console says, such as of what a page was kept from doing."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def asked(self) -> set[str]:
        """Every address that pages have asked for since this was last called."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))  # type: ignore[no-untyped-call]
        return {one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"}


@contextmanager
def running() -> Iterator[Browser]:
    """Give a browser of its own, without a past."""
    with TemporaryDirectory(prefix="pgbackup-chromium-") as profile:
        options = Options()
        options.binary_location = "/usr/bin/chromium"
        for flag in (*_FLAGS, f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
