"""The status as one screen: what comes back first, then what is broken, then what is kept. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime

from pgbackup.report.promises.aged import span
from pgbackup.report.promises.promise import BROKEN, KEPT, NOT_WANTED, TITLES, Promise
from pgbackup.report.promises.status import Rescue, Status
from pgbackup.report.result import age, table

_MOST_NAMED = 4
_NARROW_COLUMNS = 100
_KEY_LETTERS = 12


def lines(status: Status, columns: int) -> list[str]:
    """Return the status for people. columns: how wide the screen is; only a word, or what to type, is longer. Pure."""
    told = [first(status), "", "If this host died now:", *_rescues(status, columns)]
    told += _all_broken(status, columns)
    kept = _grouped([promise for promise in status.promises if promise.state == KEPT], status.now)
    if kept:
        told += ["", "Kept:", *_hung(kept, columns)]
    unwanted = [promise for promise in status.promises if promise.state == NOT_WANTED]
    if unwanted:
        told += ["", "Not wanted:", *_hung(_reasons(unwanted), columns)]
    return told


def first(status: Status) -> str:
    """Return the one line that says it all. Pure."""
    broken, judged = status.broken, [one for one in status.promises if one.state != NOT_WANTED]
    if broken:
        named = ", ".join(_called(promise) for promise in broken[:_MOST_NAMED])
        more = f", and {len(broken) - _MOST_NAMED} more" if len(broken) > _MOST_NAMED else ""
        return plain(f"BROKEN: {len(broken)} of {len(judged)} promises on {status.host}: {named}{more}")
    return plain(f"OK: all {len(judged)} promises on {status.host} are kept; {_in_short(status.rescues)}")


def _called(promise: Promise) -> str:
    return f"{promise.title} ({_short(promise.subject)})" if promise.subject else promise.title


def _short(subject: str) -> str:
    """A recipient by its first letters; every other subject as it is."""
    return f"{subject[:_KEY_LETTERS]}…" if subject.startswith("age1") else subject


def _in_short(rescues: Sequence[Rescue]) -> str:
    moments = [each.moment for each in rescues if each.moment]
    if not moments:
        return "if it died now, nothing would come back"
    lost = len(rescues) - len(moments)
    but = f", but nothing of {lost} of {len(rescues)} databases" if lost else ""
    return f"if it died now, all up to {local(min(moments))} would come back{but}"


def local(moment: datetime) -> str:
    """An instant for people here. Pure but for TZ."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def plain(text: str) -> str:
    """The same on one line: a name may hold anything that a terminal obeys. Pure."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _rescues(status: Status, columns: int) -> list[str]:
    wide = columns >= _NARROW_COLUMNS
    heads = ["database", "comes back", "from", "restore in", *(["with the key", "proven", "drilled"] if wide else [])]
    rows = []
    for each in status.rescues:
        row = [each.name, local(each.moment) if each.moment else "NOTHING", each.place or "-", _measured(each)]
        if wide:
            row += [_key(each), _ago(each.proven, status.now) if each.encrypted else "", _ago(each.drilled, status.now)]
        rows.append([plain(cell) for cell in row])
    told = [f"  {line}" for line in table(heads, rows)] if rows else []
    if not wide and any(each.encrypted for each in status.rescues):
        each = next(each for each in status.rescues if each.encrypted)
        told += _wrapped(f"  with the key {_key(each)}, proven {_ago(each.proven, status.now)}", columns)
    if not wide and status.rescues:
        drilled = [each.drilled for each in status.rescues if each.drilled]
        never = len(status.rescues) - len(drilled)
        told += _wrapped(f"  never drilled: {never} of {len(status.rescues)}", columns) if never else []
        told += _wrapped(f"  oldest last drill: {_ago(min(drilled), status.now)}", columns) if drilled else []
    reasons = {each.why for each in status.rescues if not each.moment}
    return told + [line for why in sorted(reasons) for line in _wrapped(f"  nothing comes back where {why}", columns)]


def _measured(rescue: Rescue) -> str:
    """How long a restore takes; what was not measured is no number."""
    if rescue.seconds is None:
        return "not measured"
    measured = age(rescue.seconds)
    return measured if rescue.fetched or not rescue.place else f"{measured} + fetch"


def _key(rescue: Rescue) -> str:
    if not rescue.moment:
        return ""
    if not rescue.encrypted:
        return "none needed"
    keys = [f"{each[:_KEY_LETTERS]}…" for each in rescue.recipients]
    return " or ".join(keys[:2]) or "UNKNOWN"


def _ago(moment: datetime | None, now: datetime) -> str:
    return f"{age(max(0.0, (now - moment).total_seconds()))} ago" if moment else "never"


def _all_broken(status: Status, columns: int) -> list[str]:
    """The broken promises; of many of one kind the first ones, and what the others are about."""
    told: list[str] = []
    kinds: dict[str, list[Promise]] = {}
    for promise in status.broken:
        kinds.setdefault(promise.kind, []).append(promise)
    for some in kinds.values():
        for promise in some[:_MOST_NAMED]:
            told += ["", *_broken(promise, status.now, columns)]
        if rest := some[_MOST_NAMED:]:
            told += _wrapped(f"BROKEN  {rest[0].title}: {len(rest)} more: {', '.join(_each(rest))}", columns)
    return told


def _each(some: Sequence[Promise]) -> list[str]:
    return [_short(promise.subject) for promise in some]


def _broken(promise: Promise, now: datetime, columns: int) -> list[str]:
    told = _wrapped(f"BROKEN  {_called(promise)}: {promise.reason}", columns)
    since = f"since {local(promise.since)} ({_ago(promise.since, now)})" if promise.since else ""
    if promise.since and promise.by and promise.limit:
        since += f", {age(promise.by)} past its limit of {span(promise.limit)}"
    if promise.tell_from and now < promise.tell_from:
        since += f"; a run that mends it is due by {local(promise.tell_from)}"
    told += _wrapped(f"        {since}", columns) if since else []
    return told + commands(promise.remedy)


def commands(remedy: str) -> list[str]:
    """What to type, each command on a line of its own and whole, however narrow the screen is: it will be copied."""
    first, *others = plain(remedy).split("; ")
    return [f"        type: {first}", *(f"              {other}" for other in others)]


def _wrapped(text: str, columns: int) -> list[str]:
    """A text in lines, all after the first one set back as far as the first word of it or eight columns."""
    indent = " " * max(len(text) - len(text.lstrip()), 8 if text.startswith(BROKEN.upper()) else 0)
    options = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(plain(text), max(40, columns), subsequent_indent=indent, **options) or [""]  # type: ignore[arg-type]


def _grouped(promises: Iterable[Promise], now: datetime) -> list[tuple[str, str]]:
    """One line for each kind: whom it is about, and how old the oldest of them is."""
    kinds: dict[str, list[Promise]] = {}
    for promise in promises:
        kinds.setdefault(promise.kind, []).append(promise)
    return [(TITLES[kind], _together(some, now)) for kind, some in kinds.items()]


def _together(some: Sequence[Promise], now: datetime) -> str:
    if len(some) == 1 and not some[0].subject:
        return some[0].reason
    names = ", ".join(_each(some))
    if len(some) > _MOST_NAMED:
        names = f"all {len(some)}"
    if len(some) == 1 and not some[0].last:
        return f"{names}: {some[0].reason}"
    ages = [(now - promise.last).total_seconds() for promise in some if promise.last]
    limit = f", limit {span(some[0].limit)}" if some[0].limit else ""
    oldest = f": {'oldest ' if len(some) > 1 else ''}{age(max(0.0, *ages, 0.0))}{limit}" if ages else ""
    fresh = [promise for promise in some if promise.limit and not promise.last]  # there was no time for it yet
    if len(fresh) == len(some):
        return f"none is due yet of {names}"
    return f"{names}{oldest}" + (f"; none is due yet of {', '.join(_each(fresh)[:_MOST_NAMED])}" if fresh else "")


def _reasons(some: Sequence[Promise]) -> list[tuple[str, str]]:
    """One line for each kind and reason."""
    found: dict[tuple[str, str], None] = {}
    for promise in some:
        found[promise.title, promise.reason] = None
    return list(found)


def _hung(pairs: Sequence[tuple[str, str]], columns: int) -> list[str]:
    """Pairs as two columns, the second one wrapped."""
    left = max(len(head) for head, _ in pairs) + 4
    told = []
    for head, text in pairs:
        told += textwrap.wrap(
            plain(text), max(40, columns), initial_indent=f"  {head}".ljust(left), subsequent_indent=" " * left,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return told
