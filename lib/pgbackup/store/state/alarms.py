"""What was told to whom: which promises are known to be broken, and the messages that are still to be delivered.

One file, replaced in one step: a promise counts as told in the same moment in which its message is in the outbox. It is
small, and a reserve beside it keeps room for it on a full disk, of which it is to tell.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile

LOCK = "alarms"
_NAME, _RESERVE = ".alarms.json", ".alarms.reserve"
_RESERVE_BYTES = 256 << 10
_MOST = 50  # messages that wait; a channel that is away for weeks gets the newest of them
_MOST_BYTES = 512 << 10  # of them all, as they are written
_LONGEST_BODY = 8000
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
LEVELS = ("broken", "reminder", "kept", "test")


@dataclass(frozen=True)
class Message:
    """One message to people. made: when, UTC. level: one of LEVELS. left: the keys of the channels that it has not
    reached; reached: whether it has reached any.
    """

    made: datetime
    level: str
    subject: str
    body: str
    left: tuple[str, ...] = ()
    reached: bool = False

    def written(self) -> str:
        """The message as one text, as read_message() takes it."""
        head = [_told(self.made), self.level, "yes" if self.reached else "no", *self.left]
        return "\n".join([" ".join(head), self.subject, self.body])


def read_message(text: str) -> Message:
    """Given what Message.written() has made, return the message. Raise ValueError."""
    head, subject, body = [*text.split("\n", 2), "", ""][:3]
    made, level, reached, *left = head.split(" ")
    if level not in LEVELS or reached not in ("yes", "no"):
        raise ValueError("a message in it cannot be understood")
    return Message(statefile.instant(made), level, subject, body, tuple(left), reached == "yes")


@dataclass(frozen=True)
class Failure:
    """How a channel fails: how often in a row, since when and when last tried (UTC), and why."""

    count: int
    since: datetime
    tried: datetime
    why: str

    @property
    def next_try(self) -> datetime:
        """When it is tried again: pauses that double, from a minute to an hour."""
        return self.tried + min(_LONGEST_PAUSE, _FIRST_PAUSE * (1 << min(self.count - 1, 10)))

    def is_paused(self, now: datetime) -> bool:
        """Whether it is too early to try again; a clock that was set back since makes no pause longer."""
        return now < self.next_try <= now + _LONGEST_PAUSE


@dataclass(frozen=True)
class Alarms:
    """told: a promise's key to when it broke and when it was last told. outbox: messages by their number, oldest first.

    failing: the key of a channel to how it fails. arrived: to when a test message last arrived there. lost: messages
    that were given up. tested: when all sabotages were last told on all channels. number: of the next.
    """

    told: dict[str, str] = field(default_factory=dict)
    outbox: dict[str, str] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    arrived: dict[str, datetime] = field(default_factory=dict)
    lost: int = 0
    tested: datetime | None = None
    number: int = 1

    def __post_init__(self) -> None:
        for text in self.told.values():
            broke, _, last = text.partition(" ")
            statefile.instant(broke), statefile.instant(last)
        for text in self.outbox.values():
            read_message(text)
        for text in self.failing.values():
            _failure(text)

    def told_of(self) -> dict[str, tuple[datetime, datetime]]:
        """The promises that are known to be broken: since when, and when that was last told."""
        pairs = ((key, text.split(" ")) for key, text in self.told.items())
        return {key: (statefile.instant(broke), statefile.instant(last)) for key, (broke, last) in pairs}

    def messages(self) -> dict[str, Message]:
        """What is to be delivered, oldest first."""
        return {number: read_message(text) for number, text in self.outbox.items()}

    def failure(self, channel: str) -> Failure | None:
        """How a channel fails, None where it does not."""
        return _failure(self.failing[channel]) if channel in self.failing else None

    def has_arrived(self, channels: Collection[str]) -> bool:
        """Whether a test message has arrived on each of the channels at some time."""
        return all(channel in self.arrived for channel in channels)


def _told(moment: datetime) -> str:
    return statefile.to_the_second(moment).isoformat()


def _failure(text: str) -> Failure:
    count, since, tried, why = (text.split(" ", 3) + [""] * 3)[:4]
    if not count.isascii() or not count.isdigit() or int(count[:9]) == 0:
        raise ValueError("how a channel fails cannot be understood")
    return Failure(int(count[:9]), statefile.instant(since), statefile.instant(tried), why)


# --- changes, all of them pure


def with_told(held: Alarms, told: Mapping[str, tuple[datetime, datetime]]) -> Alarms:
    """The same with other promises known to be broken."""
    return replace(held, told={key: f"{_told(broke)} {_told(last)}" for key, (broke, last) in told.items()})


def with_message(held: Alarms, message: Message) -> Alarms:
    """The same with one more message; where too many wait, the oldest is given up."""
    short = message if len(message.body) <= _LONGEST_BODY else replace(message, body=message.body[:_LONGEST_BODY] + "…")
    outbox = {**held.outbox, str(held.number): short.written()}
    lost = held.lost
    while len(outbox) > _MOST or len(json.dumps(outbox)) > _MOST_BYTES:
        del outbox[next(iter(outbox))]
        lost += 1
    return replace(held, outbox=outbox, lost=lost, number=held.number + 1)


def for_channels(held: Alarms, channels: Iterable[str]) -> Alarms:
    """The same for the channels that there are now. Of those that are gone nothing is known any more.

    What waits for nobody but them, and has reached nobody, is to reach all that there are.
    """
    there = tuple(channels)
    outbox = {}
    for number, message in held.messages().items():
        left = tuple(channel for channel in message.left if channel in there)
        if not left and not message.reached:
            left = there
        if left:
            outbox[number] = replace(message, left=left).written()
    failing = {channel: text for channel, text in held.failing.items() if channel in there}
    arrived = {channel: when for channel, when in held.arrived.items() if channel in there}
    return replace(held, outbox=outbox, failing=failing, arrived=arrived)


def delivered(held: Alarms, number: str, channel: str) -> Alarms:
    """The same after a message has reached a channel."""
    return _works(_without(held, number, channel, reached=True), channel)


def given_up(held: Alarms, number: str, channel: str) -> Alarms:
    """The same where a channel will not take a message: it is lost there."""
    return replace(_without(held, number, channel, reached=False), lost=held.lost + 1)


def _without(held: Alarms, number: str, channel: str, *, reached: bool) -> Alarms:
    message = read_message(held.outbox[number])
    left = tuple(other for other in message.left if other != channel)
    outbox = dict(held.outbox)
    if left:
        outbox[number] = replace(message, left=left, reached=message.reached or reached).written()
    else:
        del outbox[number]
    return replace(held, outbox=outbox)


def _works(held: Alarms, channel: str) -> Alarms:
    return replace(held, failing={other: text for other, text in held.failing.items() if other != channel})


def arrived(held: Alarms, channel: str, now: datetime) -> Alarms:
    """The same after a test message has reached a channel."""
    return replace(_works(held, channel), arrived={**held.arrived, channel: statefile.to_the_second(now)})


def failed(held: Alarms, channel: str, why: str, now: datetime) -> Alarms:
    """The same after a channel has not taken a message. why: one line without a secret."""
    before = held.failure(channel)
    count, since = (before.count + 1, before.since) if before else (1, now)
    text = f"{count} {_told(since)} {_told(now)} {' '.join(why.split())}"
    return replace(held, failing={**held.failing, channel: text})


def with_test(held: Alarms, now: datetime) -> Alarms:
    """The same after every sabotage was told on all channels."""
    return replace(held, tested=statefile.to_the_second(now))


# --- the file


def read(place: Folder) -> Alarms:
    """What is known. Raise Unreadable, Newer or PermissionDenied."""
    remedy = f"remove it, then all that is broken is told once more: rm '{place.path / _NAME}'"
    return statefile.read(place, _NAME, Alarms, remedy) or Alarms()


def write(place: Folder, held: Alarms) -> None:
    """Replace what is known, on a full disk out of the reserve. Raise OSError."""
    try:
        statefile.write(place, _NAME, held)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        with suppress(FileNotFoundError):
            place.remove(_RESERVE)
        statefile.write(place, _NAME, held)
        return
    with suppress(OSError):
        _reserve(place)


def _reserve(place: Folder) -> None:
    try:
        descriptor = place.create(_RESERVE)
    except FileExistsError:
        return
    try:
        place.adopt(descriptor)
        os.posix_fallocate(descriptor, 0, _RESERVE_BYTES)
    except OSError:
        place.remove(_RESERVE)
        raise
    finally:
        os.close(descriptor)
