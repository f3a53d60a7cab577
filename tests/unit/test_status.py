"""backup-status.sh over a directory of backups as the commands leave it, and as trouble leaves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pgbackup.commands import noting
from pgbackup.commands.loading.record import Record
from pgbackup.commands.status import show
from pgbackup.errors import PermissionDenied
from pgbackup.store import folder
from pgbackup.store.state import verified

from tests.support import noted
from tests.support.noted import ROOT, ago, look, note, of, put, state

HOSTILE = 'a"; rm -rf /\n\x1b[31m<script>'


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return noted.directory(tmp_path)


def test_a_backup_that_was_noted_is_kept_and_one_that_is_removed_by_hand_is_not(top: Path) -> None:
    path = put(top, ago(hours=2))
    note(top, path)
    before = look(top)
    assert of(before, "backup").state == "kept"
    (made,) = before.facts.databases[0].backups
    assert (made.file, made.rows, made.sql_bytes) == (path.name, 3, 700)
    path.unlink()
    assert of(look(top), "backup").state == "broken"


def test_backups_of_a_time_before_the_ledger_are_seen_and_taken_into_it_by_the_next_run(top: Path) -> None:
    old = [put(top, ago(days=days)) for days in (3, 2, 1)]
    assert [each.file for each in look(top).facts.databases[0].backups] == [path.name for path in reversed(old)]
    new = put(top, ago(minutes=1))
    note(top, new)
    held = json.loads(state(top, "ledger").read_text())
    assert [each["file"] for each in held["backups"]] == [path.name for path in [new, *reversed(old)]]
    assert held["begun"].startswith(f"{ago(days=3):%Y-%m-%d}")


def test_a_run_that_failed_breaks_the_promise_since_the_first_failure_until_one_succeeds(top: Path) -> None:
    note(top, put(top, ago(hours=3)))
    note(top, None, 69, f"container is {HOSTILE}")
    first = of(look(top), "backup")
    assert first.state == "broken" and "69" in first.reason
    note(top, None, 74, "disk full")
    second = of(look(top), "backup")
    assert second.since == first.since and "74" in second.reason
    note(top, None, 143, "stopped")
    assert of(look(top), "backup").state == "broken", "being stopped mends nothing"
    note(top, put(top, ago(minutes=1)))
    assert of(look(top), "backup").state == "kept"


def test_a_run_that_was_stopped_by_a_signal_or_met_another_one_breaks_nothing(top: Path) -> None:
    note(top, put(top, ago(hours=3)))
    for status in (75, 130, 143):
        note(top, None, status, "stopped")
    assert of(look(top), "backup").state == "kept"


def test_no_row_that_a_server_has_quoted_gets_into_what_is_noted(top: Path) -> None:
    note(top, put(top, ago(hours=3)))
    said = 'psql: ERROR:  duplicate key value violates unique constraint "k" DETAIL:  Key (mail)=(sEcReT) exists.'
    note(top, None, 65, said)
    with folder.opened(top / "postgres-a", create=False) as place:
        noting.exercise(place, Record("auth", "auth_db", "drill", outcome=said), 1.0)
    state(top, "drills").write_text(json.dumps({"failed": {"f" * 64: f"{ago(hours=1).isoformat()} {said}"}}))
    status = look(top)
    assert "sEcReT" not in state(top, "ledger").read_text() and "sEcReT" not in repr(status)
    assert "unique constraint" in of(status, "backup").reason


def test_what_a_verification_finds_bad_stays_so_until_the_file_is_gone(top: Path) -> None:
    good, bad = put(top, ago(hours=2)), put(top, ago(hours=5))
    note(top, bad)
    note(top, good)
    with folder.opened(top / "postgres-a", create=False) as place:
        known = verified.after(None, ago(hours=1), 1, {bad.name: "its SHA-256 differs"}, {})
        verified.write(place, "auth_db", known)
        again = verified.after(known, ago(minutes=1), 1, {bad.name: "its SHA-256 differs"}, {})
        verified.write(place, "auth_db", again)
    broken = of(look(top), "verify")
    assert broken.state == "broken" and bad.name in broken.reason
    assert broken.since == ago(hours=1) or abs((broken.since or ago()) - ago(hours=1)) < timedelta(seconds=5)
    bad.unlink()
    assert of(look(top), "verify").state == "kept"


# --- what cannot be read


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else under the file's name."""

    def done(path: Path) -> None:
        path.unlink()
        make(path)

    return done


def newer(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 9}))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "no JSON": lambda path: path.write_bytes(b"\x00\xff" * 99),
    "a list": lambda path: path.write_text("[]"),
    "a deep list": lambda path: path.write_text("[" * 100_000),
    "wrong types": lambda path: path.write_text('{"version": 1, "backups": [3], "passed": 1, "at": 5, "good": "x"}'),
    "no instants": lambda path: path.write_text('{"begun": "yesterday", "schema": "", "at": "now", "good": 1}'),
    "newer": newer,
    "a directory": instead(Path.mkdir),
    "a link": instead(lambda path: path.symlink_to("/etc/hostname")),
    "a FIFO": instead(os.mkfifo),
}


@pytest.mark.fault(210, "what a command has noted is cut, damaged, of a newer version, or not to be read")
@pytest.mark.parametrize("what", ["ledger", "drills", "verified"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_state_that_cannot_be_read_is_a_broken_promise_and_the_backups_still_count(
    top: Path, what: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    note(top, put(top, ago(hours=2)))
    with folder.opened(top / "postgres-a", create=False) as place:
        verified.write(place, "auth_db", verified.after(None, ago(hours=1), 1, {}, {}))
    state(top, "drills").write_text(json.dumps({"version": 1, "passed": {"a" * 64: ago(hours=1).isoformat()}}))
    assert of(look(top), "state").state == "kept"
    DAMAGES[damage](state(top, what))
    if (what, damage) == ("drills", "no instants"):
        state(top, what).write_text('{"moment": "yesterday"}')
    status = look(top)
    assert of(status, "state").state == "broken"
    assert str(state(top, what)) in of(status, "state").reason
    assert of(status, "state").remedy
    assert of(status, "backup").state == "kept"
    if what == "verified":
        assert status.facts.databases[0].verified is None
    assert show.told(status).status == 66


@pytest.mark.fault(210, "what a command has noted is cut, damaged, of a newer version, or not to be read")
@pytest.mark.parametrize("damage", ["cut", "newer"])
def test_a_ledger_that_is_damaged_is_begun_anew_and_one_of_a_newer_version_is_left(top: Path, damage: str) -> None:
    first = put(top, ago(hours=3))
    note(top, first)
    DAMAGES[damage](state(top, "ledger"))
    before = state(top, "ledger").read_bytes()
    second = put(top, ago(minutes=1))
    if damage == "newer":
        with pytest.raises(Exception, match="newer version"):
            note(top, second)
        assert state(top, "ledger").read_bytes() == before
    else:
        assert "begun anew" in note(top, second)
        held = json.loads(state(top, "ledger").read_text())
        assert [each["file"] for each in held["backups"]] == [second.name, first.name]
        assert of(look(top), "state").state == "kept"


@pytest.mark.fault(210, "a file that a ledger tells of is gone, cut, or new to it")
def test_what_lies_there_counts_and_not_what_the_ledger_says(top: Path) -> None:
    old, cut, gone = put(top, ago(hours=9)), put(top, ago(hours=5)), put(top, ago(hours=4))
    for path in (old, cut, gone):
        note(top, path)
    unknown = put(top, ago(hours=3))
    (top / "postgres-a" / "auth_db_20260101_000000.sql.gz").write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:-5])
    gone.unlink()
    found = {each.file: each.problem for each in look(top).facts.databases[0].backups}
    assert found[old.name] == found[unknown.name] == ""
    assert "not as long" in found[cut.name]
    assert gone.name not in found


def test_a_mount_that_is_missing_and_a_directory_that_is_not_there_are_broken_promises(top: Path) -> None:
    assert of(look(top, BACKUP_MOUNT=str(top)), "state").state == "broken"
    status = look(top / "absent")
    assert of(status, "state").state == "broken"
    assert of(status, "backup").state == "broken"


# --- who asks


def as_stranger(top: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The script as an account that owns nothing here, with the library loaded before it gives up its rights."""
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pgbackup.cli import main, pinged, status\n"
        "from pgbackup.commands import lost_settings\n"
        "from pgbackup.commands.status import past, probing, show\n"
        "from pgbackup.settings import config\n"
        "import fnmatch, getpass, gettext, locale, sh, shutil\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(main.main(['status', *sys.argv[2:]]))"
    )
    environment = {"PATH": os.environ["PATH"], "BACKUP_DIR": str(top), "DATABASES": "auth", "DOCKER": "false"}
    words = (sys.executable, "-c", program, str(ROOT / "lib"), *words)
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.fault(213, "the status is asked by an account that may read nothing")
@pytest.mark.parametrize("words", [(), ("--json",), ("--history",), ("--probe",), ("--scheduled",)], ids=" ".join)
@pytest.mark.parametrize("closed", ["all", "the database's"])
def test_an_account_that_may_not_look_is_told_so_and_changes_nothing(
    top: Path, words: tuple[str, ...], closed: str
) -> None:
    note(top, put(top, ago(hours=2)))
    (top / "restore-history.jsonl").touch(0o600)
    for path in (top, *top.parents):
        if path.stat().st_uid == 0 and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    top.chmod(0o700 if closed == "all" else 0o755)
    before = sorted(str(path) for path in top.rglob("*"))
    done = as_stranger(top, *words)
    assert done.returncode == 77, done
    assert "Hint:" in done.stderr and "sudo" in done.stderr and "Traceback" not in done.stderr
    assert before == sorted(str(path) for path in top.rglob("*"))


def test_permission_is_the_one_thing_that_gathering_raises(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_words: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pgbackup.commands.status.databases.facts", denied)
    with pytest.raises(PermissionDenied):
        look(top)
