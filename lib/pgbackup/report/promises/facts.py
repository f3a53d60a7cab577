"""The facts that promises are judged by and that page, metrics and screen draw: what the commands have left behind.

All instants are UTC and know it; sizes are bytes, durations seconds. Lists of events are newest first. Texts may hold
anything that a database or a file can be called: whoever shows them escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pgbackup.store.state.ledger import Exercise, Run


@dataclass(frozen=True)
class Backup:
    """A backup that is there. taken: the moment that it shows; seconds: how long its run took, 0.0 where not known.

    verified: when it was last read to its last byte and was good (a published backup was read back once); problem: why
    it is bad, "" for a good one. drilled: when it has passed its last drill; drill_failed: why that failed, or "".
    """

    file: str
    taken: datetime
    bytes: int
    sql_bytes: int
    rows: int
    seconds: float
    verified: datetime | None
    problem: str = ""
    drilled: datetime | None = None
    drill_failed: str = ""


@dataclass(frozen=True)
class Database:
    """One of DATABASES. backups: the newest ones, up to some hundreds; files, bytes: of all that are there.

    begun: since when backups of it are made, as far as is known; None where there was none yet. verified: when all of
    them were last read. drilled: when one of them, or a moment, last passed a drill. running: since when a backup of it
    is being made, None for none. unknown: which state could not be read, by file: why, and what to type; then the rest
    is what could be seen without it.
    """

    name: str
    database: str
    container: str
    directory: str
    backups: tuple[Backup, ...] = ()
    files: int = 0
    bytes: int = 0
    attempts: tuple[Run, ...] = ()
    exercises: tuple[Exercise, ...] = ()
    begun: datetime | None = None
    verified: datetime | None = None
    drilled: datetime | None = None
    running: datetime | None = None
    unknown: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Copies:
    """A place of OFFSITE. newest: by name of DATABASES, when the newest backup that is there was taken; newest_file:
    its name, "" where that is not known.

    succeeded, tried: when a run last found everything there, when one last tried. failures: since it last succeeded;
    error: of the last of them. objects, bytes: that were ever confirmed. required: whether its failure fails a run.
    wal: by the directory of an archive, up to when each commit is there, beside a base backup that it can be added to.
    """

    place: str
    required: bool
    encrypted: bool
    newest: Mapping[str, datetime]
    newest_file: Mapping[str, str] = field(default_factory=dict)
    succeeded: datetime | None = None
    tried: datetime | None = None
    failures: int = 0
    error: str = ""
    objects: int = 0
    bytes: int = 0
    unknown: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    wal: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class Archive:
    """The WAL archive of a cluster. names: the DATABASES in it. since, until: the newest window that can be recovered
    without a gap; None for none. confirmed: up to when everything the server had written is in the archive.

    trouble: what the receiver waits for, "" for nothing. base, base_bytes: the newest base backup. gap: why the window
    does not reach to now, "" where it does.
    """

    directory: str
    names: tuple[str, ...]
    since: datetime | None
    until: datetime | None
    confirmed: datetime | None
    base: datetime | None
    base_bytes: int = 0
    bases: int = 0
    base_every_days: int = 1
    trouble: str = ""
    gap: str = ""
    unknown: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Key:
    """A recipient of copies elsewhere. proven: when somebody last showed that its private half still exists."""

    recipient: str
    proven: datetime | None


@dataclass(frozen=True)
class Schedule:
    """A run that recurs. what: backup, verify, drill, offsite or status. how: systemd or cron, "" for not installed.

    next: when it runs next, None where nobody knows; then problem says why. interval: the longest time between two of
    its runs in seconds, None where that is not known.
    """

    what: str
    how: str
    next: datetime | None
    problem: str = ""
    interval: float | None = None


@dataclass(frozen=True)
class Disk:
    """The disk of BACKUP_DIR. wanted: for the next three backups of each database and what goes with them."""

    free: int
    total: int
    wanted: int


@dataclass(frozen=True)
class Finding:
    """What a probe of coverage has found. kind: database (no job has it), unreadable (tables that the role may not
    read), unlogged, tablespace, large objects, roles, unreachable (a server that did not answer), gone (a job's
    database that is not there).

    ignored: the reason that IGNORE gives, "" for none. harmless: only worth knowing, breaks no promise.
    """

    kind: str
    container: str
    database: str
    what: str
    ignored: str = ""
    harmless: bool = False


@dataclass(frozen=True)
class Coverage:
    """The last probe. databases: how many were found, on how many servers; findings: what is not wholly covered.

    problem: why nothing could be asked, "" where it could.
    """

    probed: datetime
    servers: int
    databases: int
    findings: tuple[Finding, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Alarms:
    """channels: how many there are, none means that nobody is told. tested: when test-alarms.sh last saw all arrive.

    undelivered: messages in the outbox that could not be delivered yet; oldest: since when; problem: why. lost: those
    that were given up so far.
    """

    channels: int = 0
    tested: datetime | None = None
    undelivered: int = 0
    oldest: datetime | None = None
    problem: str = ""
    lost: int = 0


@dataclass(frozen=True)
class Facts:
    """What is known of this host. awake_since: when it was started or last woke up, away_since: when it was last seen
    awake before that; None where nobody knows.

    schedules: of the runs that are wanted. keys: of the recipients, where a place is encrypted. coverage: None where it
    was never probed. unknown: state of the host that could not be read, as in Database.
    """

    host: str
    backup_dir: str
    databases: tuple[Database, ...]
    copies: tuple[Copies, ...] = ()
    archives: tuple[Archive, ...] = ()
    keys: tuple[Key, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    disk: Disk | None = None
    coverage: Coverage | None = None
    alarms: Alarms = field(default_factory=Alarms)
    awake_since: datetime | None = None
    away_since: datetime | None = None
    unknown: Mapping[str, tuple[str, str]] = field(default_factory=dict)
