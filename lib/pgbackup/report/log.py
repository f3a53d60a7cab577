"""backup.log: what happened, one event per line, for people with grep and for monitoring.

`2024-01-15 02:00:03+0300 INFO auth event=backup.published file=auth_db_20240115_020000.sql.gz`
The file is opened for each line: a rotation in mid-run loses nothing, and no descriptor goes stale.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from dataclasses import dataclass, field

from pgbackup.report import redaction
from pgbackup.report.events import Event
from pgbackup.report.typeable import typeable
from pgbackup.store.folder import Folder, lacks

LOG_NAME = "backup.log"
_MODE = 0o640


def escaped(value: object) -> str:
    """Given a value, return it on one line: control characters escaped, quoted if it has blanks or quotes."""
    text = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in str(value).replace("\\", "\\\\")
    )
    if text and not any(char in text for char in ' "='):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def line(event: Event, now: float) -> str:
    """Given an event, return its line with a final newline, without values of rows that a server has quoted.

    now: seconds since the epoch. Pure but for TZ.
    """
    stamp = time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(now))
    words = [
        stamp,
        event.level,
        event.target,
        f"event={event.name}",
        *(f"{key}={escaped(_plain(value))}" for key, value in event.facts.items()),
    ]
    return " ".join(words) + "\n"


def _plain(value: object) -> object:
    return redaction.without_values(value) if isinstance(value, str) else value


@dataclass
class EventLog:
    """The log of one run. A line that cannot be written is told on stderr and remembered in `failures`."""

    folder: Folder
    failures: list[str] = field(default_factory=list)

    def write(self, event: Event) -> None:
        """Append the event's line. Nothing is raised."""
        try:
            self._append(line(event, time.time()).encode("utf-8", "backslashreplace"))
        except OSError as error:
            if not self.failures:
                say(f"pgbackup: cannot write '{self.folder.path / LOG_NAME}': {error.strerror}")
            self.failures.append(str(error.strerror))

    def _append(self, data: bytes) -> None:
        descriptor = self.folder.open(LOG_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise OSError(0, "it is not a plain file of its own")
            if status.st_size == 0:
                self._hand_over(descriptor)
            if os.write(descriptor, data) != len(data):
                raise OSError(0, "the line was cut short")
        finally:
            os.close(descriptor)

    def _hand_over(self, descriptor: int) -> None:
        try:
            os.fchmod(descriptor, _MODE)
        except OSError as error:
            if not lacks(error):
                raise
        self.folder.adopt(descriptor)


def with_hint(sentence: str, hint: str | None) -> str:
    """A sentence with what to type below it, if anything."""
    return f"{sentence}\n{advice(hint)}" if hint else sentence


def advice(hint: str) -> str:
    """The line that says what to do, its scripts as they are typed from here."""
    return f"Hint: {typeable(hint)}"


def say(text: str) -> None:
    """Write a line to stderr; a closed or full stderr must not change what the run does."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
