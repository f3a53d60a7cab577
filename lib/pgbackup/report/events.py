"""One stream of events: what a run does is said once; log, terminal and history are drawn from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

INFO, WARNING, ERROR = "INFO", "WARNING", "ERROR"


@dataclass(frozen=True)
class Event:
    """level: INFO, WARNING or ERROR. target: a name of DATABASES, `-` for the run itself. name: `backup.published`.

    facts: what programs read in backup.log. said: the line that people see, "" where they need none. record: the line
    of restore-history.jsonl, None where the event is none of a restore's ends.
    """

    level: str
    target: str
    name: str
    facts: Mapping[str, object] = field(default_factory=dict)
    said: str = ""
    record: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Events:
    """subscribers: each gets every event, in this order."""

    subscribers: tuple[Callable[[Event], None], ...]

    def emit(self, event: Event) -> None:
        for subscriber in self.subscribers:
            subscriber(event)
