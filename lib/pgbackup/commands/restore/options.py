"""How a restore is to be done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """into: a name to restore beside the live database, or "". The rest are the switches of the command line."""

    yes: bool = False
    into: str = ""
    online: bool = False
    create_roles: bool = False
    with_roles: bool = False
    keep_failed: bool = False
    keep_going: bool = False
    in_place: bool = False
    dry_run: bool = False

    @property
    def makes_roles(self) -> bool:
        """Whether roles that the dump needs are made: with their passwords where these are known, else without."""
        return self.create_roles or self.with_roles
