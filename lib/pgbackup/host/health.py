"""Asks a service's health URL until it is well, as the guide does with `curl -k`."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

from pgbackup import interrupt

_PAUSE_SECONDS = 0.5
_ANSWER_SECONDS = 5.0


def _context(authority: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority) if authority else None)
    if authority is None:
        # The guide's `-k`: on localhost behind a self-signed certificate nobody else is asked.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def wait(url: str, authority: Path | None, seconds: float) -> str:
    """Ask until the answer is 2xx; return "" then, or after `seconds` what the last answer was.

    authority: a file of certificates to check against; without one any certificate is taken.
    """
    deadline = time.monotonic() + seconds
    while True:
        interrupt.check()
        try:
            status = _ask(url, authority)
            if 200 <= status < 300:
                return ""
            last = f"HTTP {status}"
        except urllib.error.HTTPError as error:
            last = f"HTTP {error.code}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            last = str(getattr(error, "reason", error)) or type(error).__name__
        if time.monotonic() >= deadline:
            return last
        time.sleep(_PAUSE_SECONDS)


def _ask(url: str, authority: Path | None) -> int:
    """Ask once, directly: a proxy for the outside world knows nothing of a service on this host."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_context(authority))
    )
    with opener.open(url, timeout=_ANSWER_SECONDS) as answer:
        return int(answer.status)
