"""What a file is that is no compressed plain dump of one database, told by its first bytes, and what to do with it."""

from __future__ import annotations

import re
import shlex
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from pgbackup.formats import names

PEEK_BYTES = 64 << 10
_GZIP = b"\x1f\x8b"
_CLUSTER = b"-- PostgreSQL database cluster dump"
_CLUSTER_ENDS = b"-- PostgreSQL database cluster dump complete"
_PLAIN = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*--\r?\n-- PostgreSQL database (cluster )?dump\r?\n")
# One database's part of what pg_dumpall writes: it is what pg_dump --create writes, to its own last line.
_CUT = (
    r"""awk '/^-- Database "NAME" dump$/{on=1} /^--$/&&whole&&++n>1{exit} on; """
    r"""on&&/^-- PostgreSQL database dump complete$/{whole=1}'"""
)


@dataclass(frozen=True)
class File:
    """What is known of a file that is looked at. read: the command that writes its content, uncompressed."""

    path: str
    database: str
    changed: datetime
    read: str

    @property
    def other(self) -> str:
        """A name for what comes of it, that of a dump made by hand at the time of the file."""
        stamp = names.dated(self.database, self.changed).removeprefix(names.stem(self.database))
        return shlex.quote(f"{names.stem(self.database)}_manual{stamp}")


def told(head: bytes, path: str, database: str, changed: datetime) -> tuple[str, str] | None:
    """Given the first bytes of a file, say what it is and what to do, or None for a compressed plain dump.

    database: the one to restore; changed: when the file was. Pure.
    """
    quoted = shlex.quote(path)
    if not head:
        return "is empty", _ANOTHER
    if head[:2] != _GZIP:
        file = File(path, database, changed, f"cat {quoted}")
        if _PLAIN.match(head) and not head.startswith(_CLUSTER, head.find(b"-- P")):
            return "is not compressed with gzip", f"compress it first: gzip -c {quoted} > {file.other}"
        return _kind(head, file) or _packed(head, file) or ("is not compressed with gzip", _ANOTHER)
    try:
        text = zlib.decompressobj(wbits=31).decompress(head, PEEK_BYTES)
    except zlib.error:
        return "is damaged at its beginning", _ANOTHER
    return _kind(text, File(path, database, changed, f"gunzip -c {quoted}"))


def of_directory(has_toc: bool, path: str, database: str, changed: datetime) -> tuple[str, str]:
    """Say what a directory is: pg_dump's directory format has a file toc.dat. Pure."""
    file = File(path, database, changed, "")
    if not has_toc:
        return "is a directory", _ANOTHER
    command = f"pg_restore --file=- {shlex.quote(path)} | gzip > {file.other}"
    return "is a directory: a dump in pg_dump's directory format", f"turn it into plain SQL and restore that: {command}"


_ANOTHER = "take another one: --list"


def _kind(text: bytes, file: File) -> tuple[str, str] | None:
    """What uncompressed content is, if it is another kind than a plain dump of one database."""
    for fits, say in _KINDS:
        if fits(text):
            return say(file, text)
    return None


def _archive(what: str, file: File, _text: bytes) -> tuple[str, str]:
    return (
        f"holds a dump in {what}",
        f"turn it into plain SQL and restore that: {file.read} | pg_restore --file=- | gzip > {file.other}"
        f" (in Docker: {file.read} | docker exec -i CONTAINER pg_restore --file=- | gzip > {file.other})",
    )


def _cluster(file: File, text: bytes) -> tuple[str, str]:
    if _CLUSTER_ENDS in text and b"\n\\connect " not in text:
        return "holds the roles and tablespaces of a cluster (pg_dumpall --globals-only) and no database", _ANOTHER
    name = re.sub(r"[^A-Za-z0-9_ -]", ".", file.database)
    command = f"{file.read} | {_CUT.replace('NAME', name)} | gzip > {file.other}"
    return (
        "is a dump of a whole cluster, by pg_dumpall",
        f"cut '{file.database}' out of it and restore that: {command}",
    )


def _utf16(file: File, _text: bytes) -> tuple[str, str]:
    command = f"{file.read} | iconv -f UTF-16 -t UTF-8 | gzip > {file.other}"
    return "holds UTF-16 text, which psql cannot read", command


def _another(what: str, _file: File, _text: bytes) -> tuple[str, str]:
    return f"holds {what}", _ANOTHER


def _base_backup(_file: File, _text: bytes) -> tuple[str, str]:
    return (
        "holds the files of a whole cluster (a base backup), and no dump",
        "the server's own files are recovered by --latest or --to-time where WAL is archived: docs/point-in-time.md",
    )


def _is_tar(text: bytes) -> bool:
    return text[257:262] == b"ustar"


def _tar_begins(*files: bytes) -> Callable[[bytes], bool]:
    return lambda text: _is_tar(text) and text[:100].rstrip(b"\0").split(b"/")[-1] in files


_Say = Callable[[File, bytes], tuple[str, str]]
_KINDS: list[tuple[Callable[[bytes], bool], _Say]] = [
    (lambda text: text.startswith(b"PGDMP"), partial(_archive, "pg_dump's custom format")),
    (_tar_begins(b"toc.dat"), partial(_archive, "pg_dump's tar format")),
    (_tar_begins(b"backup_label", b"tablespace_map", b"PG_VERSION", b"backup_manifest"), _base_backup),
    (_is_tar, partial(_another, "a tar archive, and no dump that pg_dump made")),
    (lambda text: text[:2] in (b"\xff\xfe", b"\xfe\xff"), _utf16),
    (lambda text: _CLUSTER in text[:200], _cluster),
    (
        lambda text: bool(re.search(rb"(?m)^-- (?:MySQL|MariaDB) dump", text[:500])),
        partial(_another, "a dump of MySQL or MariaDB, not of PostgreSQL"),
    ),
    (
        lambda text: text.startswith((b"SQLite format 3", b"PRAGMA foreign_keys")),
        partial(_another, "data of SQLite, not of PostgreSQL"),
    ),
    (lambda text: text.startswith(b"\x1f\x8b"), partial(_another, "what was compressed twice: gunzip it once")),
]


def _packed(head: bytes, file: File) -> tuple[str, str] | None:
    """What was compressed or encrypted by another program."""
    for magic, (what, unpack) in _PACKED.items():
        if head.startswith(magic):
            command = f"{unpack} {shlex.quote(file.path)} | gzip > {file.other}"
            return f"is compressed with {what}, not compressed with gzip", f"compress it again with gzip: {command}"
    for magic, what in _ENCRYPTED.items():
        if head.startswith(magic):
            return f"is encrypted with {what}, not compressed with gzip", f"decrypt it first, as a file {file.other}"
    return None


_PACKED = {
    b"\xfd7zXZ\0": ("xz", "xz -dc"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -dc"),
    b"PK\x03\x04": ("zip", "unzip -p"),
}
_ENCRYPTED = {
    b"age-encryption.org/": "age",
    b"-----BEGIN AGE": "age",
    b"-----BEGIN PGP": "PGP",
    b"\x8c\x0d\x04": "PGP",
    b"Salted__": "openssl",
}
