"""verify-backups.sh --at PLACE: what lies there, whether it is what was sent, and how old it is. Changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from pgbackup.commands import places
from pgbackup.commands.elsewhere.copies import at
from pgbackup.commands.offsite import index_there, judging, one_place
from pgbackup.commands.offsite.judging import READ, Seen
from pgbackup.commands.offsite.wal import there as wal
from pgbackup.errors import BackupBad, NoBackup, overall_status
from pgbackup.formats import copies, gzipped, sealed
from pgbackup.remotes.place import Object, Place
from pgbackup.report.log import advice, say
from pgbackup.report.progress import reporting
from pgbackup.report.result import Result, age, document, instant, size, table
from pgbackup.settings.config import Offsite, Settings, Target
from pgbackup.store import folder
from pgbackup.store.offsite import progress
from pgbackup.store.offsite.index import FIRST, Entry, Index

_SCRIPT = "verify-backups.sh"
_MOST_TOLD = 10


@dataclass
class Checked:
    """One database's copies, the newest first. complaint: why they are not enough, or ""; lost: that are gone."""

    target: Target
    seen: list[Seen]
    complaint: str = ""
    lost: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        if self.lost or any(one.problem for one in self.seen):
            return BackupBad.status
        return NoBackup.status if self.complaint else 0


def run(
    settings: Settings,
    targets: Sequence[Target],
    offsite: Offsite,
    *,
    max_age: timedelta,
    read: bool,
    identities: Sequence[str],
    quiet: bool,
) -> Result:
    """Compare what a place lists with what was sent. Status 65: a copy is bad or gone; 66: none is fresh.

    read: read every copy back; identities: and decrypt it with these keys. Raise what the place raises.
    """
    now = datetime.now(timezone.utc)
    place, host = places.connected(settings, offsite), places.host(settings)
    sent, here = _known(settings, offsite, host, targets)
    listed = place.list(copies.all_dumps(host), hashes=True)
    found, others = judging.judge(host, targets, listed, sent)
    checked = [Checked(target, found[target.name]) for target in targets]
    if read:
        with reporting(quiet) as reporter, reporter.bar("reading", sum(one.bytes for one in listed)) as advance:
            for one in checked:
                one.seen = [_read(place, seen, sent.get(seen.found.name), identities, advance) for seen in one.seen]
    archives = _archives(settings, offsite, targets, identities, read=read, quiet=quiet)
    index_damage = _index_damage(settings, offsite, place, host)
    for one in checked:
        under = f"{copies.dumps(host, one.target.directory)}/"
        mine = [name for name, target in here.items() if target == one.target.name and name.startswith(under)]
        one.lost = judging.lost(sent, listed, mine)
        one.complaint = _complaint(one, offsite, now, max_age)
    _tell(offsite, checked, others)
    for text in index_damage:
        say(f"{_SCRIPT}: {offsite.name}: {text}")
    for found_out in archives:
        for text in (*found_out.damage, *found_out.complaints):
            say(f"{_SCRIPT}: {offsite.name}: {found_out.target}: {text}")
    statuses = [status for status in (*(one.status for one in checked), *(one.status for one in archives)) if status]
    status = BackupBad.status if index_damage or BackupBad.status in statuses else overall_status(statuses)
    told = document(
        "verify --at",
        status,
        started=instant(now),
        place=offsite.name,
        host=host,
        databases=[_entry(one) for one in checked],
        archives=[one.entry() for one in archives],
        index_damage=index_damage,
        passed_over=len(others),
    )
    return Result(status, [*_lines(checked, now), *(line for one in archives for line in one.lines())], told)


def _archives(
    settings: Settings,
    offsite: Offsite,
    targets: Sequence[Target],
    identities: Sequence[str],
    *,
    read: bool,
    quiet: bool,
) -> list[wal.Found]:
    """What was found out about the archives there; databases of one directory share one."""
    first: dict[str, Target] = {}
    for target in targets:
        first.setdefault(target.directory, target)
    known = wal.sent(settings.backup_dir / "offsite" / offsite.name)
    with reporting(quiet) as reporter, reporter.bar("reading WAL", sum(one.bytes for one in known.values())) as advance:
        checked = [
            wal.check(settings, at(settings, target, offsite.name), known, identities, advance if read else None)
            for target in first.values()
        ]
    return [one for one in checked if one]


def _index_damage(settings: Settings, offsite: Offsite, place: Place, host: str) -> list[str]:
    """What is wrong with the index there, as far as this host knows."""
    path = progress.path_of(settings.backup_dir, offsite.name)
    if not path.exists():
        return []
    with folder.opened(path, create=False) as own:
        return index_there.differences(place, host, own)


def _known(
    settings: Settings, offsite: Offsite, host: str, targets: Sequence[Target]
) -> tuple[dict[str, Entry], dict[str, str]]:
    """What was sent, and the objects of the backups that are still here with their database's name.

    Nothing where BACKUP_DIR is not there: on a bare host the place alone tells. Raise BackupBad for a broken index.
    """
    here: dict[str, str] = {}
    sent = Index({}, FIRST)
    if not settings.backup_dir.exists():
        return {}, here
    with folder.opened(settings.backup_dir, create=False, top=True) as top:
        sent = one_place.known(top, offsite)
        for target in targets:
            mine = one_place.names_here(top, target, host, encrypted=offsite.encrypted)
            here |= dict.fromkeys(mine, target.name)
    return sent.entries, here


def _read(place: Place, seen: Seen, entry: Entry | None, identities: Sequence[str], advance: Any) -> Seen:
    """Read one copy from its first to its last byte, and with keys what is in it, too."""
    if seen.problem:
        return seen
    made = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for piece in place.get(seen.found.name):
            made.update(piece)
            advance(len(piece))
            yield piece

    try:
        plain: Iterator[bytes] = pieces()
        encrypted = seen.found.name.endswith(copies.ENCRYPTED)
        if encrypted and identities:
            plain = sealed.opened(plain, identities)
        if not encrypted or identities:
            plain = gzipped.inflated(plain, several=True)
        for _ in plain:
            pass
    except (BackupBad, sealed.WrongKey) as error:
        return replace(seen, problem=error.message)
    if entry and made.hexdigest() != entry.hashes["sha256"]:
        return replace(seen, problem="it is not what was sent: its SHA-256 is another")
    return replace(seen, state=READ)


def _complaint(one: Checked, offsite: Offsite, now: datetime, max_age: timedelta) -> str:
    good = [seen for seen in one.seen if not seen.problem and seen.taken <= now]
    if not good:
        return f"there is no good copy of '{one.target.database}' at '{offsite.name}'"
    if now - good[0].taken > max_age:
        old, limit = age((now - good[0].taken).total_seconds()), max_age / timedelta(hours=1)
        return (
            f"the newest good copy of '{one.target.database}' at '{offsite.name}' is {old} old, more than {limit:g} h"
        )
    return ""


def _tell(offsite: Offsite, checked: Sequence[Checked], others: Sequence[Object]) -> None:
    for one in checked:
        for seen in one.seen:
            if seen.problem:
                say(f"{_SCRIPT}: {offsite.name}: {seen.found.name!r} is bad: {seen.problem}")
        for name in one.lost:
            say(f"{_SCRIPT}: {offsite.name}: {name!r} was copied and is gone")
        if one.complaint:
            say(f"{_SCRIPT}: {one.target.name}: {one.complaint}")
    for other in others[:_MOST_TOLD]:
        say(f"{_SCRIPT}: {offsite.name}: passed over {other.name!r}: it is no backup of these databases")
    if len(others) > _MOST_TOLD:
        say(f"{_SCRIPT}: {offsite.name}: passed over {len(others) - _MOST_TOLD} more")
    if any(one.status for one in checked):
        hint = f"copy what is here: copy-backups.sh --to {offsite.name} --now; then find out who changed what there"
        say(advice(hint))


def _lines(checked: Sequence[Checked], now: datetime) -> list[str]:
    rows = [
        [
            seen.found.name,
            age((now - seen.taken).total_seconds()),
            size(seen.found.bytes),
            f"BAD: {seen.problem}" if seen.problem else seen.state,
        ]
        for one in checked
        for seen in one.seen
    ]
    bad = sum(bool(seen.problem) for one in checked for seen in one.seen)
    files = table(["object", "age", "size", "state"], rows, right=(1, 2)) if rows else []
    gone = sum(len(one.lost) for one in checked)
    return [*files, f"{len(rows)} copies: {len(rows) - bad} good, {bad} bad" + (f", {gone} gone" if gone else "")]


def _entry(one: Checked) -> dict[str, Any]:
    return {
        "target": one.target.name,
        "database": one.target.database,
        "status": one.status,
        "error": one.complaint,
        "lost": one.lost,
        "copies": [
            {
                "object": seen.found.name,
                "file": seen.file,
                "taken": instant(seen.taken),
                "arrived": instant(seen.found.modified),
                "object_bytes": seen.found.bytes,
                "state": "bad" if seen.problem else seen.state,
                "problem": seen.problem,
            }
            for seen in one.seen
        ],
    }
