"""The manifest: what a backup file holds, as SQL comments in a gzip member of its own behind the dump.

The member is stored, not deflated, in the one form that `encoded()` gives it. So it can be read with `tail`, it
can be found from the file's end, and any changed bit makes it differ from what encoding its text again gives
(RFC 1951, 3.2.4 Non-compressed blocks; RFC 1952, 2.3 Member format).

The dump's gzip header carries a comment that promises the manifest (RFC 1952, 2.3.1): a file that was cut off
exactly between the two is still seen to be cut off.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pgbackup.errors import BackupBad

FORMAT = 1
# The header of the dump's member.
PROMISE = b"\x1f\x8b\x08\x10\x00\x00\x00\x00\x00\xffpgbackup: a manifest follows\0"
LONGEST_BYTES = 64 << 20
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_BLOCK_BYTES = 65535
_BLOCK_HEAD_BYTES = 5
_TRAILER_BYTES = 8
_FIRST_LINE = b"\n-- pgbackup manifest: comments to psql, JSON behind the dashes\n"
_LAST_LINE = b"-- end of pgbackup manifest\n"


@dataclass(frozen=True)
class Manifest:
    """A manifest that is well formed. sha256: of the dump's gzip member as it lies on disk, gzip_bytes long.

    rows: table as COPY spells it to its rows. content: table to the checksum of its rows (content.py). schema: the
    fingerprint of all that is no data (outline.py). Both are empty in files of before they were there. raw: the whole
    JSON object.
    """

    database: str
    started: datetime
    sql_bytes: int
    gzip_bytes: int
    sha256: str
    tables: int
    rows: dict[str, int]
    content: dict[str, str]
    schema: str
    raw: dict[str, Any]


def is_promised(descriptor: int) -> bool:
    """Whether an open file begins as ours do, so that a missing manifest means that it was cut off."""
    return os.pread(descriptor, len(PROMISE), 0) == PROMISE


def encoded(facts: dict[str, Any]) -> bytes:
    """Given a JSON object, return the gzip member that carries it. Pure."""
    lines = json.dumps(facts, indent=1, ensure_ascii=True).encode("ascii").splitlines(keepends=True)
    return _stored(b"".join([_FIRST_LINE, *(b"-- " + line for line in lines), b"\n", _LAST_LINE]))


def _stored(text: bytes) -> bytes:
    pieces = [text[at : at + _BLOCK_BYTES] for at in range(0, len(text), _BLOCK_BYTES)] or [b""]
    blocks = []
    for number, piece in enumerate(pieces, 1):
        length = len(piece).to_bytes(2, "little")
        inverse = (len(piece) ^ 0xFFFF).to_bytes(2, "little")
        blocks.append((b"\x01" if number == len(pieces) else b"\x00") + length + inverse + piece)
    trailer = zlib.crc32(text).to_bytes(4, "little") + len(text).to_bytes(4, "little")
    return b"".join([_HEADER, *blocks, trailer])


def _member_bytes(text_bytes: int) -> int:
    blocks = max(1, -(-text_bytes // _BLOCK_BYTES))
    return len(_HEADER) + blocks * _BLOCK_HEAD_BYTES + text_bytes + _TRAILER_BYTES


def read(descriptor: int, file_bytes: int) -> tuple[Manifest, int] | None:
    """Return the manifest at the end of an open file and its member's length in bytes, or None without one.

    Only the end of the file is read. Raise BackupBad when there is one and it is damaged or malformed.
    """
    if file_bytes < _member_bytes(len(_FIRST_LINE)):
        return None
    text_bytes = int.from_bytes(os.pread(descriptor, 4, file_bytes - 4), "little")
    member_bytes = _member_bytes(text_bytes)
    if text_bytes > LONGEST_BYTES or member_bytes > file_bytes:
        return None
    begin = file_bytes - member_bytes
    if os.pread(descriptor, len(_FIRST_LINE), begin + len(_HEADER) + _BLOCK_HEAD_BYTES) != _FIRST_LINE:
        return None
    member = os.pread(descriptor, member_bytes, begin)
    text = _text(member, text_bytes)
    if member != _stored(text):
        raise BackupBad("its manifest is damaged")
    return parsed(text), member_bytes


def _text(member: bytes, text_bytes: int) -> bytes:
    step = _BLOCK_HEAD_BYTES + _BLOCK_BYTES
    body = member[len(_HEADER) : -_TRAILER_BYTES]
    text = b"".join(body[at + _BLOCK_HEAD_BYTES : at + step] for at in range(0, len(body), step))
    return text[:text_bytes]


def parsed(text: bytes) -> Manifest:
    """Given the text of the member, return the Manifest. Raise BackupBad naming what is wrong with it."""
    if not text.startswith(_FIRST_LINE) or not text.endswith(b"\n" + _LAST_LINE):
        raise BackupBad("its manifest is cut off or has text around it")
    lines = text[len(_FIRST_LINE) - 1 : -len(_LAST_LINE) - 1]
    if lines.count(b"\n-- ") != lines.count(b"\n") or b"\r" in lines:
        raise BackupBad("its manifest has lines that are not comments")
    try:
        raw = json.loads(lines.replace(b"\n-- ", b"\n"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BackupBad(f"its manifest is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise BackupBad("its manifest is not a JSON object")
    return _checked(raw)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_instant(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value, re.ASCII))


def _is_checksum(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"\d+-[0-9a-f]{8}-[0-9a-f]{8}", value, re.ASCII))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f]{64}", value, re.ASCII))


_MUST_BE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "target": (_is_text, "a text"),
    "database": (lambda value: _is_text(value) and value != "", "a text"),
    "server_version": (_is_text, "a text"),
    "pg_dump_version": (_is_text, "a text"),
    "started": (_is_instant, "an instant like 2024-01-15T02:00:00Z"),
    "ended": (_is_instant, "an instant like 2024-01-15T02:00:00Z"),
    "server": (lambda value: isinstance(value, dict), "an object"),
    "sql_bytes": (_is_count, "a whole number"),
    "gzip_bytes": (_is_count, "a whole number"),
    "sha256": (_is_sha256, "64 hexadecimal digits"),
    "statements": (_is_count, "a whole number"),
    "tables": (_is_count, "a whole number"),
    "rows": (
        lambda value: isinstance(value, dict) and all(map(_is_count, value.values())),
        "tables with whole numbers",
    ),
}
# Of later releases; files of earlier ones lack them.
_MAY_BE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "content": (
        lambda value: isinstance(value, dict) and all(map(_is_checksum, value.values())),
        "tables with checksums",
    ),
    "schema": (_is_sha256, "64 hexadecimal digits"),
}


def _checked(raw: dict[str, Any]) -> Manifest:
    version = raw.get("format")
    if not _is_count(version) or version != FORMAT:
        raise BackupBad(f"its manifest has format {json.dumps(version)[:60]}, and this suite reads format {FORMAT}")
    checks = _MUST_BE | {key: check for key, check in _MAY_BE.items() if key in raw}
    for key, (fits, what) in checks.items():
        if key not in raw or not fits(raw[key]):
            raise BackupBad(f"its manifest has {key} {json.dumps(raw.get(key))[:60]}, which must be {what}")
    return Manifest(
        database=raw["database"],
        started=_instant(raw["started"]),
        sql_bytes=raw["sql_bytes"],
        gzip_bytes=raw["gzip_bytes"],
        sha256=raw["sha256"],
        tables=raw["tables"],
        rows=raw["rows"],
        content=raw.get("content", {}),
        schema=raw.get("schema", ""),
        raw=raw,
    )


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=timezone.utc)
    except ValueError:
        raise BackupBad(f"its manifest names the instant {text!r}, which does not exist") from None
