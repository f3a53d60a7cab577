"""What an alarm says: what, since when, the newest good backup, the next thing to type. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from pgbackup.report import redaction
from pgbackup.report.alarms.decision import Again, Notice, name_of
from pgbackup.report.promises.about_databases import newest_good
from pgbackup.report.promises.promise import KEPT, Promise
from pgbackup.report.promises.status import Status
from pgbackup.report.result import age
from pgbackup.report.typeable import absolute

_MOST = 12  # promises and databases that are named; of the rest the number is told
_LONGEST = 300


def subject(notice: Notice, host: str, prefix: str = "") -> str:
    """The line that a telephone shows. prefix: what it begins with."""
    if notice.broken:
        said = f"BROKEN: {_named([one.key for one in notice.broken])}"
    elif notice.still:
        said = f"still broken: {_named([one.key for one in notice.still])}"
    else:
        said = f"kept again: {_named([one.key for one in notice.kept])}"
    return plain(f"{prefix} {host}: {said}")


def _named(keys: Sequence[str]) -> str:
    return name_of(keys[0]) if len(keys) == 1 else f"{len(keys)} promises, first {name_of(keys[0])}"


def body(notice: Notice, status: Status) -> str:
    """The text below it."""
    parts = [
        _section("BROKEN", [_broken(one, status.now) for one in notice.broken]),
        _section("STILL BROKEN", [_broken(one, status.now) for one in notice.still]),
        _section("KEPT AGAIN", [_kept(one, status.now) for one in notice.kept]),
        _section("NEWEST GOOD BACKUPS", _newest(notice, status)),
        f"{plain(status.host)}, {_when(status.now)}. Everything at a glance: {absolute('backup-status.sh')}",
    ]
    return "\n\n".join(part for part in parts if part)


def _section(title: str, entries: Sequence[str]) -> str:
    if not entries:
        return ""
    more = [f"and {len(entries) - _MOST} more"] if len(entries) > _MOST else []
    return "\n".join([title, *entries[:_MOST], *more])


def _broken(promise: Promise, now: datetime) -> str:
    since = f"  since {_when(promise.since)} ({_age(promise.since, now)})" if promise.since else ""
    remedy = f"  type: {absolute(plain(promise.remedy))}" if promise.remedy else ""
    first = f"- {plain(name_of(promise.key))}: {plain(redaction.without_values(promise.reason))}"
    return "\n".join(line for line in (first, since, remedy) if line)


def _kept(again: Again, now: datetime) -> str:
    told = f"- {plain(name_of(again.key))}: it was broken for {_age(again.since, now)}"
    if again.promise is None or again.promise.state != KEPT:
        return f"{told}; now nobody asks for it any more"
    return f"{told}; now: {plain(redaction.without_values(again.promise.reason))}"


def _newest(notice: Notice, status: Status) -> list[str]:
    """Those of the databases that it is about; of all where it is about the host."""
    keys = [one.key for one in (*notice.broken, *notice.still)] + [one.key for one in notice.kept]
    subjects = {key.partition(":")[2] for key in keys}
    names = {each.name for each in status.facts.databases}
    wanted = subjects if subjects <= names else names
    lines = []
    for each in status.facts.databases:
        if each.name in wanted:
            newest = newest_good(each, status.now)
            told = f"{plain(newest.file)}, {_age(newest.taken, status.now)} old" if newest else "none"
            lines.append(f"- {each.name}: {told}")
    return lines


def _when(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M %z}"


def _age(since: datetime, now: datetime) -> str:
    return age(max(0.0, (now - since).total_seconds()))


def plain(text: str) -> str:
    """Return a text of a server or a file on one line, without what a terminal or a mail would obey."""
    shown: Iterable[str] = (char if char.isprintable() else " " for char in text)
    line = " ".join("".join(shown).split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"
