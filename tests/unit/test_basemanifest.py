"""A base backup in its tar archives is taken only when it is exactly what PostgreSQL's manifest lists."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping

import pytest
from pgbackup.errors import BackupBad
from pgbackup.formats.cluster import backup_manifest
from pgbackup.formats.cluster.backup_manifest import Contents

_FILES = {
    "PG_VERSION": b"15\n",
    "backup_label": b"START WAL LOCATION: 0/2000028\n",
    "base/5/1259": bytes(8192) + b"catalog" * 500,
    "base/5/16384": b"rows" * 40_000,
    "global/pg_control": bytes(range(256)) * 32,
    "pg_xact/0000": b"",
}


def _manifest(files: Mapping[str, bytes], **changed: object) -> bytes:
    entries = [
        {
            "Path": path,
            "Size": len(data),
            "Last-Modified": "2024-01-15 02:00:00 GMT",
            "Checksum-Algorithm": "SHA256",
            "Checksum": hashlib.sha256(data).hexdigest(),
        }
        for path, data in files.items()
    ]
    ranges = [{"Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000120"}]
    document = {"PostgreSQL-Backup-Manifest-Version": 1, "Files": entries, "WAL-Ranges": ranges, **changed}
    head = json.dumps(document)[:-1].encode() + b",\n"
    return head + b'"Manifest-Checksum": "' + hashlib.sha256(head).hexdigest().encode() + b'"}\n'


def _tar(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        folder = tarfile.TarInfo("base")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return made.getvalue()


def _whole(files: Mapping[str, bytes] = _FILES, listed: Mapping[str, bytes] = _FILES) -> bytes:
    return _tar({**files, "backup_manifest": _manifest(listed)})


def _checked(archive: bytes, piece_bytes: int = 1000) -> backup_manifest.BaseManifest:
    contents = Contents()
    contents.add("base", (archive[at : at + piece_bytes] for at in range(0, len(archive), piece_bytes)))
    return contents.compare()


@pytest.mark.parametrize("piece_bytes", [1, 511, 512, 4096, 1 << 20])
def test_a_whole_one_is_taken_however_it_comes(piece_bytes: int) -> None:
    found = _checked(_whole(), piece_bytes)
    assert (found.timeline, found.start, found.stop, found.system) == (1, "0/2000028", "0/2000120", None)
    assert set(found.files) == set(_FILES)


def test_what_no_manifest_lists_may_be_there() -> None:
    more = {"pg_wal/000000010000000000000002": b"wal", "recovery.signal": b""}
    assert _checked(_whole({**_FILES, **more})).stop == "0/2000120"


# What the server's own test of pg_verifybackup does to a backup, as far as an archive can suffer it.
_MUTILATIONS: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "extra file": (lambda files: files.update({"extra_file": b"x"}), "does not list"),
    "extra file in a tablespace": (lambda files: files.update({"pg_tblspc/16400/PG_15/5/1": b"x"}), "does not list"),
    "missing file": (lambda files: files.pop("pg_xact/0000"), "lacks 'pg_xact/0000'"),
    "appended file": (lambda files: files.update({"PG_VERSION": b"15\nmore"}), "changed 'PG_VERSION'"),
    "truncated file": (lambda files: files.update({"base/5/1259": b""}), "changed 'base/5/1259'"),
    "replaced file": (lambda files: files.update({"PG_VERSION": b"16\n"}), "changed 'PG_VERSION'"),
    "system files gone": (lambda files: files.pop("global/pg_control"), "lacks 'global/pg_control'"),
    "file outside": (lambda files: files.update({"../evil": b"x"}), "outside"),
}


@pytest.mark.parametrize("name", _MUTILATIONS)
def test_a_mutilated_one_is_refused_and_the_file_named(name: str) -> None:
    mutilate, said = _MUTILATIONS[name]
    files = dict(_FILES)
    mutilate(files)
    with pytest.raises(BackupBad, match=said):
        _checked(_whole(files))


def test_one_without_a_manifest_is_refused() -> None:
    with pytest.raises(BackupBad, match="no backup_manifest"):
        _checked(_tar(_FILES))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b'"Size": 3', b'"Size": 4'),
        lambda text: text.replace(b"0/2000120", b"0/2000121"),
        lambda text: text[: len(text) // 2],
        lambda text: text.replace(b"SHA256", b"CRC32C"),
        lambda text: b"",
        lambda text: b"[]",
        lambda text: b"[" * 100_000,
        lambda text: text.replace(b'"Files"', b'"Filez"'),
    ],
)
def test_a_bad_manifest_is_refused(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(BackupBad, match="backup_manifest"):
        _checked(_tar({**_FILES, "backup_manifest": change(_manifest(_FILES))}))


def test_every_flipped_byte_of_content_is_seen() -> None:
    archive = _whole()
    for at in range(512, len(archive) - 2 * 512, 997):
        broken = bytearray(archive)
        broken[at] ^= 4
        if bytes(broken) == archive:
            continue
        try:
            found = _checked(bytes(broken), 1 << 20)
        except BackupBad:
            continue
        # Only what tar keeps beside the content: padding, owner, times.
        assert {path: entry.digest for path, entry in found.files.items()} == {
            path: hashlib.sha256(data).hexdigest() for path, data in _FILES.items()
        }


def test_every_truncation_is_seen() -> None:
    archive = _whole()
    end = len(archive.rstrip(b"\0"))
    for length in range(0, end, 509):
        with pytest.raises(BackupBad):
            _checked(archive[:length], 1 << 20)


def test_nothing_may_follow() -> None:
    with pytest.raises(BackupBad, match="follows the end"):
        _checked(_whole() + b"more")


def test_a_tablespace_has_an_archive_of_its_own() -> None:
    listed = {**_FILES, "pg_tblspc/16400/PG_15_202209061/5/16401": b"far away"}
    contents = Contents()
    contents.add("base", [_whole(_FILES, listed)])
    with pytest.raises(BackupBad, match="lacks 'pg_tblspc/16400"):
        contents.compare()
    contents.add("16400", [_tar({"PG_15_202209061/5/16401": b"far away"})])
    assert contents.compare().timeline == 1


def test_where_pg_verifybackup_reads_the_content_names_sizes_and_what_it_passes_over_are_compared() -> None:
    files = {**_FILES, "postgresql.auto.conf": b"# none\n"}

    def compared(found: Mapping[str, bytes]) -> None:
        contents = Contents(measures=False)
        contents.add("base", [_whole(found, files)])
        contents.compare()

    compared(files)
    compared({**files, "PG_VERSION": b"16\n"})
    for changed in ({"PG_VERSION": b"15"}, {"postgresql.auto.conf": b"# some\n"}, {"extra": b""}):
        with pytest.raises(BackupBad):
            compared({**files, **changed})
