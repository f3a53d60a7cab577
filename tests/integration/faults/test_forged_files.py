"""Files that pretend: an end that is none, manifests exchanged or malformed, gzip bombs. Rows 23 and 24."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pgbackup.errors import BackupBad
from pgbackup.formats import dumpfile, manifest
from pgbackup.store import catalog, folder

from tests.integration.faults.conftest import Dumps
from tests.support import backup_files
from tests.support.backup_files import MARKER, rejected
from tests.support.malformed import malformed
from tests.support.mutants import mutant
from tests.support.runs import GUARD_SECONDS, soon

Tries = Callable[[int, int], int]
Note = Callable[..., None]
READERS = ["isal", "standard library"]
NOW = datetime(2024, 3, 1, 2, tzinfo=timezone.utc)
MEMORY_BYTES = 100 << 20


def cuts_behind_the_marker(text: bytes) -> list[bytes]:
    """The text cut behind each end marker that is not the end, as the data holds it and as COPY escapes it."""
    found = []
    for marker in (MARKER.encode(), MARKER.replace("\n", "\\n").encode()):
        at = text.find(marker)
        while at >= 0:
            found.append(text[: at + len(marker)])
            at = text.find(marker, at + 1)
    return [piece for piece in found if len(piece) < text.rfind(MARKER.encode())]


def test_an_end_marker_in_the_data_is_not_the_end(dumps: Dumps, expected: Note, survived: Note) -> None:
    fault = "end marker in rows, function, comment; cut behind it"
    for text in (dumps.marked, dumps.inserts):
        assert rejected(backup_files.by_hand(text)) == "", "the marker in the data does no harm to a whole dump"
        pieces = cuts_behind_the_marker(text)
        assert len(pieces) >= 5
        for data in [*map(backup_files.by_hand, pieces), *map(backup_files.contents, pieces)]:
            expected(23, fault, 1)
            assert "is incomplete" in rejected(data)
            survived(23, fault)


def test_a_manifest_of_another_file_is_rejected(dumps: Dumps, expected: Note, survived: Note) -> None:
    fault = "manifest of another file"
    one, _ = backup_files.first_member(dumps.small)
    changed = dumps.small.replace(b"user 5", b"user 6")
    for other, started in ((dumps.marked, NOW), (changed, backup_files.EARLY), (dumps.large, NOW)):
        member, written = backup_files.first_member(other)
        foreign = manifest.encoded(backup_files.facts(written, started))
        for data in (one + foreign, backup_files.by_hand(dumps.small) + foreign, one + member + foreign, foreign):
            expected(23, fault, 1)
            assert rejected(data)
            survived(23, fault)


def test_malformed_manifests_are_rejected(dumps: Dumps, tmp_path: Path, expected: Note, survived: Note) -> None:
    member, written = backup_files.first_member(dumps.small)
    facts = backup_files.facts(written)
    assert rejected(member + manifest.encoded(facts)) == "", "the manifest that the wrong ones are made of is right"
    kinds = malformed(facts)
    assert len(kinds) >= 30
    tmp_path.chmod(0o700)
    expected(23, "malformed manifests, each of another kind", len(kinds))
    good = [kind for kind, second in kinds.items() if not rejected(member + second)]
    survived(23, "malformed manifests, each of another kind", len(kinds) - len(good))
    assert not good
    for number, second in enumerate(kinds.values()):
        started = backup_files.EARLY + timedelta(hours=number)
        backup_files.place(tmp_path, started, data=member + second)
    with folder.opened(tmp_path, create=False) as place:  # a listing copes with all of them
        known = catalog.listing(place, backup_files.DATABASE, strangers=True)
    assert len(known) == len(kinds)


_BOMB_CHECK = """
import json, re, sys, time
sys.path.insert(0, sys.argv[1])
if sys.argv[3] != "isal": sys.modules["isal"] = None
from pgbackup.formats import dumpfile
from pgbackup.errors import BackupBad
begun, said = time.process_time(), ""
with open(sys.argv[2], "rb") as file:
    try:
        dumpfile.check(file.fileno())
    except BackupBad as bad:
        said = bad.message
with open("/proc/self/status") as status:  # ru_maxrss of a child begins with its parent's
    peak = int(re.search(r"VmHWM:\\s*(\\d+)", status.read())[1]) * 1024
print(json.dumps([said, peak, time.process_time() - begun]))
"""


def bomb(head: bytes, filling: bytes, inflated_bytes: int) -> bytes:
    """A gzip member of `inflated_bytes`, a thousandth as long: `head`, then one piece of `filling` over and over."""
    piece = filling * (2 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    beginning = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    middle = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    times = inflated_bytes // len(piece)
    checksum = zlib.crc32(head)
    for _ in range(times):
        checksum = zlib.crc32(piece, checksum)
    size = (len(head) + times * len(piece)) & 0xFFFFFFFF
    gzip_head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    trailer = checksum.to_bytes(4, "little") + size.to_bytes(4, "little")
    return gzip_head + beginning + middle * times + end + trailer


BOMBS = {
    "zeros": (b"", b"\0"),
    "one string literal": (b"SELECT '", b"x"),
    "one line of COPY": (b"CREATE TABLE t (x text);\nCOPY public.t (x) FROM stdin;\n", b"x"),
    "empty rows of COPY": (b"CREATE TABLE t (x text);\nCOPY public.t (x) FROM stdin;\n", b"\n"),
    "one name": (b"SELECT ", b"x"),
    "open parentheses": (b"SELECT ", b"("),
    "empty statements": (b"", b";"),
}
# The scanner looks at each of these: a second for some MB. Time is bounded by the size all the same.
COSTLY = ("open parentheses", "empty statements")


@pytest.mark.parametrize(
    ("filling", "reader"), [(filling, reader) for filling in BOMBS for reader in READERS[: 2 - (filling in COSTLY)]]
)
def test_a_gzip_bomb_is_rejected_in_flat_memory(
    filling: str, reader: str, tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    head, piece = BOMBS[filling]
    inflated_bytes = tries(2 << 20, 40 << 20) if filling in COSTLY else tries(50 << 20, 10 << 30)
    fault = f"gzip bomb, 1000:1, of {filling}"
    expected(24, fault, 1)
    path = tmp_path / "bomb"
    path.write_bytes(bomb(head, piece, inflated_bytes))
    assert path.stat().st_size < inflated_bytes / 900
    said, peak, seconds = _child_check(path, reader)
    assert "is incomplete" in said
    assert peak < MEMORY_BYTES
    assert seconds < 10 + 3 * inflated_bytes / (1 << 20)  # bounded by what comes out of it
    survived(24, fault)


def test_a_bomb_of_members_is_rejected_in_flat_memory_and_time(
    tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    expected(24, "gzip bomb of half a million empty members", 1)
    path = tmp_path / "bomb"
    path.write_bytes(backup_files.by_hand(b"") * tries(20_000, 500_000))
    said, peak, seconds = _child_check(path, "isal")
    assert "is incomplete" in said
    assert peak < MEMORY_BYTES
    assert seconds < 300
    survived(24, "gzip bomb of half a million empty members")


def test_a_bomb_that_claims_to_be_small_is_rejected_before_it_has_inflated(
    dumps: Dumps, tmp_path: Path, expected: Note, survived: Note
) -> None:
    expected(24, "gzip bomb with the manifest of a small dump", 1)
    first = bomb(b"SELECT '", b"x", 1 << 30)
    _, written = backup_files.first_member(dumps.small)
    path = tmp_path / "bomb"
    path.write_bytes(first + manifest.encoded(backup_files.facts(written, gzip_bytes=len(first))))
    said, peak, seconds = _child_check(path, "isal")
    assert "it unpacks to more than" in said
    assert peak < MEMORY_BYTES
    path.write_bytes(first)
    told, _, whole_seconds = _child_check(path, "isal")
    assert "is incomplete" in told
    assert seconds < whole_seconds / 5, "it has inflated"
    survived(24, "gzip bomb with the manifest of a small dump")


def _child_check(path: Path, reader: str) -> tuple[str, int, float]:
    library = str(Path(dumpfile.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", _BOMB_CHECK, library, str(path), reader], capture_output=True, text=True, check=True
    )
    said, peak, seconds = json.loads(done.stdout)
    return said, peak, seconds


def is_open(path: Path) -> bool:
    """Whether any process has a file open. Descriptors come and go while one looks."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink() == path:
                return True
    return False


def test_interrupting_a_check_of_a_bomb_takes_seconds(tmp_path: Path) -> None:
    path = tmp_path / "postgres-a" / "auth_db_20240115_020000.sql.gz"
    path.parent.mkdir(0o700)
    tmp_path.chmod(0o700)
    path.write_bytes(bomb(b"SELECT 1;", b";", 2 << 30))
    script = Path(__file__).resolve().parents[3] / "scripts/verify-backups.sh"
    process = subprocess.Popen([script], env={"BACKUP_DIR": str(tmp_path), "PATH": os.environ["PATH"]})
    assert soon(lambda: is_open(path))
    begun = time.monotonic()
    process.terminate()
    assert process.wait(300) == 128 + signal.SIGTERM
    assert time.monotonic() - begun < GUARD_SECONDS


def test_a_reader_that_looks_for_the_end_marker_anywhere_is_seen_by_these_tests(dumps: Dumps) -> None:
    scanner = mutant("pgbackup.sql.scanner", ("between_statements and commands_match and _END", "_END"))
    pieces = cuts_behind_the_marker(dumps.inserts)
    fooled = 0
    for piece in pieces:
        scan = scanner.DumpScanner()
        scan.feed(piece)
        scan.finish()
        fooled += scan.complete
    assert fooled, "no error found: the test is broken"


def test_a_manifest_reader_without_its_own_checks_is_seen_by_these_tests(dumps: Dumps) -> None:
    broken = mutant("pgbackup.formats.manifest", ("if key not in raw or not fits(raw[key]):", "if False:"))
    _, written = backup_files.first_member(dumps.small)
    escaped = 0
    for second in malformed(backup_files.facts(written)).values():
        with backup_files.memory_file(second) as descriptor, suppress(BackupBad, KeyError, TypeError, AttributeError):
            escaped += broken.read(descriptor, len(second)) is not None
    assert escaped > 10, "no error found: the test is broken"
