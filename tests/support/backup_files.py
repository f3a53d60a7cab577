"""Makes backup files without a server's help: from dumps that are at hand, with the manifest that a run would write."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pgbackup.descriptor import write_all
from pgbackup.errors import BackupBad
from pgbackup.formats import dumpfile, manifest, names
from pgbackup.formats.dumpfile import Written

DATABASE = "auth_db"
MARKER = "\n--\n-- PostgreSQL database dump complete\n--\n\n"
EARLY = datetime(2024, 1, 15, 2, tzinfo=timezone.utc)

HEAD = """--
-- PostgreSQL database dump
--

-- Dumped from database version 15.6
-- Dumped by pg_dump version 15.6

SET standard_conforming_strings = on;

"""
TAIL = """--
-- PostgreSQL database dump complete
--

"""
USERS = """CREATE TABLE public.users (
    id integer NOT NULL,
    name text
);

COPY public.users (id, name) FROM stdin;
1\tAnna
2\tBoris
3\t\\\\. is not the end
\\.

"""


def dump(body: str = USERS) -> bytes:
    """The text of a plain dump with this body, begun and ended as pg_dump does."""
    return f"{HEAD}{body}{TAIL}".encode()


def facts(written: Written, started: datetime = EARLY, database: str = DATABASE, **changed: Any) -> dict[str, Any]:
    """The manifest of a first member, as a JSON object; changed: fields that are to be otherwise."""
    instant = f"{started.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    scanner = written.scan.scanner
    return {
        "format": manifest.FORMAT,
        "suite": "1.0.0",
        "target": "auth",
        "database": database,
        "container": "postgres-a",
        "image": "sha256:" + "0" * 64,
        "client": "exec",
        "server_version": scanner.server_version,
        "pg_dump_version": scanner.pg_dump_version,
        "started": instant,
        "ended": instant,
        "time_zone": "MSK +0300",
        "server": {"size_bytes": 8_000_000, "encoding": "UTF8"},
        "sql_bytes": scanner.sql_bytes,
        "gzip_bytes": written.gzip_bytes,
        "sha256": written.sha256,
        "statements": scanner.statements,
        "tables": scanner.tables,
        "rows": scanner.rows,
        **changed,
    }


@contextmanager
def memory_file(data: bytes = b"") -> Iterator[int]:
    """The descriptor of a file that lies in memory and holds these bytes."""
    descriptor = os.memfd_create("backup")
    try:
        write_all(descriptor, data)
        yield descriptor
    finally:
        os.close(descriptor)


def contents(text: bytes, started: datetime = EARLY, database: str = DATABASE, **changed: Any) -> bytes:
    """The bytes of a backup file of this dump; changed: fields of its manifest that are to be otherwise."""
    with memory_file() as descriptor:
        written = dumpfile.write_dump(descriptor, [text], lambda _bytes: None)
        dumpfile.append_manifest(descriptor, facts(written, started, database, **changed))
        return whole(descriptor)


def whole(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def first_member(text: bytes) -> tuple[bytes, Written]:
    """A backup's first member alone, and what is known of it."""
    with memory_file() as descriptor:
        written = dumpfile.write_dump(descriptor, [text], lambda _bytes: None)
        return whole(descriptor), written


def by_hand(text: bytes) -> bytes:
    """The bytes of a file made with `pg_dump | gzip`."""
    return gzip.compress(text, mtime=1_700_000_000)


def place(
    directory: Path,
    started: datetime = EARLY,
    *,
    data: bytes | None = None,
    name: str | None = None,
    database: str = DATABASE,
) -> Path:
    """Put a file into a directory of backups: `data`, or a good backup begun then, under the name it should have."""
    path = directory / (name or names.dated(database, started))
    path.write_bytes(contents(dump(), started, database) if data is None else data)
    path.chmod(0o600)
    return path


def rejected(data: bytes) -> str:
    """Why the check rejects a file of these bytes; "" when it does not."""
    with memory_file(data) as descriptor:
        try:
            dumpfile.check(descriptor)
        except BackupBad as bad:
            return bad.message
    return ""
