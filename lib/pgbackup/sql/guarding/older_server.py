"""What a newer pg_dump writes into the head of every dump, and an older server does not know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pgbackup.sql.parts import Part

_HEAD_BYTES = 4096
# As pg_dump writes it since 17, behind a line that it has always written (pg_backup_archiver.c).
_BEFORE, _NEWER = b"SET idle_in_transaction_session_timeout = 0;\n", b"SET transaction_timeout = 0;\n"
_KNOWN_SINCE = 17


def for_server(parts: Iterable[Part], major: int) -> Iterator[Part]:
    """Give the parts of a dump as a server of that major understands them: a setting that it lacks is a comment.

    Only in the head, before anything is made: the same line may be data further on. Lines keep their numbers.
    """
    rest = iter(parts)
    if major >= _KNOWN_SINCE:
        yield from rest
        return
    seen = 0
    for part in rest:
        head = part.text[: max(0, _HEAD_BYTES - seen)].partition(b"\nCREATE ")[0].partition(b"\nCOPY ")[0]
        at = head.find(_NEWER)
        if at >= 0 and (head[:at].endswith(_BEFORE) or at == 0):
            text = part.text[:at] + b"-- " + part.text[at:]
            yield replace(part, text=text)
            break
        yield part
        seen += len(part.text)
        if seen >= _HEAD_BYTES:
            break
    yield from rest
