"""The status of a host: facts, promises, and what would come back if it died now. All that is told is drawn from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from pgbackup.report.promises.facts import Facts
from pgbackup.report.promises.promise import BROKEN, Promise


@dataclass(frozen=True)
class Rescue:
    """What comes back of one database if this host dies now: from the best place elsewhere.

    moment: which one, None for nothing, and why then says why. place: of OFFSITE; file: the backup's name, "" where it
    has expired here. recipients: whose keys each open it, none where it is not encrypted; proven: when the last of
    those keys was proven. seconds: how long a restore takes, the median of measured: how many restores and drills
    say so, 0 for never measured; fetched: whether they include the way back from that place. drilled: when a backup of
    it last passed a drill. by_wal: the moment is reached by WAL that lies there, and not by a dump alone.
    """

    name: str
    moment: datetime | None
    why: str = ""
    place: str = ""
    file: str = ""
    encrypted: bool = False
    recipients: tuple[str, ...] = ()
    proven: datetime | None = None
    seconds: float | None = None
    measured: int = 0
    fetched: bool = False
    drilled: datetime | None = None
    by_wal: bool = False


@dataclass(frozen=True)
class Status:
    """now: when this was true, UTC. promises: broken ones first, then kept ones, then those that nobody wants.

    rescues: one for each of DATABASES, in their order.
    """

    now: datetime
    facts: Facts
    promises: tuple[Promise, ...]
    rescues: tuple[Rescue, ...]

    @property
    def host(self) -> str:
        return self.facts.host

    @property
    def broken(self) -> tuple[Promise, ...]:
        return tuple(promise for promise in self.promises if promise.state == BROKEN)

    def with_remedies(self, spelled: Callable[[str], str]) -> Status:
        """The same with what to type spelled for those who read it."""
        return replace(self, promises=tuple(replace(one, remedy=spelled(one.remedy)) for one in self.promises))

    def of(self, subject: str) -> tuple[Promise, ...]:
        """The promises about one database, place or schedule; "" for those about the host."""
        return tuple(promise for promise in self.promises if promise.subject == subject)
