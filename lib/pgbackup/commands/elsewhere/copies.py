"""The copies of a database at a place elsewhere, as the place lists them: read as if a stranger had written it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgbackup.commands import places
from pgbackup.errors import BackupBad, ConfigurationError, NoBackup
from pgbackup.formats import copies, names
from pgbackup.remotes.place import Object, Place
from pgbackup.settings.config import Settings, Target

_MOST_SHOWN = 10


@dataclass(frozen=True)
class Copies:
    """The copies of one database at a place. called: the place on the command line; host: whose copies they are."""

    place: Place
    called: str
    host: str
    target: Target


@dataclass(frozen=True)
class Copy:
    """One copy of a backup. file: the backup's name; found: the object; doubt: why it is passed over, or ""."""

    file: str
    said: names.Named
    found: Object
    doubt: str

    @property
    def encrypted(self) -> bool:
        return self.found.name.endswith(copies.ENCRYPTED)


def at(settings: Settings, target: Target, called: str) -> Copies:
    """Given a place's name in OFFSITE, return the copies there. Raise UsageError for a name that is not in it."""
    return Copies(places.connected(settings, settings.place(called)), called, places.host(settings), target)


def listed(there: Copies) -> list[Copy]:
    """The copies of the database's backups, the newest name first. Raise NoBackup where this host has none there."""
    under = copies.dumps(there.host, there.target.directory)
    found = []
    for one in there.place.list(under):
        file = copies.file_in(under, one.name)
        said = names.parse(there.target.database, file) if file else None
        if file and said:
            found.append(Copy(file, said, one, copies.implausible(said, one.modified)))
    if not found:
        require_host(there)
    return sorted(found, key=lambda copy: (copy.said.taken, copy.file), reverse=True)


def require_host(there: Copies) -> None:
    """Raise NoBackup where nothing of this host is there: on a new one, which has another name."""
    hosts = sorted({one.name.partition("/")[0] for one in there.place.list("") if "/dumps/" in one.name})
    if there.host not in hosts:
        others = ", ".join(hosts[:_MOST_SHOWN]) or "none"
        raise NoBackup(
            f"there are no copies of a host '{there.host}' at '{there.called}'; of these there are: {others}",
            f"say which host's they are: OFFSITE_HOST={hosts[0] if hosts else 'NAME'} in .env",
        )


def chosen(there: Copies, typed: str, found: Sequence[Copy]) -> Copy:
    """The copy of the file that was typed, or the newest one for `…_LATEST…`. Raise NoBackup, BackupBad. Pure."""
    file = copies.plain(typed)
    if file == names.latest(there.target.database):
        able = [copy for copy in found if not copy.doubt and not copy.said.manual]
        if not able:
            raise NoBackup(f"there is no copy of '{there.target.database}' at '{there.called}'", see(there))
        return able[0]
    for copy in found:
        if copy.file == file:
            if copy.doubt:
                raise BackupBad(f"'{copy.file}' at '{there.called}' is not to be believed: {copy.doubt}", see(there))
            return copy
    raise NoBackup(f"there is no copy of a file '{file}' at '{there.called}'", see(there))


def see(there: Copies) -> str:
    return f"see what there is: restore-postgres.sh {there.target.name} --from {there.called} --list"


def require_key(settings: Settings, called: str, file: str | None) -> None:
    """Raise ConfigurationError before anything is asked or fetched, where the place's copies need a key."""
    if settings.place(called).encrypted and not file:
        raise ConfigurationError(
            f"the copies at '{called}' are encrypted: a key is needed", "--key FILE, or --key - to type it"
        )


def command(there: Copies, copy: Copy) -> str:
    """What restores that copy."""
    key = " --key FILE" if copy.encrypted else ""
    return f"restore-postgres.sh {there.target.name} --from {there.called} {copy.file}{key}"
