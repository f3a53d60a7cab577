"""One message to one URL of Apprise, in a process of its own: what hangs is killed with it, and nothing else waits.

Started by path. stdin: a JSON object with url, level, title and body. stdout: one with `told`, and `why` it was not.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from urllib.parse import unquote

_SOCKET_SECONDS = 15.0  # a mail server may take its time to greet


def main() -> None:
    given = json.loads(sys.stdin.buffer.read())
    told, why = _sent(given["url"], given["level"], given["title"], given["body"])
    sys.stdout.write(json.dumps({"told": told, "why": without_secrets(why, given["url"])}))


def _sent(url: str, level: str, title: str, body: str) -> tuple[bool, str]:
    import apprise
    from apprise.result import AppriseResultStatus

    # A redirect would carry the message, and what is secret in the URL, to another host.
    asset = apprise.AppriseAsset(app_id="pgbackup", app_desc="pgbackup", http_redirects=False, async_mode=False)
    apprise.URLBase.socket_connect_timeout = apprise.URLBase.socket_read_timeout = _SOCKET_SECONDS
    sender = apprise.Apprise(asset=asset)
    if not sender.add(url):
        return False, "Apprise does not know such a URL, or something is missing in it"
    kinds = {"broken": "failure", "reminder": "warning", "kept": "success", "test": "info"}
    result = sender.notify(
        body, title, notify_type=kinds[level], body_format="text", interpret_escapes=False, log_level=logging.DEBUG
    )
    # Success of all that was asked, and of at least one: an empty result means that nobody was told.
    asked = [each.attempts[-1].status if each.attempts else AppriseResultStatus.FAILURE for each in result.results]
    if asked and all(status == AppriseResultStatus.SUCCESS for status in asked):
        return True, ""
    logs = list(result.logs())
    warned = [entry.message for entry in logs if entry.level in ("WARNING", "ERROR", "CRITICAL")]
    codes = [found[1] for entry in logs if (found := re.search(r"Socket Exception: .*?\((\d{3}), ", entry.message))]
    told = warned[-1] if warned else "nobody was told"
    return False, told + (f" (SMTP {codes[-1]})" if codes else "")


def without_secrets(text: str, url: str) -> str:
    """Return a sentence without any part of the URL but its schema. Pure."""
    parts = re.split(r"[/:@?&=#,;+\s]+", url.partition("://")[2])
    for part in sorted({*parts, *map(unquote, parts)}, key=len, reverse=True):
        if len(part) > 2:
            text = re.sub(re.escape(part), "…", text, flags=re.IGNORECASE)
    return " ".join(text.split())[:300]


if __name__ == "__main__":
    main()
