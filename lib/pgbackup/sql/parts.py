"""The pieces of a dump that a load treats apart, told by the first words of a statement. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pgbackup.sql.guarding.refusals import UNDECIDED

INDEX, SETTING = "index", "setting"
EVENT_TRIGGER, CONFIGURATION = "event trigger", "text search configuration"
_KINDS = {
    (b"create", b"index"): INDEX,
    (b"create", b"unique", b"index"): INDEX,
    (b"create", b"event", b"trigger"): EVENT_TRIGGER,
    (b"alter", b"event", b"trigger"): EVENT_TRIGGER,
    (b"comment", b"on", b"event", b"trigger"): EVENT_TRIGGER,
    (b"create", b"text", b"search", b"configuration"): CONFIGURATION,
    (b"create", b"extension"): CONFIGURATION,
}


@dataclass(frozen=True)
class Part:
    """Text for psql.

    kind: INDEX for one CREATE INDEX statement, SETTING for one SET or set_config, EVENT_TRIGGER for one that makes or
    changes such a trigger, CONFIGURATION for one that may make a text search configuration, else "".
    """

    text: bytes
    kind: str


def kind_of(words: list[bytes], text: bytes) -> str:
    """Given a statement's first words and bytes as the lexer notes them, return the kind of its part. Pure.

    `undecided` when more has to be seen.
    """
    for beginning, kind in _KINDS.items():
        if tuple(words[: len(beginning)]) == beginning:
            return kind
    if words[:1] in ([b"set"], [b"reset"]) or text.startswith(b"SELECT pg_catalog.set_config("):
        return SETTING
    return UNDECIDED if any(beginning[: len(words)] == tuple(words) for beginning in _KINDS) else ""
