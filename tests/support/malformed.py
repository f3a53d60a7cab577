"""Manifests that are wrong, each in a way of its own."""

from __future__ import annotations

import json
import zlib
from typing import Any

from pgbackup.formats import manifest


def _text_of(facts: dict[str, Any]) -> bytes:
    encoded = manifest.encoded(facts)
    return zlib.decompress(encoded, 31)


def malformed(facts: dict[str, Any]) -> dict[str, bytes]:
    """What is wrong -> the second member of a file whose manifest is otherwise right."""
    text = _text_of(facts)

    def changed(**fields: Any) -> bytes:
        return manifest.encoded({**facts, **fields})

    def said(old: bytes, new: bytes) -> bytes:
        assert text.count(old) >= 1, old
        return manifest._stored(text.replace(old, new, 1))

    def without(key: str) -> bytes:
        return manifest.encoded({name: value for name, value in facts.items() if name != key})

    last = b"-- end of pgbackup manifest\n"
    wrong = {f"no {key}": without(key) for key in ("format", *manifest._MUST_BE)}
    wrong |= {
        f"{key} is {json.dumps(value)}": changed(**{key: value})
        for key, value in (
            ("format", 0),
            ("format", 2),
            ("format", 1.0),
            ("format", True),
            ("format", "1"),
            ("format", None),
            ("database", ""),
            ("database", ["auth_db"]),
            ("target", 7),
            ("started", "2024-01-15 02:00:00"),
            ("started", "2024-13-15T02:00:00Z"),
            ("started", "2024-02-30T02:00:00Z"),
            ("started", "2024-01-15T25:00:00Z"),
            ("started", "2024-01-15T02:00:00+03:00"),
            ("started", 1705276800),
            ("sql_bytes", -1),
            ("sql_bytes", facts["sql_bytes"] + 1),
            ("sql_bytes", facts["sql_bytes"] - 1),
            ("sql_bytes", float(facts["sql_bytes"])),
            ("sql_bytes", str(facts["sql_bytes"])),
            ("sql_bytes", 10**30),
            ("gzip_bytes", facts["gzip_bytes"] + 1),
            ("gzip_bytes", 0),
            ("gzip_bytes", True),
            ("sha256", "0" * 64),
            ("sha256", facts["sha256"].upper()),
            ("sha256", facts["sha256"][:-1]),
            ("sha256", facts["sha256"] + "\n"),
            ("sha256", int(facts["sha256"], 16)),
            ("tables", facts["tables"] + 1),
            ("tables", [1]),
            ("rows", {}),
            ("rows", []),
            ("rows", {table: count + 1 for table, count in facts["rows"].items()}),
            ("rows", {f"x{table}": count for table, count in facts["rows"].items()}),
            ("rows", {**facts["rows"], "public.more": 0}),
            ("rows", {table: str(count) for table, count in facts["rows"].items()}),
            ("content", []),
            ("content", {"public.t": 7}),
            ("content", {"public.t": "1-0-1\n"}),
            ("content", {**facts.get("content", {}), "public.more": "0-00000000-00000001"}),
            ("server", None),
            ("statements", -3),
        )
    }
    deep = b"[" * 100_000 + b"]" * 100_000
    return (
        wrong
        | {
            "NaN": changed(sql_bytes=float("nan")),
            "Infinity": changed(gzip_bytes=float("inf")),
            "a key twice": said(b'--  "format": 1', b'--  "format": 1,\n-- "format": 1'),
            "a list": manifest.encoded([facts]),  # type: ignore[arg-type]
            "a number": manifest.encoded(1),  # type: ignore[arg-type]
            "null": manifest.encoded(None),  # type: ignore[arg-type]
            "no JSON at all": manifest._stored(text[: text.index(b"\n-- {") + 1] + last),
            "JSON cut off": said(b'\n--  "rows"', b'\n-- "rows": {\n' + last),
            "a comma too many": said(b'--  "format": 1,', b'-- "format": 1,,'),
            "single quotes": said(b'"format"', b"'format'"),
            "nested a hundred thousand deep": said(b'"format": 1', b'"format": 1, "more": ' + deep),
            "bytes that are no UTF-8": said(b'"auth"', b'"\xff\xfe"'),
            "NUL in the text": said(b'"auth"', b'"au\0th"'),
            "a line that psql would run": said(b'\n--  "format"', b'\n\\! id\n-- "format"'),
            "an SQL line": said(b'\n--  "format"', b'\nDROP TABLE users;\n-- "format"'),
            "a carriage return, then SQL": said(b'\n--  "format"', b'\n-- \rDROP TABLE users;\n-- "format"'),
            "no last line": said(last, b""),
            "something behind the last line": said(last, last + b"SELECT 1;\n"),
            "another first line": said(b"pgbackup manifest", b"pgbackup manifold"),
            "nothing in it": manifest._stored(b""),
            "the first line only": manifest._stored(text[: text.index(b"\n-- {") + 1]),
            "deflated, not stored": _deflated(text),
            "there twice": manifest.encoded(facts) * 2,
            "in two members": manifest._stored(text[:200]) + manifest._stored(text[200:]),
        }
    )


def _deflated(text: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(text) + packer.flush()
