"""A promise: what it is about, whether it is kept, and what to type where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

# The kinds, in the order in which they are told.
STATE = "state"  # what the commands remember can be read
BACKUP = "backup"  # a database has a good backup that is fresh enough
VERIFY = "verify"  # its backups were read to the last byte not long ago, and none is bad
DRILL = "drill"  # one of them was really restored and compared not long ago
COPY = "copy"  # a place elsewhere has a fresh copy of each database
WAL = "wal"  # a cluster's WAL is in the archive up to a moment ago
BASE = "base"  # its newest base backup is fresh enough
KEY = "key"  # somebody has shown that the key of a recipient still exists
ALARM = "alarm"  # the channels of alarms were tried out
ROOM = "room"  # the disk has room for the next three backups
SCHEDULE = "schedule"  # a schedule is installed, and its next run is known
COVERAGE = "coverage"  # every database that a server here has is backed up, wholly
KINDS = (STATE, BACKUP, VERIFY, DRILL, COPY, WAL, BASE, KEY, ALARM, ROOM, SCHEDULE, COVERAGE)

TITLES = {
    STATE: "state readable",
    BACKUP: "backup made",
    VERIFY: "backups verified",
    DRILL: "backup drilled",
    COPY: "copied elsewhere",
    WAL: "WAL confirmed",
    BASE: "base backup made",
    KEY: "key proven",
    ALARM: "alarms tested",
    ROOM: "room for three backups",
    SCHEDULE: "schedule installed",
    COVERAGE: "every database covered",
}

KEPT, BROKEN, NOT_WANTED = "kept", "broken", "not wanted"


@dataclass(frozen=True)
class Promise:
    """kind: one of KINDS. subject: a name of DATABASES or OFFSITE, a cluster's directory, a recipient, the word of a
    schedule (backup, verify, drill, offsite, status), or "" for the host. state: KEPT, BROKEN or NOT_WANTED.

    last: the instant (UTC) at which it was last fulfilled, None for never or where no instant can say. limit: how old
    that may be, in seconds, None where age is not the question. since: since when it is broken, None where it is not
    or nobody knows. by: by how many seconds it is past its limit, 0.0 where it is not. reason: one sentence, without
    its first capital and its full stop. remedy: what to type; "" where it is kept.
    tell_from: a broken promise is told from this instant on, None: at once. Until then a run that mends it is under
    way, or due because the host was down.
    """

    kind: str
    subject: str
    state: str
    last: datetime | None
    limit: float | None
    since: datetime | None
    by: float
    reason: str
    remedy: str
    tell_from: datetime | None = None

    @property
    def key(self) -> str:
        """What it is called where states are compared: the same from one evaluation to the next."""
        return f"{self.kind}:{self.subject}"

    @property
    def title(self) -> str:
        """What it is called for people."""
        return TITLES[self.kind]

    def is_to_be_told(self, now: datetime) -> bool:
        """Whether an alarm may go out for it now. Pure."""
        return self.state == BROKEN and (self.tell_from is None or now >= self.tell_from)
