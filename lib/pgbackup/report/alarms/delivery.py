"""Hands one message to one channel, within a limit of time, and says why it was not taken."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from pgbackup import proc
from pgbackup.errors import Unavailable
from pgbackup.host.channels import Channel
from pgbackup.store.state.alarms import Message

SECONDS = 30
_PROGRAM = Path(__file__).with_name("one_message.py")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def deliver(channel: Channel, message: Message) -> str:
    """Return "" where the channel has taken the message, else why not, in one line without a secret.

    Raise Interrupted on a signal.
    """
    try:
        return _by_command(channel, message) if channel.command else _by_apprise(channel, message)
    except proc.NoAnswer:
        return f"no answer within {SECONDS} s"
    except Unavailable as error:
        return error.message


def _by_command(channel: Channel, message: Message) -> str:
    variables = proc.environment(extra={"ALERT_LEVEL": message.level})
    with proc.fed(f"{message.subject}\n\n{message.body}\n".encode()) as given:
        ended = proc.run(channel.command, seconds=SECONDS, stdin=given, variables=variables)
    return f"it ended with {ended.status}" if ended.status else ""


def _by_apprise(channel: Channel, message: Message) -> str:
    """The URL goes by stdin: neither the arguments nor the environment of a process may show it."""
    told = {"url": channel.url, "level": message.level, "title": message.subject, "body": message.body}
    proxies = {key: value for key, value in os.environ.items() if key.lower() in _PROXIES}
    argv = [sys.executable, "-I", "-X", "utf8", str(_PROGRAM)]
    with proc.fed(json.dumps(told).encode()) as given:
        ended = proc.run(argv, seconds=SECONDS, stdin=given, variables=proc.environment(extra=proxies))
    try:
        said = json.loads(ended.stdout)
        return "" if said["told"] is True else str(said["why"])
    except (ValueError, KeyError, TypeError):
        # What it wrote to stderr may show the URL.
        return f"the program that sends it ended with {ended.status}"
