"""Which keys there are: those of the table for each name in DATABASES and OFFSITE; what is unknown, what near."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pgbackup.settings.envfile import Given, Problem
from pgbackup.settings.named_table import PLACE_SETTINGS, TARGET_SETTINGS
from pgbackup.settings.setting import Setting
from pgbackup.settings.table import GLOBAL_SETTINGS

_OF_NAMES = (("DATABASES", TARGET_SETTINGS), ("OFFSITE", PLACE_SETTINGS))


def problems(
    written: Mapping[str, Given], databases: Sequence[str] | None, places: Sequence[str] | None
) -> list[Problem]:
    """Given what `.env` sets and the names in DATABASES and OFFSITE, return what cannot be. Pure.

    None for names: they could not be read, so that any name may be one.
    """
    names = {"DATABASES": databases, "OFFSITE": places}
    owners = {setting.key: "" for setting in GLOBAL_SETTINGS}
    found = []
    for listing, rows in _OF_NAMES:
        for name in dict.fromkeys(names[listing] or ()):
            found += _claimed(listing, name, rows, owners)
    for name in dict.fromkeys(places or ()):
        if name in (databases or ()):
            message = f"OFFSITE: '{name}' cannot be a name: a database in DATABASES has it"
            found.append(Problem(message, f"choose another name for the place '{name}'"))
    unreadable = [rows for listing, rows in _OF_NAMES if names[listing] is None]
    found += [
        Problem(f"{one.place}: unknown setting {key!r}", _hint_for(key, owners), one.line)
        for key, one in written.items()
        if key not in owners and not any(_names_in(key, rows) for rows in unreadable)
    ]
    return found


def _claimed(listing: str, name: str, rows: Sequence[Setting], owners: dict[str, str]) -> list[Problem]:
    """Enter the name's keys into `owners`. One that would be of two is a problem, as AUTH_HEALTH_URL is with `auth` and
    `auth_health`.
    """
    found = []
    for row in rows:
        key = f"{name.upper()}_{row.key}"
        if key in owners:
            other = f"'{owners[key]}'" if owners[key] else "all databases"
            message = f"{listing}: '{name}' cannot be a name: {key} would be a setting of {other} too"
            found.append(Problem(message, f"choose another name for '{name}'"))
        owners.setdefault(key, name)
    return found


def _names_in(key: str, rows: Sequence[Setting]) -> list[str]:
    """The names of which `key` would be a setting, with these rows."""
    return [key.removesuffix(f"_{row.key}").lower() for row in rows if key.endswith(f"_{row.key}")]


def _hint_for(key: str, known: Mapping[str, str]) -> str:
    names = {listing: _names_in(key, rows) for listing, rows in _OF_NAMES}
    import difflib  # here: only a mistake wants it

    # SHOP_HEALTH_URL is much like AUTH_HEALTH_URL, but not a slip of the pen.
    near = difflib.get_close_matches(key.upper(), sorted(known), n=1, cutoff=0.85 if any(names.values()) else 0.5)
    if near:
        return f"did you mean {near[0]}?"
    for listing, found in names.items():
        if found:
            return f"{listing} has no '{min(found, key=len)}': add it there, or put # before its lines"
    return "see docs/configuration.md for all settings"
