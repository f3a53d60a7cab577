"""A setting: its key, what may stand there, what it means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgbackup.settings.values import Kind


@dataclass(frozen=True)
class Setting:
    """One row: the key (for one of a database or a place the part after `AUTH_`), its kind, default and meaning.

    A default is a text as it would be written, or a function of the name in DATABASES or OFFSITE.
    """

    key: str
    kind: Kind
    default: str | Callable[[str], str]
    meaning: str

    def default_for(self, name: str) -> str:
        """The default, as text, for the database called `name` (any text for a global setting)."""
        return self.default(name) if callable(self.default) else self.default
