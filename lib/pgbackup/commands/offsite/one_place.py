"""One place elsewhere, opened for copies, and what is to go there. What came of it is in its Copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pgbackup.commands import places
from pgbackup.commands.offsite import deciding
from pgbackup.commands.offsite.deciding import Decision, Source
from pgbackup.errors import BackupBad, ConfigurationError, NoBackup, SuiteError
from pgbackup.formats import copies as named
from pgbackup.remotes.place import Place
from pgbackup.report.result import instant
from pgbackup.settings.config import Offsite, Settings, Target
from pgbackup.store import catalog, folder
from pgbackup.store.folder import Folder
from pgbackup.store.offsite import index, progress
from pgbackup.store.offsite.index import Entry, Index
from pgbackup.store.offsite.progress import State
from pgbackup.store.state import keys, statefile


@dataclass
class Copies:
    """What came of one place. copied: its new copies of backups; along: of what goes with them; archived: of base
    backups and WAL. newest: as in State.

    waiting: backups that are not there yet.
    problems: of objects and backups, by name, that stop only themselves; lacking: of databases without a backup.
    verification_key: that the index there was signed for in this run, or ""; taken_back: entries learned from there.
    """

    place: str
    required: bool
    copied: list[Entry] = field(default_factory=list)
    along: list[Entry] = field(default_factory=list)
    archived: list[Entry] = field(default_factory=list)
    waiting: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    newest: dict[str, datetime] = field(default_factory=dict)
    verification_key: str = ""
    taken_back: int = 0
    seconds: float = 0.0
    paused: bool = False
    status: int = 0
    error: str = ""
    hint: str | None = None

    def fail(self, error: SuiteError) -> None:
        """Note what has stopped the place's turn."""
        self.status, self.error, self.hint = error.status, error.message, error.hint

    def rest(self, state: State) -> None:
        """Note that the place is not tried now: it failed, and its pause is not over."""
        until = progress.next_try(state)
        again = f"; it is tried again at {until.astimezone():%H:%M:%S}" if until else ""
        self.paused, self.status = True, state.status
        self.error = f"not tried, for it failed {state.failures} times; last: {state.error}{again}"
        self.hint = f"at once: copy-backups.sh --to {self.place} --now"

    def status_of_problems(self) -> int:
        """The status for what has not stopped the place's turn."""
        return BackupBad.status if self.problems else NoBackup.status if self.lacking else 0

    def word(self) -> str:
        """How it went, in a table."""
        if self.paused:
            return f"resting ({self.status})"
        if self.status:
            return f"{'stopped' if self.status > 128 else 'failed'} ({self.status})"
        return "copied" if self.copied or self.archived else "complete"


@dataclass(frozen=True)
class Elsewhere:
    """A place, ready for use. host: what this host is called there. recipients: nobody where nothing is encrypted."""

    offsite: Offsite
    host: str
    place: Place
    recipients: tuple[str, ...]
    top: Folder


def elsewhere(settings: Settings, offsite: Offsite, top: Folder) -> Elsewhere:
    """Make the place ready; it is not asked anything yet. Raise ConfigurationError where nobody could decrypt."""
    host, place = places.host(settings), places.connected(settings, offsite)
    return Elsewhere(offsite, host, place, recipients(settings, offsite), top)


@contextmanager
def own(top: Folder, offsite: Offsite) -> Iterator[Folder]:
    """Open that directory, made where it is missing. Raise as folder.opened() does."""
    path = progress.path_of(top.path, offsite.name)
    with folder.opened(path.parent, create=True), folder.opened(path, create=True) as place:
        yield place


def known(top: Folder, offsite: Offsite) -> Index:
    """What a place has confirmed so far; nothing is made. Raise BackupBad."""
    path = progress.path_of(top.path, offsite.name)
    if not path.exists():
        return Index({}, index.FIRST)
    with folder.opened(path, create=False) as place:
        return index.read(place, index.DUMPS)


def recipients(settings: Settings, offsite: Offsite) -> tuple[str, ...]:
    """Whom the copies there are encrypted for; nobody where they are not. Raise ConfigurationError."""
    if not offsite.encrypted:
        return ()
    found = keys.recipients(settings.encryption_recipients).current
    if not found:
        raise ConfigurationError(
            f"copies to '{offsite.name}' are to be encrypted, and there is no key to encrypt for",
            "make one: sudo setup-encryption.sh",
        )
    return found


def decided(where: Elsewhere, targets: Sequence[Target], sent: Index, copies: Copies) -> Decision:
    """Look at what lies here and there. A database without any proven backup is a problem of `copies`."""
    sources = [source for target in targets for source in _sources(where, target, sent, copies)]
    there = {one.name: one for one in where.place.list(named.all_dumps(where.host))}
    decision = deciding.decide(sources, sent.entries, there)
    copies.waiting = len(decision.to_copy)
    copies.problems |= decision.problems
    for source in decision.gone:
        copies.warnings.append(f"'{source.name}' was at '{where.offsite.name}' and is gone there: it is copied again")
    for source in decision.there:
        is_there(source, copies)
    return decision


def _sources(where: Elsewhere, target: Target, sent: Index, copies: Copies) -> list[Source]:
    """The proven backups of a database. None at all is told: a disk that is not mounted looks so, too."""
    path = where.top.path / target.directory
    backups = []
    if path.exists():
        with folder.opened(path, create=False) as place:
            backups = catalog.listing(place, target.database)
    proven = [backup for backup in backups if deciding.is_proven(backup)]
    if not proven:
        above = named.dumps(where.host, target.directory)
        before = sum(name.startswith(f"{above}/") for name in sent.entries)
        lost = f", though {before} of them were copied before: is its disk mounted?" if before else ""
        copies.lacking[target.name] = f"there is no proven backup of '{target.database}' in '{path}'{lost}"
    encrypted = where.offsite.encrypted
    return [
        Source(target, one, named.dump(where.host, target.directory, one.name, encrypted=encrypted)) for one in proven
    ]


def names_here(top: Folder, target: Target, host: str, *, encrypted: bool) -> list[str]:
    """The objects that the proven backups of a database here become, or have become."""
    path = top.path / target.directory
    if not path.exists():
        return []
    with folder.opened(path, create=False) as own:
        proven = [one for one in catalog.listing(own, target.database) if deciding.is_proven(one)]
    return [named.dump(host, target.directory, one.name, encrypted=encrypted) for one in proven]


def is_there(source: Source, copies: Copies) -> None:
    """Note that a backup is at the place."""
    taken = statefile.to_the_second(source.backup.taken)
    copies.newest[source.target.name] = max(copies.newest.get(source.target.name, taken), taken)


def entry_of(copies: Copies) -> dict[str, Any]:
    """What came of the place, for the JSON document."""
    return {
        "place": copies.place,
        "required": copies.required,
        "status": copies.status,
        "error": copies.error,
        "hint": copies.hint,
        "paused": copies.paused,
        "copied": [{"object": one.name, "object_bytes": one.bytes, "copied": one.copied} for one in copies.copied],
        "along": [one.name for one in copies.along],
        "archived_objects": len(copies.archived),
        "archived_bytes": sum(one.bytes for one in copies.archived),
        "waiting": copies.waiting,
        "problems": [
            {"name": name, "problem": problem} for name, problem in {**copies.problems, **copies.lacking}.items()
        ],
        "warnings": copies.warnings,
        "newest": {name: instant(when) for name, when in copies.newest.items()},
        "verification_key": copies.verification_key,
        "taken_back": copies.taken_back,
        "seconds": copies.seconds,
    }
