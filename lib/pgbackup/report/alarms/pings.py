"""The dead man's pings of a run, by the protocol of Healthchecks: start, success, or failure with the exit status.

They never hold a run up: a start goes out beside the work, and after the work there is a limit of a few seconds. A ping
that is not heard changes no exit status; its URL is a secret, and in no message.
"""

from __future__ import annotations

import http.client
import queue
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

SECONDS = 5.0
_AGENT = {"User-Agent": "pgbackup", "Content-Type": "text/plain; charset=utf-8"}


def address(url: str, ending: str, run: str) -> str:
    """Given a ping's URL, return that of a signal (https://healthchecks.io/docs/http_api/). Pure.

    ending: "start", an exit status, or "" for success. run: its id, by which a start finds its end.
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/") + (f"/{ending}" if ending else "")
    query = f"{parts.query}&rid={run}" if parts.query else f"rid={run}"
    return SplitResult(parts.scheme, parts.netloc, path, query, "").geturl()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the check's secret to another host."""

    def redirect_request(self, *_args: object, **_more: object) -> None:
        return None


@dataclass
class Pings:
    """The pings of one run. urls: what it pings, as `backup` or `backup/auth`, to its URL."""

    urls: Mapping[str, str] = field(repr=False)
    unheard: dict[str, str] = field(default_factory=dict)
    _run: str = field(default_factory=lambda: str(uuid.uuid4()))
    _jobs: queue.Queue[tuple[str, str, str]] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        if self.urls:
            threading.Thread(target=self._work, daemon=True).start()

    def start(self) -> None:
        """Say that the work begins. It is not waited for."""
        for name in self.urls:
            self._jobs.put((name, "start", ""))

    def end(self, name: str, status: int, text: str) -> None:
        """Say how it ended. status: the exit status; text: one short line without data."""
        if name in self.urls:
            self._jobs.put((name, str(status) if status else "", text))

    def close(self) -> dict[str, str]:
        """Wait until all is sent, a few seconds at most; return which was not heard, and why."""
        deadline = time.monotonic() + SECONDS
        while self._jobs.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._jobs.unfinished_tasks:
            for name in self.urls:
                self.unheard.setdefault(name, f"no answer within {SECONDS:g} s")
        return dict(self.unheard)

    def _work(self) -> None:
        while True:
            name, ending, text = self._jobs.get()
            if why := _sent(address(self.urls[name], ending, self._run), text):
                self.unheard[name] = why
            elif ending != "start":
                self.unheard.pop(name, None)
            self._jobs.task_done()


def _sent(url: str, text: str) -> str:
    """Send one; return "" where it was heard, else why not."""
    opener = urllib.request.build_opener(_NoRedirect)
    request = urllib.request.Request(url, data=text.encode(), headers=_AGENT, method="POST")  # noqa: S310  checked
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            return "" if 200 <= answer.status < 300 else f"HTTP {answer.status}"
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except urllib.error.URLError as error:
        return str(error.reason) if isinstance(error.reason, OSError) else type(error).__name__
    except (OSError, ValueError, http.client.HTTPException) as error:
        return type(error).__name__
