"""The manifest: it says again what it was told, it is comments to psql, and nothing in it can change unseen."""

from __future__ import annotations

import gzip
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pgbackup.errors import BackupBad
from pgbackup.formats import manifest

from tests.support import backup_files

TEXTS = st.text(max_size=30)
_, WRITTEN = backup_files.first_member(backup_files.dump())
FACTS = backup_files.facts(WRITTEN)


def read(data: bytes) -> tuple[manifest.Manifest, int] | None:
    with backup_files.memory_file(data) as descriptor:
        return manifest.read(descriptor, len(data))


def facts(rows: dict[str, int], database: str) -> dict[str, Any]:
    return {**FACTS, "rows": rows, "database": database, "server": {"comment": database, "roles": {database: "…"}}}


@settings(deadline=None)
@given(st.dictionaries(TEXTS, st.integers(0, 10**18), max_size=20), TEXTS.filter(bool), st.binary(max_size=300))
def test_what_is_written_is_read_again_whatever_stands_in_front(
    rows: dict[str, int], database: str, before: bytes
) -> None:
    member = manifest.encoded(facts(rows, database))
    found = read(before + member)
    assert found is not None
    assert found[1] == len(member)
    assert (found[0].rows, found[0].database) == (rows, database)
    assert found[0].raw == facts(rows, database)


@settings(deadline=None)
@given(TEXTS.filter(bool))
def test_to_gunzip_it_is_text_and_to_psql_comments(name: str) -> None:
    text = gzip.decompress(manifest.encoded(facts({name: 1}, name)))
    assert text.isascii()
    assert b"\r" not in text
    assert all(line.startswith(b"-- ") or not line for line in text.split(b"\n"))


def test_it_is_read_from_the_end_without_reading_the_dump() -> None:
    sparse = 1 << 40
    with backup_files.memory_file() as descriptor:
        os.ftruncate(descriptor, sparse)
        member = manifest.encoded(FACTS)
        os.pwrite(descriptor, member, sparse)
        found = manifest.read(descriptor, sparse + len(member))
    assert found is not None


@pytest.mark.parametrize("tables", [0, 1, 1_000, 100_000])
def test_many_tables_fit(tables: int) -> None:
    rows = {f"public.table_{number}": number for number in range(tables)}
    found = read(manifest.encoded(facts(rows, "auth_db")))
    assert found is not None
    assert found[0].rows == rows


def test_no_single_bit_of_it_can_change_unseen() -> None:
    member = manifest.encoded(FACTS)
    for bit in range(len(member) * 8):
        changed = bytearray(member)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert read(bytes(changed)) is None, f"bit {bit} changed unseen"
        except BackupBad:
            continue


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_no_bytes_bring_the_reader_down(noise: bytes) -> None:
    for data in (noise, manifest._stored(noise), manifest._stored(manifest._FIRST_LINE + noise + manifest._LAST_LINE)):
        try:
            read(data)
        except BackupBad:
            continue
