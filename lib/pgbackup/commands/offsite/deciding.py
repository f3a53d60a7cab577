"""Which backups are to be copied to a place, and what there is not as it should be. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgbackup.remotes.place import Object
from pgbackup.settings.config import Target
from pgbackup.store.catalog import Backup
from pgbackup.store.offsite.index import Entry


@dataclass(frozen=True)
class Source:
    """A backup that is published and proven. name: of the object that it becomes."""

    target: Target
    backup: Backup
    name: str


@dataclass(frozen=True)
class Decision:
    """to_copy: in the order in which they go. there: that are copies already. gone: of to_copy, those that were there.

    problems: of what lies there under the name of a backup of ours and is not what was sent, by name.
    """

    to_copy: list[Source]
    there: list[Source]
    gone: list[Source]
    problems: dict[str, str]


def is_proven(backup: Backup) -> bool:
    """Whether this suite has made the file and read it back: one made by hand has no manifest to say so."""
    return backup.manifest is not None and not backup.problem


def decide(sources: Sequence[Source], entries: Mapping[str, Entry], there: Mapping[str, Object]) -> Decision:
    """Given proven backups, what was confirmed, and what the place lists by name, say what is to be done.

    The newest go first: they are what a loss of this host is answered with.
    """
    decision = Decision([], [], [], {})
    for source in sorted(sources, key=lambda one: one.backup.taken, reverse=True):
        sent, found = entries.get(source.name), there.get(source.name)
        if found is None:
            decision.to_copy.append(source)
            decision.gone.extend([source] * (sent is not None))
        elif sent is None:
            decision.problems[source.name] = "something lies there under its name that this host has not sent"
        elif sent.bytes != found.bytes:
            decision.problems[source.name] = f"it has {found.bytes:,} bytes there, and {sent.bytes:,} were sent"
        else:
            decision.there.append(source)
    return decision
