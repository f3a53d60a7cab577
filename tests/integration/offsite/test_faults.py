"""What may happen to copies on their way: no object twice, none half, and the next run goes on."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import copies, elsewhere, killing, troubled
from tests.support.copies import Copier
from tests.support.effort import wide
from tests.support.elsewhere import own_rclone
from tests.support.s3_server import BUCKET, S3Server
from tests.support.troubled import Trouble, Way

PARTS = "upload_cutoff = 5M\nchunk_size = 5M\n"  # of an upload: the smallest that S3 takes
BODY = "CREATE TABLE public.t (v text);\n\nCOPY public.t (v) FROM stdin;\n{}\\.\n\n"


@pytest.fixture
def way(s3: S3Server) -> Iterator[Way]:
    with troubled.way(s3.endpoint) as made:
        yield made


@pytest.fixture
def host(s3: S3Server, way: Way, tmp_path: Path) -> Copier:
    """A host whose copies go that way."""
    below = secrets.token_hex(8)
    text = s3.section("s3", s3.host, way.endpoint) + PARTS + s3.section("owner", s3.admin)
    made = elsewhere.Elsewhere("s3", f"s3:{BUCKET}/{below}", elsewhere.configured(tmp_path, text))
    return copies.copier(tmp_path, made)


def large(megabytes: int = 12) -> str:
    """The body of a dump that does not compress, and so goes in several parts."""
    return BODY.format("".join(f"{os.urandom(500).hex()}\n" for _ in range(megabytes * 2000)))


def versions(host: Copier) -> list[str]:
    """All copies of backups that were ever put there, also what has been replaced or deleted since."""
    remote = host.elsewhere.remote.replace("s3:", "owner:")
    words = ["lsjson", "-R", "--files-only", "--s3-versions", "--config", str(host.elsewhere.config), remote]
    said = subprocess.run([str(own_rclone()), *words], capture_output=True, check=True, timeout=60)
    return [one["Path"] for one in json.loads(said.stdout) if "/dumps/" in one["Path"]]


def whole_or_absent(host: Copier, backups: list[Path]) -> list[str]:
    """What is wrong now: an object that is not the whole of its backup."""
    there = set(host.there())
    return [path.name for path in backups if host.name_of(path) in there and host.decrypted(path) != path.read_bytes()]


ANSWERS = [("GET HEAD", 403), ("GET HEAD", 500), ("PUT POST", 403), ("PUT POST", 412), ("PUT POST", 500)]
ANSWERS += [("PUT POST", 503), ("PUT POST", 507), ("POST", 500), ("POST", 412)]


@pytest.mark.fault(181, "a place that answers 403, 412, 500, 503 or 507")
@wide("of,status", [ANSWERS[2], ANSWERS[3], ANSWERS[5]], ANSWERS)
def test_what_a_place_refuses_is_no_copy_and_goes_when_it_can(host: Copier, way: Way, of: str, status: int) -> None:
    backups = host.plant(0, body=large())
    way.trouble = Trouble(of, status)
    ended = host.run("--json")
    assert ended.status in (69, 74, 77), ended.stderr
    assert ended.document["places"][0]["copied"] == []
    way.trouble = None
    assert host.there() == []
    again = host.run("--now")
    assert again.status == 0, again.stderr
    assert not host.problems(backups)
    assert len(versions(host)) == 1


@pytest.mark.fault(181, "an upload that is cut off, or whose answer is lost, in one part and in many")
@wide("megabytes", [12], [1, 12])
@wide("how", ["early", "late", "lost"], ["early", "late", "lost", "second", "lost second", "lost last"])
def test_an_upload_that_is_cut_leaves_no_half_object(host: Copier, way: Way, megabytes: int, how: str) -> None:
    backups = host.plant(0, body=large(megabytes))
    way.trouble = Trouble(
        "POST" if how == "lost last" else "PUT POST",
        after=1 if "second" in how or how == "lost last" else 0,
        cut_after={"early": 1000, "late": 700_000, "second": 700_000}.get(how, -1),
        lost="lost" in how,
    )
    host.run()
    assert not whole_or_absent(host, backups)
    way.trouble = None
    ended = host.run("--now")
    assert ended.status == 0, ended.stderr
    assert not host.problems(backups)
    assert len(versions(host)) == 1


@pytest.mark.fault(181, "a place that is away, and a slow one")
def test_a_place_that_is_away_or_slow(host: Copier, way: Way) -> None:
    backups = host.plant(1, 0, body=large(1))
    host.elsewhere.break_off()
    assert host.run().status == 69
    host.elsewhere.mend()
    way.trouble = Trouble("PUT", bytes_a_second=500_000)
    ended = host.run("--now")
    assert ended.status == 0, ended.stderr
    assert not host.problems(backups)


@pytest.mark.fault(181, "a disk that is full, here or there")
def test_a_disk_that_is_full_is_told_and_nothing_is_half(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    host = copies.copier(tmp_path, elsewhere.on_disk(tmp_path))
    backups = host.plant(0, body=large(12))
    for path, size in ((host.elsewhere.directory, "3m"), (host.path / "offsite", "30m")):
        path.mkdir(mode=0o700, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(path)], check=True)
        try:
            ended = host.run("--now")
            assert ended.status == 74, ended.stderr
            assert [one for one in host.there() if "/dumps/" in one] == []
        finally:
            subprocess.run(["umount", str(path)], check=True)
    assert host.run("--now").status == 0
    assert not host.problems(backups)


@pytest.mark.fault(183, "credentials that are wrong, expired, or not allowed to write")
@pytest.mark.parametrize("how", ["wrong", "unknown", "no longer allowed"])
def test_credentials_that_are_refused(host: Copier, s3: S3Server, how: str) -> None:
    backups, right = host.plant(0), host.elsewhere.config.read_text()
    wrong = {
        "wrong": right.replace(s3.host.secret, "guessed-it"),
        "unknown": right.replace(s3.host.key, "NOBODY"),
        "no longer allowed": right,
    }[how]
    host.elsewhere.config.write_text(wrong)
    remote = {} if how != "no longer allowed" else {"S3_REMOTE": "s3:another-bucket/x"}
    ended = host.run(**remote)
    assert ended.status in (77, 78), ended.stderr
    assert s3.host.secret not in ended.stderr + host.log() and "guessed-it" not in ended.stderr + host.log()
    host.elsewhere.config.write_text(right)
    assert host.run("--now").status == 0
    assert not host.problems(backups)


@pytest.mark.wide
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("what", "where"), [("everything", "host"), ("the run alone", "host"), ("everything", "disk_host")]
)
def test_a_run_that_is_killed_at_any_moment(
    request: pytest.FixtureRequest,
    what: str,
    where: str,
    tries: Callable[[int, int], int],
    expected: Callable[[int, str, int], None],
    survived: Callable[..., None],
) -> None:
    host: Copier = request.getfixturevalue(where)
    fault, count = "kill -9 of a copy at a random moment", tries(2, 100)
    expected(182, fault, count)
    chance = random.Random(4711)
    backups = host.plant(0)
    assert host.run().status == 0
    begun = time.monotonic()
    backups += host.plant(0.001)
    assert host.run().status == 0
    lasts = time.monotonic() - begun
    for number in range(count):
        backups += host.plant(1 + number / 100, body=large(8 if number % 2 else 1))
        process = host.start("copy-backups.sh", "--now")
        time.sleep(chance.uniform(0.1, 1.3 * lasts))
        if what == "everything":
            killing.kill_everything(process.pid)
        else:
            with suppress(ProcessLookupError):
                killing.kill_process(process.pid)
        process.communicate()
        assert not whole_or_absent(host, backups[-1:])
        survived(182, fault)
    ended = host.run("--now")
    assert ended.status == 0, ended.stderr
    assert not host.problems(backups)
    if where == "host":
        assert len(versions(host)) == len(backups), "no object twice"
    names = [json.loads(line)["name"] for line in (host.own / "index-dumps.jsonl").read_text().splitlines()]
    assert sorted(names) == sorted(map(host.name_of, backups)), "each once in the index"


@pytest.mark.fault(186, "secrets looked for in /proc, logs, manifests, objects")
def test_no_secret_is_to_be_seen(host: Copier, s3: S3Server) -> None:
    host.plant(0, body=large(8))
    secrets_of = [s3.host.secret.encode(), host.identity.encode(), s3.host.key.encode()]
    seen: set[bytes] = set()
    looking = threading.Event()

    def look() -> None:
        while not looking.is_set():
            for entry in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with suppress(OSError):
                        seen.update(one for one in secrets_of if one in (entry / name).read_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        ended = host.run("--json")
    finally:
        looking.set()
        watcher.join()
    assert ended.status == 0 and not seen
    written = [path for path in host.path.rglob("*") if path.is_file()]
    assert len(written) > 4
    texts = [*(path.read_bytes() for path in written), ended.stdout.encode(), ended.stderr.encode()]
    texts += [b"".join(host.place.get(name)) for name in host.there()]
    assert not [one for one in secrets_of for text in texts if one in text]
    assert {oct(path.stat().st_mode & 0o077) for path in written if path.name != "backup.log"} == {"0o0"}
