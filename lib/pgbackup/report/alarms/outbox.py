"""The outbox: each message goes to each channel until it has arrived, and every step is on disk before the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timezone
from functools import partial
from typing import TypeVar

from pgbackup.host.channels import Channel
from pgbackup.store.folder import Folder
from pgbackup.store.state import alarms
from pgbackup.store.state.alarms import Alarms, Message

Deliver = Callable[[Channel, Message], str]
_SECONDS = 90  # after which a channel's turn begins no further message
_PATIENCE = 3  # failures in a row, after which the newest message is tried instead of the oldest
_TICK_SECONDS = 0.1
_Made = TypeVar("_Made")


def send(place: Folder, held: Alarms, channels: Sequence[Channel], deliver: Deliver, unwritten: list[str]) -> Alarms:
    """Hand what waits to the channels, to all of them at the same time, and return what then is known.

    A channel that fails is left alone for a while: a minute, then twice as long each time, up to an hour. The lock of
    the alarms is the caller's. What cannot be written down is added to `unwritten`, and would be told once more. Raise
    Interrupted on a signal.
    """
    guard = threading.Lock()
    ends = time.monotonic() + _SECONDS

    def changed(change: Callable[[Alarms], Alarms]) -> None:
        nonlocal held
        with guard:
            held = change(held)
            keep(place, held, unwritten)

    def one(channel: Channel) -> None:
        failure = held.failure(channel.key)
        if failure and failure.is_paused(datetime.now(timezone.utc)):
            return
        waiting = {number: one for number, one in held.messages().items() if channel.key in one.left}
        for number, message in waiting.items():
            if time.monotonic() > ends:
                return
            if why := deliver(channel, message):
                newest = list(waiting)[-1]
                # A message that this channel will never take must not keep back all that come after it.
                refused = failure is not None and failure.count >= _PATIENCE and number != newest
                if not refused or deliver(channel, waiting[newest]):
                    changed(partial(alarms.failed, channel=channel.key, why=why, now=datetime.now(timezone.utc)))
                    return
                changed(partial(alarms.delivered, number=newest, channel=channel.key))
                changed(partial(alarms.given_up, number=number, channel=channel.key))
                return
            changed(partial(alarms.delivered, number=number, channel=channel.key))

    if held.outbox:
        _each(channels, one)
    return held


def send_now(message: Message, channels: Sequence[Channel], deliver: Deliver) -> dict[str, str]:
    """Hand one message to all channels at once, past the outbox; return why each has not taken it, "" where it has.

    By the channels' keys. Raise Interrupted on a signal.
    """
    said = _each(channels, lambda channel: deliver(channel, message))
    return dict(zip([channel.key for channel in channels], said, strict=True))


def _each(channels: Sequence[Channel], work: Callable[[Channel], _Made]) -> list[_Made]:
    with ThreadPoolExecutor(min(8, len(channels))) as pool:
        begun = [pool.submit(work, channel) for channel in channels]
        while wait(begun, _TICK_SECONDS).not_done:
            pass  # awake often: Python runs signal handlers in this thread only
        return [done.result() for done in begun]


def keep(place: Folder, held: Alarms, unwritten: list[str]) -> None:
    """Write down what is known; what cannot be written must not keep a message from going out."""
    try:
        alarms.write(place, held)
    except OSError as error:
        unwritten.append(f"'{place.path}': {error.strerror}")
